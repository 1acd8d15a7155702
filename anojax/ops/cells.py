"""Random sets of the square cells of a grid.

An image whose sides are no multiples of the cell's is covered too: cells at the lower
and right border are cut. With the same key, `cover` takes cells in the order in which
`partition` fills its sets.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def partition(
    key: Key[Array, ""], shape: tuple[int, int], *, cell_px: int, parts: int
) -> Int[Array, "h w"]:
    """Divide an image of `shape` (h, w) into disjoint sets of cells (RIAD, 2021).

    Args:
      key: source of the draws.
      shape: height and width.
      cell_px: side of a square cell.
      parts: number of sets.

    Returns:
      The number of every pixel's set, 0 to parts - 1. The sets have equally many cells,
      but for the last ones, which lack what does not divide.

    Example:
      >>> sets = partition(jax.random.key(0), (8, 8), cell_px=2, parts=4)
      >>> [int((sets == i).sum()) for i in range(4)]
      [16, 16, 16, 16]
    """
    ranks = _ranks(key, shape, cell_px)
    return _on_pixels(ranks // -(-ranks.size // parts), shape, cell_px)


def cover(
    key: Key[Array, ""],
    where: Float[Array, "h w"],
    area_px: Float[Array, ""],
    *,
    cell_px: int,
) -> Bool[Array, "h w"]:
    """Cells that together hold about `area_px` of the pixels that `where` (0, 1) marks.

    The area is met to half a cell, but one cell is always taken. Pixels of a cell that
    `where` leaves out are covered with it.

    Args:
      key: source of the draws.
      where: pixels that count, 0 or 1.
      area_px: how many of them the cells cover together, if there is room.
      cell_px: side of a square cell.
    """
    shape = where.shape
    ranks, size = _ranks(key, shape, cell_px), _sums(where, cell_px)
    by_rank = jnp.zeros_like(size).at[ranks].set(size)
    before = (jnp.cumsum(by_rank) - by_rank)[ranks]
    taken = (before == 0) | (before + size / 2 < area_px)
    return _on_pixels(taken, shape, cell_px)


def _grid(shape: tuple[int, int], cell_px: int) -> tuple[int, int]:
    return -(-shape[0] // cell_px), -(-shape[1] // cell_px)


def _ranks(key, shape, cell_px):
    """The place of every cell (row by row) in a random order."""
    rows, columns = _grid(shape, cell_px)
    return jax.random.permutation(key, rows * columns)


def _on_pixels(cells, shape, cell_px):
    cells = cells.reshape(_grid(shape, cell_px))
    cells = jnp.repeat(jnp.repeat(cells, cell_px, axis=0), cell_px, axis=1)
    return cells[: shape[0], : shape[1]]


def _sums(values, cell_px):
    """Sum over every cell, row by row."""
    (h, w), (rows, columns) = values.shape, _grid(values.shape, cell_px)
    padded = jnp.pad(values, ((0, rows * cell_px - h), (0, columns * cell_px - w)))
    return padded.reshape(rows, cell_px, columns, cell_px).sum((1, 3)).reshape(-1)
