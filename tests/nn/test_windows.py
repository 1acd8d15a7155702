"""Windows of an image, and the map from their values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.nn.windows import (
    gather_windows,
    gaussian_upsample,
    random_window,
    tile_windows,
    window_size,
    window_starts,
)


@pytest.mark.parametrize(
    "side, window, stride", [(64, 16, 4), (50, 16, 7), (16, 16, 4)]
)
def test_starts_cover_the_side(side, window, stride):
    rows, columns = window_starts((side, 40), (window, 40), (stride, 3))
    assert rows[0] == 0 and rows[-1] == side - window
    gaps = np.diff(rows)
    assert np.all((gaps > 0) & (gaps <= stride))
    assert len(rows) == -(-(side - window) // stride) + 1
    assert columns.tolist() == [0]


def sample_image(shape=(20, 30, 2)):
    return np.random.default_rng(0).random(shape).astype(np.float32)


def test_cut():
    image = sample_image()
    _, columns = window_starts((20, 30), (6, 8), (5, 5))
    found = gather_windows(jnp.asarray(image), np.int32(3), columns, (6, 8))
    for window, x in zip(found, columns, strict=True):
        np.testing.assert_array_equal(window, image[3:9, x : x + 8])


def test_tiles_hold_every_pixel():
    images = sample_image((2, 12, 16, 1))
    found = tile_windows(jnp.asarray(images), window_size((12, 16), 0.5))
    assert found.shape == (8, 6, 8, 1)
    np.testing.assert_array_equal(np.sort(found, None), np.sort(images, None))


def test_random_windows_are_the_same_for_all_and_reach_the_borders(key):
    image = jnp.asarray(sample_image())
    pair = image, None, image[..., :1]
    draw = jax.jit(jax.vmap(lambda k: random_window(k, pair, (16, 28))))
    found, nothing, part = draw(jax.random.split(key, 60))
    assert nothing is None and found.shape == (60, 16, 28, 2)
    np.testing.assert_array_equal(found[..., :1], part)
    corners = {float(v) for v in np.asarray(part)[:, 0, 0, 0]}
    assert corners == {float(v) for v in image[:5, :3, 0].ravel()}


def test_spread_keeps_constants_and_places():
    shape, window = (40, 60), (10, 12)
    begins = window_starts(shape, window, (3, 3))
    ones = jnp.ones((len(begins[0]), len(begins[1])), jnp.float32)
    np.testing.assert_allclose(
        gaussian_upsample(ones, shape, window, begins), 1, atol=1e-5
    )
    one = jnp.zeros_like(ones).at[4, 7].set(1.0)
    found = np.asarray(gaussian_upsample(one, shape, window, begins))
    y, x = np.unravel_index(found.argmax(), shape)
    assert abs(y - (begins[0][4] + 4.5)) <= 1 and abs(x - (begins[1][7] + 5.5)) <= 1
