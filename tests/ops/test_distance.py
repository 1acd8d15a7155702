"""Distance transform against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from anojax.ops.distance import distance_transform


def blob_mask(seed, shape=(61, 84)):
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 4)
    return (smooth > np.quantile(smooth, 0.3)).astype(np.float32)[..., None]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_scipy(seed):
    mask = blob_mask(seed)
    expected = ndimage.distance_transform_edt(mask[..., 0])
    got = jax.jit(distance_transform)(mask)[..., 0]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_single_hole_and_no_hole():
    mask = np.ones((20, 33, 1), np.float32)
    np.testing.assert_array_equal(
        distance_transform(jnp.asarray(mask)), np.full_like(mask, 53)
    )
    mask[4, 30] = 0
    expected = ndimage.distance_transform_edt(mask[..., 0])
    np.testing.assert_allclose(
        distance_transform(jnp.asarray(mask))[..., 0], expected, rtol=1e-6
    )


def test_batched_equals_single():
    masks = jnp.stack([blob_mask(6), blob_mask(7)])
    np.testing.assert_array_equal(
        jax.vmap(distance_transform)(masks)[1], distance_transform(masks[1])
    )
