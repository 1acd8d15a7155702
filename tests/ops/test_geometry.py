"""Sampling, affine maps, rotation and resizing against OpenCV and SciPy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from anojax.ops import geometry


def sample_image(shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(16, 16, 1), (17, 30, 3)])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_angle_zero_is_the_identity(shape, method):
    image = sample_image(shape)
    turned = geometry.rotate(jnp.asarray(image), 0.0, method=method)
    np.testing.assert_array_equal(turned, image)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_counter_clockwise(turns):
    image = sample_image((17, 17, 3))
    angle = jnp.float32(turns * np.pi / 2)
    turned = geometry.rotate(jnp.asarray(image), angle, fill=None)
    np.testing.assert_allclose(turned, np.rot90(image, turns), atol=2e-5)
    nearest = geometry.rotate(jnp.asarray(image), angle, method="nearest")
    np.testing.assert_array_equal(nearest, np.rot90(image, turns))


@pytest.mark.parametrize("order, method", [(1, "bilinear"), (0, "nearest")])
def test_rotation_equals_scipy_with_fill(order, method):
    image, angle, fill = sample_image((23, 40, 1), 1), 0.7, 0.3
    cy, cx = 11.0, 19.5
    y, x = np.mgrid[:23, :40].astype(np.float64)
    ys = np.sin(angle) * (x - cx) + np.cos(angle) * (y - cy) + cy
    xs = np.cos(angle) * (x - cx) - np.sin(angle) * (y - cy) + cx
    expected = ndimage.map_coordinates(
        image[..., 0], [ys, xs], order=order, mode="grid-constant", cval=fill
    )
    turned = geometry.rotate(jnp.asarray(image), angle, fill=fill, method=method)
    np.testing.assert_allclose(turned[..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("fill", [0.25, None])
@pytest.mark.parametrize("shape", [None, (31, 12)])
def test_affine_equals_opencv_up_to_its_fixed_point_weights(fill, shape):
    image = cv2.GaussianBlur(sample_image((20, 28, 3), 2), (0, 0), 2)
    matrix = np.float32([[0.9, 0.3, -4.0], [-0.2, 1.2, 2.5]])
    height, width = shape or (20, 28)
    border = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    expected = cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=border,
        borderValue=(fill or 0,) * 3,
    )
    warped = geometry.affine(
        jnp.asarray(image), jnp.asarray(matrix), shape=shape, fill=fill
    )
    assert warped.shape == (height, width, 3)
    # OpenCV rounds coordinates to 1/32 pixel.
    np.testing.assert_allclose(warped, expected, atol=0.02)
    assert np.abs(np.asarray(warped) - expected).mean() < 2e-3


def test_coordinates_far_outside_or_not_finite_give_the_fill():
    image = jnp.ones((16, 18, 3))
    far = jnp.array([[-7.3, 40.6, jnp.inf, -jnp.inf, jnp.nan]])
    near = jnp.full_like(far, 8.0)
    for y, x in ((far, near), (near, far), (far, far)):
        np.testing.assert_array_equal(geometry.sample(image, y, x, fill=0.5), 0.5)
    repeated = geometry.sample(image, far, far, fill=None)
    np.testing.assert_array_equal(repeated, 1.0)


@pytest.mark.parametrize("shape", [(32, 32), (8, 8), (45, 19), (1, 1)])
def test_resize_equals_opencv(shape):
    image = sample_image((16, 24, 3), 3)
    expected = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    resized = geometry.resize_bilinear(jnp.asarray(image), shape)
    np.testing.assert_allclose(resized, expected, atol=1e-5)
    np.testing.assert_allclose(
        jax.image.resize(image, (*shape, 3), "linear", antialias=False),
        resized,
        atol=1e-5,
    )


def test_batched_and_compiled_equal_single_calls():
    images = jnp.asarray(sample_image((3, 20, 17, 1), 4))
    angles = jnp.array([-1.0, 0.4, 3.0])
    batched = jax.jit(jax.vmap(geometry.rotate))(images, angles)
    for i in range(3):
        single = geometry.rotate(images[i], angles[i])
        np.testing.assert_allclose(batched[i], single, atol=1e-5)
