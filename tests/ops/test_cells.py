"""Sets of grid cells: disjoint, whole, of the right size and in one order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops.cells import cover, partition

SHAPE = (45, 70)


@pytest.mark.parametrize("cell", [1, 2, 8, 16, 64])
@pytest.mark.parametrize("parts", [2, 3])
def test_cells_are_whole_and_sets_equally_large(key, cell, parts):
    sets = np.asarray(partition(key, SHAPE, cell_px=cell, parts=parts))
    assert sets.shape == SHAPE
    cells = sets[::cell, ::cell]
    whole = cells.repeat(cell, 0).repeat(cell, 1)[: SHAPE[0], : SHAPE[1]]
    np.testing.assert_array_equal(sets, whole)
    most = -(-cells.size // parts)
    left = cells.size - most * np.arange(parts)
    counts = np.bincount(cells.ravel(), minlength=parts)
    np.testing.assert_array_equal(counts, np.clip(left, 0, most))


def test_every_cell_is_equally_likely():
    keys = jax.random.split(jax.random.key(3), 600)
    divide = jax.jit(jax.vmap(lambda k: partition(k, (8, 8), cell_px=2, parts=3)))
    first = np.asarray(divide(keys))[:, ::2, ::2] == 0
    share = first.mean(0)  # 6 of 16 cells
    assert np.abs(share - 6 / 16).max() < 4 * np.sqrt(6 / 16 * 10 / 16 / 600)
    assert len(np.unique(first.reshape(600, -1), axis=0)) > 550  # of 8008


def test_cover_takes_cells_in_the_order_of_the_sets(key):
    everywhere = jnp.ones((32, 32))
    sets = partition(key, (32, 32), cell_px=4, parts=4)
    area = jnp.float32(32 * 32 / 4)
    covered = cover(key, everywhere, area, cell_px=4)
    np.testing.assert_array_equal(covered, sets == 0)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_cover_meets_the_area_to_half_a_cell(key, share):
    where = jnp.zeros(SHAPE).at[3:30, 11:60].set(1)
    area = share * 27 * 49
    covered = np.asarray(cover(key, where, jnp.float32(area), cell_px=4))
    covered = covered & (np.asarray(where) > 0)
    assert abs(covered.sum() - area) <= (16 if share == 0 else 8)
    assert covered.any()


def test_cover_of_nothing_takes_nothing_of_it(key):
    nowhere = jnp.zeros((16, 16))
    assert np.asarray(cover(key, nowhere, jnp.float32(0), cell_px=4)).all()
