"""Where patches come from, how large they become, and resizing as OpenCV does it."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import patches
from anojax.ops.placement import integral_image


@pytest.mark.parametrize("size", [(20, 31), (9, 4), (33, 18)])
def test_resized_crop_is_opencv_resize(size):
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (50, 60, 3)).astype(np.uint8)
    y0, x0, h, w = 7, 11, 20, 31
    expected = cv2.resize(image[y0 : y0 + h, x0 : x0 + w], size[::-1])
    crop = tuple(jnp.int32(v) for v in (y0, x0, h, w))
    out = jax.jit(
        lambda i, c, s: patches.resized_crop(i, c, s, window=(40, 36), offset=(5, 2))
    )(image.astype(np.float32), crop, tuple(jnp.int32(v) for v in size))
    out = np.asarray(out).transpose(0, 2, 1)
    part = out[5 : 5 + size[0], 2 : 2 + size[1]]
    # OpenCV rounds the weights and the result: 0.25 is the mean of rounding alone.
    error = np.abs(part - expected)
    assert error.max() < 0.8 and error.mean() < 0.28


def test_centers_cover_their_range_evenly():
    tries = jax.random.uniform(jax.random.key(0), (40000, 2))
    out = np.asarray(patches.centers_within(tries, (3, 5), (10, 30)))
    assert set(out[:, 0]) == set(range(3, 7)) and set(out[:, 1]) == set(range(5, 25))
    assert np.bincount(out[:, 0])[3:].std() < 150
    almost = jnp.full((1, 2), np.nextafter(np.float32(1), np.float32(0)))
    top = patches.centers_within(almost, (1, 1), (10**6, 9))
    assert np.asarray(top).tolist() == [[10**6 - 2, 7]]


def test_the_first_crop_with_enough_object_is_taken():
    mask = jnp.zeros((20, 20, 1)).at[10:, 10:].set(1)
    centers = jnp.array([[3, 3], [9, 12], [15, 15], [19, 19]], jnp.int32)
    half = jnp.array([3, 2], jnp.int32)
    sums = integral_image(mask)
    crop, good = patches.choose_crop(centers, half, (20, 20), sums=sums, least_frac=0.5)
    assert [int(v) for v in crop] == [12, 13, 6, 4] and bool(good)
    crop, good = patches.choose_crop(
        centers[:1], half, (20, 20), sums=sums, least_frac=0.5
    )
    assert not bool(good)
    crop, good = patches.choose_crop(centers[3:], half, (20, 20))
    assert [int(v) for v in crop] == [16, 17, 4, 3] and bool(good)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((20, 40), 1.0, (20, 40)),
        ((20, 40), 0.5, (10, 20)),
        ((40, 80), 1.0, (25, 50)),  # the width is clipped and takes the height along
        ((4, 100), 1.0, (5, 50)),  # both are clipped
    ],
)
def test_sizes_keep_to_their_bounds(size, scale, expected):
    out = patches.bounded_size(size, jnp.float32(scale), (5, 5), (50, 50))
    assert [int(v) for v in out] == list(expected)


def test_area_and_aspect_are_as_requested_as_far_as_they_fit():
    def size(**kw):
        kw = {k: jnp.float32(v) for k, v in kw.items()}
        return [int(v) for v in patches.controlled_size((20, 30), (50, 60), **kw)]

    assert size() == [20, 30]
    assert size(aspect=6.0) == [10, 60]
    assert size(area_px=2400.0) == [40, 60]
    assert size(area_px=900.0, aspect=1.0) == [30, 30]
    assert size(area_px=2900.0, aspect=0.1) == [50, 58]
    assert size(area_px=9000.0) == [50, 60]
