"""Warps of a cut piece: inverse, extent, and look-ups in a mask."""

import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import warp


def _make(tall=1.0, wide=1.0, shear=0.0, angle=0.0):
    tall, wide, shear, angle = (jnp.float32(v) for v in (tall, wide, shear, angle))
    return warp.affine_warp(tall=tall, wide=wide, shear=shear, angle_rad=angle)


@pytest.mark.parametrize("values", [(1.2, 0.8, 0.2, 0.7), (-0.7, 1.3, 0.0, -1.2)])
def test_inverse_undoes_the_map(values):
    made = _make(*values)
    y, x = jnp.array([3.0, -20.5]), jnp.array([11.5, 7.0])
    there = made.apply(y, x)
    np.testing.assert_allclose(made.inverse().apply(*there), [y, x], atol=0.02)


def test_coefficients_of_the_inverse_are_exact():
    scaled = np.array(_make(1.1, 0.9, 0.1, 0.3).inverse()) * 4096
    np.testing.assert_array_equal(scaled, np.round(scaled))


def test_quarter_turn_is_counter_clockwise():
    # To the right becomes up.
    y, x = _make(angle=np.pi / 2).apply(jnp.float32(0), jnp.float32(1))
    np.testing.assert_allclose((y, x), (-1, 0), atol=1e-6)


def test_extent_and_area():
    size = jnp.float32(10), jnp.float32(20)
    tall, wide = _make(2.0, 0.5).extent(size)
    assert (tall, wide) == (20, 10)
    tall, wide = _make(angle=np.pi / 4).extent(size)
    np.testing.assert_allclose((tall, wide), 30 / np.sqrt(2), rtol=1e-5)
    made = _make(2.0, 0.7, 0.3, 1.0)
    det = made.yy * made.xx - made.yx * made.xy
    np.testing.assert_allclose(det, 1.4, rtol=1e-5)


def test_only_mirrors_copy():
    assert _make(-1.0, 1.0).copies() and _make().copies()
    assert not _make(angle=0.1).copies() and not _make(tall=1.1).copies()
    assert not _make(shear=0.1).copies()


def test_points_on_a_mask():
    mask = jnp.zeros((4, 5, 1)).at[1, 2].set(1.0)
    y, x = jnp.array([1.0, 1.99, 2.0, 1.5, -0.1]), jnp.array([2.0, 2.99, 2.5, 9.0, 2.5])
    assert warp.inside_mask(mask, y, x).tolist() == [True, True, False, False, False]
    assert warp.inside_mask(None, y, x).all()


def test_spots_cover_the_box_evenly():
    rows, columns = warp.sample_grid((jnp.float32(8), jnp.float32(32)))
    np.testing.assert_allclose((rows.mean(), columns.mean()), (4, 16), rtol=1e-5)
    assert 0 < rows.min() and rows.max() < 8 and columns.max() < 32
