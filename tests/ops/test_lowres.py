"""The resampling against Pillow, and the distribution of the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from anojax.ops import lowres


@pytest.mark.parametrize(
    ("size_in", "size_out"),
    [((3, 5), (20, 17)), ((20, 5), (7, 30)), ((9, 9), (9, 9)), ((1, 40), (13, 10))],
)
def test_resize_equals_pillow_bicubic(size_in, size_out):
    cells = np.random.default_rng(0).uniform(0, 255, size_in).astype(np.float32)
    room = np.full((1, 24, 44), 777.0, np.float32)
    room[0, : size_in[0], : size_in[1]] = cells
    got = lowres.resize_bicubic(
        jnp.asarray(room),
        tuple(map(jnp.int32, size_in)),
        tuple(map(jnp.int32, size_out)),
        canvas=(25, 32),
    )[0]
    want = np.asarray(Image.fromarray(cells).resize(size_out[::-1], Image.BICUBIC))
    h, w = size_out
    np.testing.assert_allclose(got[:h, :w], want, atol=2e-3)
    assert not np.any(got[h:]) and not np.any(got[:, w:])


def test_weights_sum_to_one_per_row():
    weights = lowres.bicubic_weights(7, 19, capacity_in=12, capacity_out=23)
    np.testing.assert_allclose(weights.sum(1)[:19], 1.0, atol=1e-6)
    assert not np.any(weights[19:]) and not np.any(weights[:, 7:])


def test_noise_is_uniform_over_its_levels(key):
    bits = jax.random.bits(key, (3, 40, 40), jnp.uint16)
    noise = lowres.coarse_noise(bits, 50, 11, (40, 40), (40, 40), canvas=(40, 40))
    values, counts = np.unique(np.asarray(noise), return_counts=True)
    assert values.tolist() == list(range(50, 61))
    share = counts / noise.size
    assert np.abs(share - 1 / 11).max() < 5 * np.sqrt(1 / 11 / noise.size)


def test_one_level_is_flat(key):
    bits = jax.random.bits(key, (3, 9, 9), jnp.uint16)
    noise = lowres.coarse_noise(bits, 130, 1, (4, 9), (20, 15), canvas=(24, 24))
    assert np.unique(noise[:, :20, :15]).tolist() == [130]


@pytest.mark.parametrize(("which", "rows", "columns"), [(0, 16, 4), (2, 4, 16)])
def test_stripes_have_the_asked_number_of_cells(key, which, rows, columns):
    noise = lowres.noise_of_random_shape(
        key,
        0,
        256,
        jnp.float32(8.0),
        jnp.int32(which),
        (jnp.int32(64), jnp.int32(64)),
        aspects=(0.5, 1.0, 2.0),
        most_across=8.0,
        channels=1,
        canvas=(64, 64),
    )[0]

    def roughness(axis):
        return float(jnp.abs(jnp.diff(noise, axis=axis)).mean())

    # Cells that are a quarter as long change four times as fast.
    ratio = roughness(0) / roughness(1)
    assert ratio == pytest.approx(rows / columns, rel=0.35)
