"""Windows of a picture, and the map from their values."""

import jax.numpy as jnp
import numpy as np
import pytest

from anojax.nn.windows import cut, spread, window_starts


@pytest.mark.parametrize(
    "side, window, stride", [(64, 16, 4), (50, 16, 7), (16, 16, 4)]
)
def test_starts_cover_the_side(side, window, stride):
    starts = window_starts(side, window, stride)
    assert starts[0] == 0 and starts[-1] == side - window
    gaps = np.diff(starts)
    assert np.all((gaps > 0) & (gaps <= stride))
    assert len(starts) == -(-(side - window) // stride) + 1


def test_cut():
    image = np.random.default_rng(0).random((20, 30, 2)).astype(np.float32)
    columns = window_starts(30, 8, 5)
    windows = cut(jnp.asarray(image), 3, columns, (6, 8))
    for window, x in zip(windows, columns, strict=True):
        np.testing.assert_array_equal(window, image[3:9, x : x + 8])


def test_spread_keeps_constants_and_places():
    shape, window = (40, 60), (10, 12)
    starts = window_starts(40, 10, 3), window_starts(60, 12, 3)
    ones = jnp.ones((len(starts[0]), len(starts[1])), jnp.float32)
    np.testing.assert_allclose(spread(ones, shape, window, starts), 1, atol=1e-5)
    one = jnp.zeros_like(ones).at[4, 7].set(1.0)
    found = np.asarray(spread(one, shape, window, starts))
    y, x = np.unravel_index(found.argmax(), shape)
    assert abs(y - (starts[0][4] + 4.5)) <= 1 and abs(x - (starts[1][7] + 5.5)) <= 1
