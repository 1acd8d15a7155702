"""Shapes against OpenCV, Pillow and geometry."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from anojax.ops import shapes


def corners(seed, n, side):
    """A polygon around its mean with integer corners, repeated to 24 of them."""
    points = np.random.default_rng(seed).integers(0, side, (n, 2))
    offset = points - points.mean(0)
    points = points[np.argsort(np.arctan2(offset[:, 0], offset[:, 1]))]
    return np.concatenate([points, np.repeat(points[-1:], 24 - n, 0)])


@pytest.fixture(scope="module")
def polygon():
    return jax.jit(lambda points: shapes.polygon_mask((60, 75), points))


@pytest.mark.parametrize("seed", range(12))
def test_polygon_equals_opencv(polygon, seed):
    points = corners(seed, 3 + seed, 60)
    want = cv2.drawContours(
        np.zeros((60, 75), np.uint8), [points[:, ::-1].astype(np.int32)], -1, 1, -1
    )
    got = np.asarray(polygon(jnp.asarray(points, jnp.float32)))[..., 0]
    np.testing.assert_array_equal(got, want)


def test_polygon_with_a_hole_by_crossing_follows_even_odd(polygon):
    star = [(np.cos(4 * np.pi * i / 5), np.sin(4 * np.pi * i / 5)) for i in range(5)]
    points = np.rint(30 + 28 * np.array(star)).astype(np.float32)
    points = np.concatenate([points, np.repeat(points[-1:], 19, 0)])
    mask = np.asarray(polygon(jnp.asarray(points)))[..., 0]
    assert mask[30, 30] == 0 and mask.sum() > 300


def test_box_mask():
    mask = shapes.box_mask((9, 11), jnp.int32(2), 3, jnp.int32(4), 5)
    want = np.zeros((9, 11, 1))
    want[2:6, 3:8] = 1
    np.testing.assert_array_equal(mask, want)


def test_smooth_outline_passes_through_its_corners():
    square = jnp.asarray([[0, 0], [0, 10], [10, 10], [10, 0]], jnp.float32)
    curve = shapes.smooth_outline(square, tension=0.0)
    np.testing.assert_allclose(curve[::11], square)
    # Symmetric: the handles at a corner are parallel to the diagonal across it.
    first = np.asarray(curve[1] - curve[0])
    assert first[0] < 0 < first[1]
    # Bulges outwards, and the more so the longer the handles.
    area = [
        float(shapes.enclosed_fraction(shapes.smooth_outline(square, tension=t)))
        for t in (0.0, 0.5, 1.0)
    ]
    assert area[2] == pytest.approx(1.0) and min(curve[:, 0]) < 0


def test_smooth_outline_ignores_surplus_corners():
    points = jax.random.uniform(jax.random.key(1), (7, 2)) * 50
    want = shapes.smooth_outline(points[:5], tension=0.3)
    got = shapes.smooth_outline(points, tension=0.3, count=jnp.int32(5))
    np.testing.assert_allclose(got[:55], want, atol=1e-4)
    np.testing.assert_allclose(got[55:], np.broadcast_to(points[:1], (22, 2)))


def test_straight_edges_give_the_polygon():
    points = jnp.asarray(corners(3, 6, 40)[:6], jnp.float32)
    curve = shapes.smooth_outline(points, tension=0.2, straight=jnp.ones(6, bool))
    np.testing.assert_array_equal(curve, jnp.repeat(points, 11, axis=0))


def test_sort_by_angle_orders_the_used_corners():
    points = jnp.asarray(corners(5, 8, 50)[:8], jnp.float32)
    mixed = points[jnp.asarray([3, 0, 6, 1, 7, 2, 5, 4])]
    np.testing.assert_array_equal(shapes.sort_by_angle(mixed), points)
    padded = jnp.concatenate([mixed[:5], jnp.full((3, 2), 1e3)])
    got = shapes.sort_by_angle(padded, count=5)
    np.testing.assert_array_equal(got[:5], shapes.sort_by_angle(mixed[:5]))


def test_fit_box_and_enclosed_fraction():
    triangle = jnp.asarray([[3, 3], [3, 9], [7, 3]], jnp.float32)
    fitted = shapes.fit_box(triangle, jnp.int32(21), jnp.int32(11))
    np.testing.assert_array_equal(fitted, [[0, 0], [0, 10], [20, 0]])
    assert float(shapes.enclosed_fraction(fitted)) == pytest.approx(0.5)


@pytest.mark.parametrize(("size", "degrees"), [((20, 9), 30), ((15, 21), -45)])
def test_turn_mask_equals_pillow(size, degrees):
    plain = np.zeros((40, 44), np.float32)
    plain[: size[0], : size[1]] = np.random.default_rng(0).integers(0, 2, size)
    plain[0, 0] = plain[size[0] - 1, size[1] - 1] = 1
    inner = (plain[: size[0], : size[1]] * 255).astype(np.uint8)
    turned = np.asarray(Image.fromarray(inner).rotate(degrees, expand=True)) > 0
    y, x = np.nonzero(turned)
    want = turned[y.min() : y.max() + 1, x.min() : x.max() + 1]
    got, height, width = shapes.rotate_mask(
        jnp.asarray(plain)[..., None], *size, np.deg2rad(degrees)
    )
    assert (int(height), int(width)) == want.shape
    mismatch = np.asarray(got)[:height, :width, 0] != want
    # Pixels whose center falls between two others may round either way.
    assert mismatch.mean() < 0.01
    assert float(got.sum()) == pytest.approx(want.sum(), abs=3)


@pytest.mark.parametrize("radius", [1, 2])
def test_soft_edge_equals_opencv(radius):
    size = 2 * radius + 1
    points = corners(4, 7, 30)[:, ::-1].astype(np.int32)
    shape = cv2.drawContours(np.zeros((30, 30), np.uint8), [points], -1, 255, -1)
    shape[:, 27:] = 255
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    want = cv2.GaussianBlur(
        cv2.erode(shape, kernel).astype(np.float32), (size, size), size
    )
    canvas = np.zeros((41, 36, 1), np.float32)
    canvas[:30, :30, 0] = shape / 255
    got = shapes.feather(
        jnp.asarray(canvas), jnp.int32(30), jnp.int32(30), radius=radius
    )
    np.testing.assert_allclose(got[:30, :30, 0], want / 255, atol=1e-5)
    assert not np.any(got[30:]) and not np.any(got[:, 30:])


@pytest.mark.parametrize("grid", [(8, 8), (3, 5), (1, 1)])
def test_grid_shuffle_permutes_tiles(key, sample_image, grid):
    image = jnp.asarray(sample_image)
    got = np.asarray(shapes.grid_shuffle(key, image, grid=grid))
    h, w = 64 // grid[0], 80 // grid[1]

    def tiles(image):
        return sorted(
            image[y : y + h, x : x + w].tobytes()
            for y in range(0, h * grid[0], h)
            for x in range(0, w * grid[1], w)
        )

    assert tiles(got) == tiles(sample_image)
    assert np.array_equal(got, sample_image) == (grid == (1, 1))
    np.testing.assert_array_equal(got[h * grid[0] :], sample_image[h * grid[0] :])


def test_grid_shuffle_says_when_the_grid_is_too_fine(key):
    with pytest.raises(ValueError, match="does not fit"):
        shapes.grid_shuffle(key, jnp.zeros((4, 9, 1)), grid=(8, 8))
