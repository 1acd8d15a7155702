"""Defect shapes as {0, 1} masks: boxes, ellipses, polygons, smooth outlines, tiles.

Coordinates are (y, x) in pixels, pixel centres are at integers, and sizes may be traced:
only the canvas `shape` = (height, width) is static.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def grid_shuffle(
    key: Key[Array, ""], image: Float[Array, "h w c"], *, grid: tuple[int, int] = (8, 8)
) -> Float[Array, "h w c"]:
    """Cut the picture into `grid` = (rows, columns) equal tiles and permute them.

    Tiles are `height // rows` by `width // columns` pixels. Rows and columns that are
    left over at the bottom and on the right stay in place. MemSeg (arXiv 2205.00908)
    makes its structural defects this way.
    """
    (rows, columns), (height, width, channels) = grid, image.shape
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise ValueError(
            f"grid {grid} does not fit a picture of {height}x{width} pixels; "
            "use at least one and at most that many rows and columns"
        )
    h, w = height // rows, width // columns
    core = image[: rows * h, : columns * w]
    tiles = core.reshape(rows, h, columns, w * channels)
    tiles = tiles.transpose(0, 2, 1, 3).reshape(rows * columns, h, w * channels)
    tiles = tiles[jax.random.permutation(key, rows * columns)]
    tiles = tiles.reshape(rows, columns, h, w * channels).transpose(0, 2, 1, 3)
    return image.at[: rows * h, : columns * w].set(tiles.reshape(core.shape))
