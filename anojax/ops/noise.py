"""Perlin noise and the masks that thresholding it gives.

The noise of DRAEM (arXiv 2108.07610) and of the methods that followed it: one octave,
an independent power of two of cells per axis, gradients (cos, sin) of uniform angles
with the first component along rows, the quintic fade, scaled by the square root of 2.
Those programs need sides that are multiples of 32; here any size works, because the
lattice is evaluated at coordinates relative to the image.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from anojax.ops import geometry
from anojax.ops.blend import allowed, requested_area_px
from anojax.ops.branch import grouped_update
from anojax.random import stream
from anojax.types import Inputs

Rotation = Literal["resample", "nearest", "direct", "none"]
OnEmpty = Literal["keep", "retry", "rescale"]
ATTEMPTS = 8
"""Draws in all with ``on_empty="retry"``; without a foreground 0.05**8 stay empty."""


def perlin_field(
    angles_rad: Float[Array, "n n"],
    cells: Int[Array, "2"],
    shape: tuple[int, int],
    *,
    extent: tuple[int, int] | None = None,
) -> Float[Array, "h w 1"]:
    """Perlin noise in [-1, 1] on a lattice of `cells` = (rows, columns), traced.

    Only the first ``cells + 1`` nodes of each axis count, so that one static lattice
    serves every number of cells below n. Pixel i lies at ``i * cells / extent``; the
    lattice spans `extent` = (height, width), by default `shape`.

    Args:
      angles_rad: directions of the gradients at the nodes.
      cells: (rows, columns) of the lattice.
      shape: height and width of the result.
      extent: height and width that the lattice covers; ``None``: `shape`.
    """
    sizes = zip(shape, extent or shape, cells, strict=True)
    (row, y), (column, x) = (_axis(*size) for size in sizes)
    # On GPUs the products are a third faster, but tuning them takes longer to compile
    # than all the rest. On a TPU a gather of single numbers is slow.
    return lax.platform_dependent(
        angles_rad,
        row,
        y,
        column,
        x,
        cuda=_by_gathers,
        rocm=_by_gathers,
        default=_by_products,
    )


def _axis(n: int, extent: int, cells: Array) -> tuple[Array, Array]:
    """Cell of every pixel of an axis, and where in it the pixel lies, in [0, 1)."""
    # Integers: a float product can land on the wrong side of a cell border.
    place = jnp.arange(n, dtype=jnp.int32) * cells
    return place // extent, (place % extent).astype(jnp.float32) / extent


def _by_products(
    angles_rad: Array, row: Array, y: Array, column: Array, x: Array
) -> Array:
    """The four corner terms of a pixel, as sums over all nodes of products of an axis
    weight each: dense, but fast where there are matrix units, and on a CPU."""
    nodes = angles_rad.shape[0]
    fade_y, offset_y = _node_weights(row, y, nodes)
    fade_x, offset_x = _node_weights(column, x, nodes)

    # HIGHEST: accelerators would otherwise round to bfloat16 and shift the outlines.
    def dot(a, b):
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    rows = jnp.concatenate(
        [dot(offset_y, jnp.cos(angles_rad)), dot(fade_y, jnp.sin(angles_rad))], axis=1
    )
    columns = jnp.concatenate([fade_x, offset_x], axis=1)
    return (np.float32(np.sqrt(2)) * dot(rows, columns.T))[..., None]


def _by_gathers(
    angles_rad: Array, row: Array, y: Array, column: Array, x: Array
) -> Array:
    """The same within rounding: every pixel fetches the gradients of its corners."""
    return _from_corners(angles_rad, row[:, None], y[:, None], column[None], x[None])


def _node_weights(cell: Array, t: Array, nodes: int) -> tuple[Array, Array]:
    """Weights ``[n, nodes]`` of the nodes of one axis: fade, and fade times offset."""
    node = np.arange(nodes, dtype=np.int32)[None]
    first, second = node == cell[:, None], node == cell[:, None] + 1
    s, t = _fade(t)[:, None], t[:, None]

    def weights(of_first, of_second):
        return jnp.where(first, of_first, jnp.where(second, of_second, 0.0))

    return weights(1 - s, s), weights((1 - s) * t, s * (t - 1))


def _fade(t: Array) -> Array:
    return t * t * t * (t * (t * 6 - 15) + 10)


def perlin_field_at(
    angles_rad: Float[Array, "n n"],
    cells: Int[Array, "2"],
    y: Float[Array, "h w"],
    x: Float[Array, "h w"],
    *,
    extent: tuple[int, int],
) -> Float[Array, "h w 1"]:
    """The noise of `perlin_field` at any continuous pixel coordinates in `extent`.

    Args:
      angles_rad: directions of the gradients at the nodes.
      cells: (rows, columns) of the lattice.
      y, x: pixel coordinates.
      extent: height and width that the lattice covers.
    """

    def split(coordinate, count, length):
        place = coordinate * (count.astype(jnp.float32) / length)
        cell = jnp.clip(jnp.floor(place), 0, (count - 1).astype(jnp.float32))
        return cell.astype(jnp.int32), place - cell

    (cell_y, ty), (cell_x, tx) = (
        split(y, cells[0], extent[0]),
        split(x, cells[1], extent[1]),
    )
    return _from_corners(angles_rad, cell_y, ty, cell_x, tx)


def _from_corners(
    angles_rad: Array, cell_y: Array, ty: Array, cell_x: Array, tx: Array
) -> Array:
    """Noise at the places (ty, tx) of the cells, from the gradients at their corners."""
    nodes = angles_rad.shape[0]
    gradient_y, gradient_x = jnp.cos(angles_rad).ravel(), jnp.sin(angles_rad).ravel()
    corner = cell_y * nodes + cell_x

    def term(p, q):
        index = corner + (p * nodes + q)
        along_y = gradient_y.at[index].get(mode="clip")
        along_x = gradient_x.at[index].get(mode="clip")
        return along_y * (ty - p) + along_x * (tx - q)

    left = term(0, 0) + _fade(ty) * (term(1, 0) - term(0, 0))
    right = term(0, 1) + _fade(ty) * (term(1, 1) - term(0, 1))
    noise = np.float32(np.sqrt(2)) * (left + _fade(tx) * (right - left))
    return noise[..., None]


def perlin(
    key: Key[Array, ""],
    shape: tuple[int, int],
    *,
    exponents: tuple[int, int] = (0, 5),
    rotation: Rotation = "resample",
    corners: Literal["zero", "last"] = "zero",
    power_of_two: bool = False,
    rescale_below: float | None = None,
) -> Float[Array, "h w 1"]:
    """Draw a field of Perlin noise with values in [-1, 1].

    Args:
      key: of the draw.
      shape: (height, width).
      exponents: smallest and largest e; each axis has 2**e cells, e uniform.
      rotation: turn the field by an angle uniform in +-90 degrees, by interpolating it
        (``"resample"``, as DRAEM; ``"nearest"``, as DSR) or by evaluating it at the
        turned coordinates (``"direct"``); ``"none"`` leaves it upright.
      corners: what swings in from outside is 0, so that it is never a defect, or
        (``"last"``) lies below -1, the farther outside the lower.
      power_of_two: span the lattice over the next powers of two and crop, as anomalib.
      rescale_below: stretch the field to [-1, 1] before turning it if none of it
        exceeds this value, as anomalib.

    Example:
      >>> field = perlin(jax.random.key(0), (32, 32))
      >>> field.shape, bool(abs(field).max() <= 1)
      ((32, 32, 1), True)
    """
    low, high = exponents
    drawn = jax.random.randint(stream(key, "cells"), (2,), low, high + 1)
    cells = jnp.left_shift(jnp.int32(1), drawn)
    nodes = 2**high + 1
    angles = jax.random.uniform(
        stream(key, "gradients"), (nodes, nodes), maxval=2 * np.pi
    )
    turn = jax.random.uniform(
        stream(key, "rotation"), minval=-np.pi / 2, maxval=np.pi / 2
    )
    extent = tuple(1 << (n - 1).bit_length() for n in shape) if power_of_two else shape
    if rotation == "none":
        y, x = jnp.meshgrid(*map(jnp.arange, shape), indexing="ij")
        y, x = y.astype(jnp.float32), x.astype(jnp.float32)
    else:
        y, x = geometry.affine_coordinates(geometry.rotation(shape, turn), shape)
    if rotation == "direct":
        field = perlin_field_at(angles, cells, y, x, extent=extent)
    else:
        field = perlin_field(angles, cells, shape, extent=extent)
    if rescale_below is not None:
        stretched = 2 * min_max(field) - 1
        field = jnp.where((field > rescale_below).any(), field, stretched)
    if rotation in ("resample", "nearest"):
        method = "bilinear" if rotation == "resample" else "nearest"
        field = geometry.sample(field, y, x, method=method)
    if rotation == "none" or (rotation != "direct" and corners == "zero"):
        return field
    beyond = _distance_outside(y, x, shape)
    value = 0.0 if corners == "zero" else -1 - beyond / sum(shape)
    return jnp.where(beyond > 0, value, field)


def _distance_outside(y: Array, x: Array, shape: tuple[int, int]) -> Array:
    """How many pixels beyond the outermost pixel centers, ``[h, w, 1]``; 0 inside."""
    beyond = [
        jnp.abs(v - (n - 1) / 2) - (n - 1) / 2
        for v, n in zip((y, x), shape, strict=True)
    ]
    return jnp.maximum(jnp.maximum(*beyond), 0)[..., None]


def min_max(field: Float[Array, "h w 1"]) -> Float[Array, "h w 1"]:
    """Stretch a field to [0, 1]; a constant field becomes 0."""
    low, high = field.min(), field.max()
    return (field - low) / jnp.where(high > low, high - low, 1.0)


def perlin_mask(
    key: Key[Array, ""],
    shape: tuple[int, int],
    *,
    exponents: tuple[int, int] = (0, 5),
    threshold: float | Float[Array, ""] = 0.5,
    rotation: Rotation = "resample",
    on_empty: OnEmpty = "keep",
    normalize: bool = False,
    power_of_two: bool = False,
    area: float | Float[Array, ""] | None = None,
    within: Float[Array, "h w 1"] | None = None,
) -> Float[Array, "h w 1"]:
    """Draw a mask: 1 where Perlin noise exceeds `threshold`, inside `within`.

    Args:
      key: of the draw.
      shape: (height, width).
      exponents: as in `perlin`.
      threshold: level in the field's units.
      rotation: as in `perlin`.
      on_empty: ``"keep"`` empty masks; ``"retry"`` up to `ATTEMPTS` draws in all;
        ``"rescale"`` fields that never exceed the threshold to [-1, 1].
      normalize: stretch the field to [0, 1] before thresholding, as REB.
      power_of_two: as in `perlin`.
      area: fraction of `within` (of the image without it) to cover, in (0, 1]. The
        level that gives that area replaces the threshold; at least one pixel of
        `within` is covered, and pixels of equal noise enter together.
      within: where the mask may be, 0 or 1.

    Example:
      >>> mask = perlin_mask(jax.random.key(0), (32, 32), area=0.25)
      >>> int(mask.sum())
      256
    """
    options = dict(exponents=exponents, rotation=rotation, power_of_two=power_of_two)
    inside = jnp.ones((*shape, 1), bool) if within is None else within > 0.5
    if area is not None:
        field = perlin(key, shape, corners="last", **options)
        return _largest(field, area, inside).astype(jnp.float32)

    def draw(key: Array) -> Array:
        below = threshold if on_empty == "rescale" else None
        field = perlin(key, shape, rescale_below=below, **options)
        return ((min_max(field) if normalize else field) > threshold) & inside

    def attempt(number: Array, mask: Array) -> Array:
        again = jnp.where(number == 0, key, jax.random.fold_in(key, number))
        # Only empty masks are drawn again, also those of a batch.
        empty = jnp.where(mask.any(), -1, 0)
        return grouped_update(empty, [lambda mask, key: draw(key)], mask, again)

    if on_empty == "retry":
        mask = lax.fori_loop(0, ATTEMPTS, attempt, jnp.zeros_like(inside))
    else:
        mask = draw(key)
    return mask.astype(jnp.float32)


def _largest(
    field: Float[Array, "h w 1"], fraction: Array | float, inside: Bool[Array, "h w 1"]
) -> Bool[Array, "h w 1"]:
    """The given fraction of the pixels `inside`: those with the largest values."""
    wanted = jnp.round(fraction * inside.sum().astype(jnp.float32))
    wanted = jnp.maximum(wanted, 1).astype(jnp.int32)
    field = jnp.where(inside, field, -4.0)

    # Bisection instead of a sort: 26 halvings tell levels 1e-7 apart, a pass each.
    # Invariant: at least `wanted` pixels lie above `low`, fewer above `high`.
    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = (field > middle).sum() >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = lax.fori_loop(0, 26, halve, (jnp.float32(-4), jnp.float32(2)))
    return field > low


def perlin_shape(
    key: Key[Array, ""],
    inputs: Inputs,
    *,
    exponents: tuple[int, int] = (0, 5),
    threshold: float = 0.5,
    rotation: Rotation = "resample",
    on_empty: OnEmpty = "keep",
) -> Float[Array, "h w 1"]:
    """The shape of a defect in `inputs`: a `perlin_mask` where a defect may go.

    `Controls.area` is a fraction of the foreground (of the image without one), even
    where the region leaves only part of it.

    Args:
      key: source of the draws.
      inputs: size, foreground, region and control over the area.
      exponents: smallest and largest, as in `perlin`.
      threshold: of the noise.
      rotation: how the field is rotated, as in `perlin`.
      on_empty: what happens to an empty mask, as in `perlin_mask`.
    """
    shape, within, area = inputs.image.shape[:2], allowed(inputs), inputs.controls.area
    if area is not None and inputs.region is not None:
        area = requested_area_px(inputs) / jnp.maximum(within.sum(), 1)
        area = jnp.minimum(area, 1.0)
    return perlin_mask(
        key,
        shape,
        exponents=exponents,
        threshold=threshold,
        rotation=rotation,
        on_empty=on_empty,
        area=area,
        within=within,
    )
