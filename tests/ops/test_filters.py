"""Filters against OpenCV and Pillow."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from anojax.ops import filters


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_gaussian_equals_opencv(sigma, sample_image):
    expected = cv2.GaussianBlur(
        sample_image, (13, 13), sigma, borderType=cv2.BORDER_REFLECT_101
    )
    blur = jax.jit(
        lambda s: filters.gaussian_blur(jnp.asarray(sample_image), s, radius=6)
    )
    np.testing.assert_allclose(blur(jnp.float32(sigma)), expected, atol=2e-6)


def test_gaussian_of_zero_is_the_identity(sample_image):
    out = filters.gaussian_blur(jnp.asarray(sample_image), 0.0, radius=3)
    np.testing.assert_array_equal(out, sample_image)


def test_gaussian_keeps_constants_and_gray():
    image = jnp.full((17, 23, 1), 0.3)
    out = filters.gaussian_blur(image, 1.7, radius=5)
    np.testing.assert_allclose(out, image, atol=1e-6)


@pytest.mark.parametrize("shape", [(21, 34), (5, 3), (2, 9)])
def test_smooth_equals_pillow(shape):
    levels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = np.asarray(Image.fromarray(levels).filter(ImageFilter.SMOOTH))
    ours = filters.smooth(jnp.asarray(levels, jnp.float32))
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0, 1.5, 2.0])
def test_sharpen_equals_pillow(factor):
    levels = np.random.default_rng(1).integers(0, 256, (31, 40), np.uint8)
    expected = ImageEnhance.Sharpness(Image.fromarray(levels)).enhance(factor)
    ours = filters.sharpen(jnp.asarray(levels, jnp.float32), factor)
    np.testing.assert_array_equal(ours, np.asarray(expected))
