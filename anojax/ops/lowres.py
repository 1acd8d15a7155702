"""Coarse random fields blown up to a box, and the resampling they need.

Heights and widths are traced; only the canvas they live on is static. The resampling is
a pair of matrix products, so that any ratio, up or down, costs the same.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt16

from anojax.ops.branch import grouped_switch

Count = Int[Array, ""] | int


def bicubic_weights(
    size_in: Count, size_out: Count, *, capacity_in: int, capacity_out: int
) -> Float[Array, "capacity_out capacity_in"]:
    """The matrix that resizes `size_in` samples to `size_out`, as Pillow's bicubic.

    Half-pixel centers, kernel parameter -0.5, widened when shrinking (antialiasing),
    renormalized at the ends. Rows from `size_out` on and columns from `size_in` on are
    zero.

    Args:
      size_in, size_out: 1..capacity_in and 1..capacity_out.
      capacity_in, capacity_out: static sizes of the matrix.
    """
    size_in, size_out = (jnp.asarray(s, jnp.float32) for s in (size_in, size_out))
    scale = size_in / size_out
    row = np.arange(capacity_out, dtype=np.float32)[:, None]
    column = np.arange(capacity_in, dtype=np.float32)[None]
    center = (row + 0.5) * scale - 0.5
    t = jnp.abs(column - center) / jnp.maximum(scale, 1.0)
    near = (1.5 * t - 2.5) * t * t + 1.0
    far = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    weights = jnp.where(t < 1.0, near, jnp.where(t < 2.0, far, 0.0))
    weights = jnp.where((column < size_in) & (row < size_out), weights, 0.0)
    total = weights.sum(axis=1, keepdims=True)
    return weights / jnp.where(total == 0.0, 1.0, total)


def resize_bicubic(
    cells: Float[Array, "c rows columns"],
    size_in: tuple[Count, Count],
    size_out: tuple[Count, Count],
    *,
    canvas: tuple[int, int],
) -> Float[Array, "c height width"]:
    """Resize the first `size_in` = (rows, columns) of each plane to `size_out`.

    The result lies in the top-left corner of `canvas` = (height, width); the rest is
    zero. Values may overshoot the range of the cells.

    Args:
      cells: planes with room for the largest size.
      size_in: rows and columns that count, possibly traced.
      size_out: rows and columns of the result, possibly traced.
      canvas: static height and width that hold it.
    """
    _, rows, columns = cells.shape
    down = bicubic_weights(
        size_in[0], size_out[0], capacity_in=rows, capacity_out=canvas[0]
    )
    across = bicubic_weights(
        size_in[1], size_out[1], capacity_in=columns, capacity_out=canvas[1]
    )
    highest = lax.Precision.HIGHEST
    # The longer side first: it leaves the smaller product for the second step.
    if rows >= columns:
        half = jnp.einsum("yr,crk->cyk", down, cells, precision=highest)
        return jnp.einsum("cyk,xk->cyx", half, across, precision=highest)
    half = jnp.einsum("crk,xk->crx", cells, across, precision=highest)
    return jnp.einsum("yr,crx->cyx", down, half, precision=highest)


def coarse_noise(
    bits: UInt16[Array, "c rows columns"],
    low: Count,
    levels: Count,
    cells: tuple[Count, Count],
    size: tuple[Count, Count],
    *,
    canvas: tuple[int, int],
) -> Float[Array, "c height width"]:
    """Independent cells of whole levels, resized to a box in the corner of a canvas.

    Args:
      bits: random, sixteen per cell, for as many cells as there can be.
      low, levels: a cell is one of `levels` (at most 2**15) values from `low` on,
        equally likely; with `low` they stay within 0..255.
      cells: rows and columns of cells in use, at least 1.
      size: height and width of the box in pixels.
      canvas: static (height, width).

    Returns:
      Whole levels 0..255, 0 outside the box.
    """
    steps = (bits.astype(jnp.int32) * jnp.asarray(levels, jnp.int32)) >> 16
    drawn = (jnp.asarray(low, jnp.int32) + steps).astype(jnp.float32)
    grain = resize_bicubic(drawn, cells, size, canvas=canvas)
    return jnp.clip(jnp.floor(grain + 0.5), 0.0, 255.0)


def noise_of_random_shape(
    key: Key[Array, ""],
    low: Count,
    levels: Count,
    across: Float[Array, ""],
    which: Count,
    size: tuple[Count, Count],
    *,
    aspects: Sequence[float],
    most_across: float,
    channels: int,
    canvas: tuple[int, int],
) -> Float[Array, "channels height width"]:
    """Coarse noise whose cells are square, or stretched into stripes.

    Args:
      key: source of the cells.
      low, levels: as in `coarse_noise`.
      across: number of square cells along the box's width, at most `most_across`.
      which: index into `aspects`; aspect a gives across * a columns and across / a
        rows of cells, at least one of each, whatever the box's height (as in REB).
      size: height and width of the box in pixels.
      aspects, most_across, channels, canvas: static.
    """
    capacities = [
        (channels, math.ceil(most_across / a), math.ceil(most_across * a))
        for a in aspects
    ]
    bits = jax.random.bits(key, (max(map(math.prod, capacities)),), jnp.uint16)

    def shaped(aspect, capacity):
        cells = whole_cells(across / aspect), whole_cells(across * aspect)
        return lambda: coarse_noise(
            bits[: math.prod(capacity)].reshape(capacity),
            low,
            levels,
            cells,
            size,
            canvas=canvas,
        )

    # Both sides of the matrix are static per aspect, hence a branch for each.
    branches = [shaped(*pair) for pair in zip(aspects, capacities, strict=True)]
    return grouped_switch(which, branches)


def whole_cells(number: Float[Array, ""]) -> Int[Array, ""]:
    """A number of cells, rounded down to at least one."""
    return jnp.maximum(jnp.floor(number), 1.0).astype(jnp.int32)
