"""Morphology against OpenCV, kernels included."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.errors import AnojaxError
from anojax.ops import morphology

CV2_SHAPES = {"box": cv2.MORPH_RECT, "ellipse": cv2.MORPH_ELLIPSE}


def random_image(channels):
    return np.random.default_rng(3).random((37, 52, channels)).astype(np.float32)


@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("size", [1, 3, 5, 7, 11, 15])
def test_kernel_equals_opencv(size, shape):
    expected = cv2.getStructuringElement(CV2_SHAPES[shape], (size, size))
    np.testing.assert_array_equal(
        morphology.structuring_element(size, shape), expected > 0
    )


@pytest.mark.parametrize("shape", ["box", "ellipse"])
@pytest.mark.parametrize("size", [3, 5, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_equal_opencv(size, shape, channels):
    sample_image = random_image(channels)
    element = cv2.getStructuringElement(CV2_SHAPES[shape], (size, size))
    pairs = {
        morphology.dilate: cv2.MORPH_DILATE,
        morphology.erode: cv2.MORPH_ERODE,
        morphology.closing: cv2.MORPH_CLOSE,
    }
    for ours, theirs in pairs.items():
        expected = cv2.morphologyEx(sample_image, theirs, element).reshape(
            sample_image.shape
        )
        got = jax.jit(lambda p, f=ours: f(p, size=size, shape=shape))(sample_image)
        np.testing.assert_array_equal(np.asarray(got), expected)


def test_batched_equals_single():
    images = jnp.stack([random_image(1), 1 - random_image(1)])
    both = jax.vmap(lambda p: morphology.closing(p, size=5, shape="ellipse"))(images)
    np.testing.assert_array_equal(
        both[1], morphology.closing(images[1], size=5, shape="ellipse")
    )


@pytest.mark.parametrize("size, shape", [(4, "box"), (0, "box"), (3, "star")])
def test_wrong_kernel_is_an_error(size, shape):
    with pytest.raises(AnojaxError, match="kernel"):
        morphology.dilate(jnp.zeros((8, 8, 1)), size=size, shape=shape)
