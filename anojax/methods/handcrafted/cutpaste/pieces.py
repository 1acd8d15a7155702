"""Pieces that `cutpaste` cuts out: their place, their turning, their pixels."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from anojax.ops import color, placement


class Piece(NamedTuple):
    """A box to cut out, in whole pixels, how far it is turned, and room enough."""

    height: Int[Array, ""]
    width: Int[Array, ""]
    angle: Float[Array, ""] | None
    windows: tuple[tuple[int, int], ...]
    """Of which at least one holds the upright piece."""


def windows(
    largest_px: float, aspect: tuple[float, float], shape: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
    """Tall, square and wide windows that hold all boxes of up to that area.

    Small ones first: a box fills little of the one window that would hold them all.
    """
    (h, w), (low, high) = shape, aspect
    edges = [low * (high / low) ** (i / 3) for i in range(4)]
    kinds = itertools.product((largest_px / 2, largest_px), itertools.pairwise(edges))
    found = []
    for area, (least, most) in kinds:
        # A side that does not fit is cut, and the other one grows.
        tall = max(math.sqrt(area / least), area / w)
        wide = max(math.sqrt(area * most), area / h)
        found.append((min(h, math.ceil(tall) + 1), min(w, math.ceil(wide) + 1)))
    return tuple(dict.fromkeys(found))


def first_that_holds(piece: Piece) -> Int[Array, ""]:
    """Index of the first window in which the upright piece has room."""
    rooms = np.array(piece.windows, np.int32)
    holds = (piece.height <= rooms[:, 0]) & (piece.width <= rooms[:, 1])
    return jnp.argmax(holds)


def upright_extent(piece: Piece) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Sides of the upright box around the turned piece: it grows by whole pixels."""
    if piece.angle is None:
        return piece.height, piece.width
    cos, sin = jnp.abs(jnp.cos(piece.angle)), jnp.abs(jnp.sin(piece.angle))
    height, width = (side.astype(jnp.float32) for side in (piece.height, piece.width))

    def grow(side: Array, turned: Array) -> Array:
        # The slack keeps an upright piece as it is in spite of rounding.
        return side + 2.0 * jnp.ceil((turned - side) / 2.0 - 1e-3)

    tall = grow(height, height * cos + width * sin)
    wide = grow(width, width * cos + height * sin)
    return tall.astype(jnp.int32), wide.astype(jnp.int32)


def choose_place(
    key: Key[Array, ""],
    where: Float[Array, "h w 1"] | None,
    extent: tuple[Int[Array, ""], Int[Array, ""]],
    shape: tuple[int, int],
) -> list[Int[Array, ""]]:
    """Top-left corner of the piece: anywhere inside, or about an allowed pixel."""
    room = [full - side for full, side in zip(shape, extent, strict=True)]
    if where is None:
        u = jax.random.uniform(key, (2,))
        place = [uniform_index(v, r) for v, r in zip(u, room, strict=True)]
    else:
        pixel = placement.random_pixel(key, where)
        place = [
            jnp.clip(p - e // 2, 0, jnp.maximum(r, 0))
            for p, e, r in zip(pixel, extent, room, strict=True)
        ]
    # A piece larger than the image is centered and cut.
    return [jnp.where(r > 0, p, r // 2) for p, r in zip(place, room, strict=True)]


def within_piece(
    piece: Piece,
    window: tuple[int, int],
    extent: tuple[Int[Array, ""], Int[Array, ""]],
    place: list[Int[Array, ""]],
    corner: list[Int[Array, ""]],
) -> tuple[Int[Array, "a b"], Int[Array, "a b"]]:
    """Row and column in the piece, before it was turned, of every window pixel."""
    rows = np.arange(window[0], dtype=np.int32)[:, None] + corner[0] - place[0]
    columns = np.arange(window[1], dtype=np.int32)[None] + corner[1] - place[1]
    if piece.angle is None:
        return jnp.broadcast_to(rows, window), jnp.broadcast_to(columns, window)
    y = rows.astype(jnp.float32) + 0.5 - extent[0].astype(jnp.float32) / 2
    x = columns.astype(jnp.float32) + 0.5 - extent[1].astype(jnp.float32) / 2
    cos, sin = jnp.cos(piece.angle), jnp.sin(piece.angle)
    height, width = (side.astype(jnp.float32) for side in (piece.height, piece.width))
    # The slack settles ties of quarter turns the same way for all the pixels.
    row = jnp.floor(sin * x + cos * y + height / 2 + 1e-3)
    column = jnp.floor(cos * x - sin * y + width / 2 + 1e-3)
    return row.astype(jnp.int32), column.astype(jnp.int32)


def fetch(
    image: Float[Array, "h w c"], row: Int[Array, "a b"], column: Int[Array, "a b"]
) -> Float[Array, "a b c"]:
    """Pixels at those rows and columns, clipped to the image."""
    h, w, channels = image.shape
    pixel = jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)
    flat = image.reshape(-1)
    planes = (
        flat.at[pixel * channels + c].get(mode="promise_in_bounds")
        for c in range(channels)
    )
    return color.merge_channels(tuple(planes))


def uniform_index(u: Float[Array, ""], count: Int[Array, ""]) -> Int[Array, ""]:
    """Uniform integer in 0..count - 1 (0 if count is 0) from a uniform draw."""
    return jnp.floor(u * count.astype(jnp.float32)).astype(jnp.int32)


def as_float(value: Array | float) -> Float[Array, ""]:
    """A control as float32, which the caller may have given as a plain number."""
    return jnp.asarray(value, jnp.float32)


def between(u: Float[Array, ""], bounds: tuple[float, float]) -> Float[Array, ""]:
    """Uniform in `bounds` from a uniform draw."""
    return bounds[0] + (bounds[1] - bounds[0]) * u
