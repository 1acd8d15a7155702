"""Medians by counting, against OpenCV, scikit-image and numpy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.filters import median
from skimage.morphology import disk

from anojax.ops.rank import binary_median, disk_median

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size_px", [1, 5, 7])
@pytest.mark.parametrize("shape", [(33, 50), (4, 6)])
def test_binary_median_is_opencv_medianblur(size_px, shape):
    mask = (RNG.uniform(size=shape) < 0.5).astype(np.uint8)
    expected = cv2.medianBlur(mask, size_px)
    out = jax.jit(lambda m: binary_median(m, size_px=size_px))(
        mask.astype(np.float32)[..., None]
    )
    assert out.dtype == np.float32
    assert np.array_equal(out[..., 0], expected)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("radius_px", [1, 5])
def test_disk_median_is_that_of_scikit_image(bits, radius_px):
    values = RNG.integers(0, min(2**bits, 766), (31, 44))
    values[:12] //= 60
    expected = median(values.astype(np.uint16), disk(radius_px), mode="nearest")
    out = jax.jit(lambda v: disk_median(v, radius_px=radius_px, bits=bits))(
        values.astype(np.int32)
    )
    assert np.array_equal(out, expected)


def test_disk_median_keeps_the_extremes():
    values = jnp.zeros((12, 20), jnp.int32).at[:, 10:].set(255)
    out = disk_median(values, radius_px=2, bits=8)
    assert np.array_equal(out, values)
