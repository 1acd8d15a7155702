"""Poisson blending: the equation, its solutions known by hand, and OpenCV."""

from functools import partial

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import poisson

SIDE = 48
RNG = np.random.default_rng(0)


def noise(*shape):
    return jnp.asarray(RNG.uniform(0, 255, shape).astype(np.float32))


def smooth(seed, side=96):
    """A colored byte image with structure at several scales."""
    rng = np.random.default_rng(seed)
    sample_image = sum(
        cv2.resize(rng.uniform(-90, 90, (n, n, 3)) / (i + 1), (side, side))
        for i, n in enumerate((3, 8, 24))
    )
    return np.clip(sample_image + 128, 0, 255).astype(np.uint8)


@partial(jax.jit, static_argnames=("mixed", "window"))
def clone(source, destination, box, mask=None, *, mixed=False, window=(40, 44)):
    return poisson.clone(
        source, destination, box, window=window, mixed=mixed, mask=mask
    )


def as_box(*numbers):
    return tuple(jnp.int32(v) for v in numbers)


@pytest.mark.parametrize(
    "interior", [(1, 47, 1, 47), (5, 30, 11, 21), (40, 47, 2, 3), (7, 8, 9, 10)]
)
def test_solution_satisfies_the_equation(interior):
    right = noise(SIDE, 2, SIDE) - 128
    y0, y1, x0, x1 = interior
    found = jax.jit(poisson.solve)(right, as_box(*interior))
    residual = poisson.laplacian(found) - right
    assert np.abs(residual[y0:y1, :, x0:x1]).max() < 0.02
    outside = np.array(found)
    outside[y0:y1, :, x0:x1] = 0
    assert not outside.any()


def test_a_single_unknown_is_minus_a_quarter():
    right = noise(9, 1, 9)
    found = poisson.solve(right, (4, 5, 3, 4))
    np.testing.assert_allclose(found[4, 0, 3], -right[4, 0, 3] / 4, rtol=1e-5)


def test_an_eigenvector_is_divided_by_its_eigenvalue():
    n, m, k, j = 20, 13, 3, 5
    y, x = np.arange(1, n + 1), np.arange(1, m + 1)
    wave = np.sin(np.pi * y * k / (n + 1))[:, None] * np.sin(np.pi * x * j / (m + 1))
    value = 2 * np.cos(np.pi * k / (n + 1)) + 2 * np.cos(np.pi * j / (m + 1)) - 4
    right = np.zeros((SIDE, 1, SIDE), np.float32)
    right[6 : 6 + n, 0, 9 : 9 + m] = wave
    found = poisson.solve(jnp.asarray(right), (6, 6 + n, 9, 9 + m))
    np.testing.assert_allclose(found, right / value, atol=2e-5)


def test_an_empty_rectangle_changes_nothing():
    assert not np.any(poisson.solve(noise(9, 1, 9), (5, 5, 2, 7)))
    assert not np.any(poisson.solve(noise(9, 1, 9), (5, 3, 2, 7)))


@pytest.mark.parametrize("mixed", [False, True])
def test_equal_gradients_change_nothing(mixed):
    destination = noise(SIDE, SIDE, 3).round()
    box = as_box(3, 40, 5, 45)
    for source in (destination, destination + 40):
        out = clone(source, destination, box, mixed=mixed)
        np.testing.assert_allclose(out, destination, atol=1e-3)
    flat = jnp.full_like(destination, 77.0)
    out = clone(flat, destination, box, mixed=mixed)
    assert np.allclose(out, destination) == mixed


def test_only_the_inside_of_the_box_changes():
    source, destination = noise(SIDE, SIDE, 1), noise(SIDE, SIDE, 1)
    y0, y1, x0, x1 = 10, 45, 20, 47
    out = np.array(clone(source, destination, as_box(y0, y1, x0, x1)))
    assert (out != destination)[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].mean() > 0.9
    out[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = 0
    kept = np.array(destination)
    kept[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = 0
    assert np.array_equal(out, kept)


def test_without_gradients_the_border_bounds_the_inside():
    """Maximum principle, on a source without gradients."""
    destination = np.asarray(noise(SIDE, SIDE, 1))
    mask = np.zeros((SIDE, SIDE, 1), np.float32)
    mask[8:40, 6:40] = 1
    given = (jnp.asarray(v) for v in (0 * destination, destination, mask))
    out = np.array(poisson.clone_masked(*given))
    around = cv2.dilate(mask, np.ones((3, 3)))[..., None] > mask
    inside = out[mask > 0]
    assert destination[around].min() - 0.1 <= inside.min()
    assert inside.max() <= destination[around].max() + 0.1
    residual = poisson.laplacian(jnp.asarray(out).transpose(0, 2, 1))
    assert np.abs(residual.transpose(0, 2, 1) * mask).max() < 0.05
    assert np.array_equal(out[mask == 0], destination[mask == 0])


def test_masked_clone_follows_the_source_on_any_shape():
    source, destination = (jnp.asarray(smooth(i, 64), jnp.float32) for i in (1, 2))
    mask = np.zeros((64, 64), np.float32)
    cv2.ellipse(mask, (30, 34), (20, 9), 35, 0, 360, 1, -1)
    cv2.ellipse(mask, (40, 25), (6, 14), 80, 0, 360, 1, -1)
    mask = jnp.asarray(mask)[..., None]
    out = poisson.clone_masked(source, destination, mask)
    planes = [jnp.asarray(v).transpose(0, 2, 1) for v in (out, source)]
    error = poisson.laplacian(planes[0]) - poisson.laplacian(planes[1])
    assert np.abs(error.transpose(0, 2, 1) * mask).max() < 0.5
    kept = poisson.clone_masked(jnp.full_like(source, 9), destination, mask, mixed=True)
    np.testing.assert_allclose(kept, destination, atol=1e-3)


def test_erosion_is_seven_by_seven_and_zero_outside():
    mask = RNG.uniform(0, 1, (30, 1, 27)).astype(np.float32) + (
        np.arange(27, dtype=np.float32) > 9
    )
    expected = cv2.erode(
        mask[:, 0],
        np.ones((3, 3)),
        iterations=3,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    assert np.array_equal(poisson.erode(jnp.asarray(mask))[:, 0], expected)


def ellipses(rng, h, w):
    mask = np.zeros((h, w), np.uint8)
    for _ in range(3):
        center = [int(rng.integers(n // 4, 3 * n // 4 + 1)) for n in (w, h)]
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(
            mask, center, (max(3, w // 5), max(3, h // 4)), turn, 0, 360, 255, -1
        )
    return mask


@pytest.mark.parametrize("shape", ["rectangle", "ellipses"])
@pytest.mark.parametrize("mixed", [False, True])
def test_agrees_with_opencv(mixed, shape):
    source, destination = smooth(3), smooth(4)
    rng = np.random.default_rng(5)
    mode = cv2.MIXED_CLONE if mixed else cv2.NORMAL_CLONE
    off = []
    for _ in range(6):
        h, w = rng.integers(9, 80, 2)
        y, x = rng.integers(1, 96 - h), rng.integers(1, 96 - w)
        mask = np.full((h, w), 255, np.uint8)
        if shape == "ellipses":
            mask = ellipses(rng, h, w)
        mask[[0, -1]] = mask[:, [0, -1]] = 0
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        tight = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
        center = (
            int(x + tight[2] + (tight[3] - tight[2]) // 2),
            int(y + tight[0] + (tight[1] - tight[0]) // 2),
        )
        patch = np.ascontiguousarray(source[y : y + h, x : x + w])
        # Three channels: OpenCV 5.0.0 misreads masks with one.
        deep = np.repeat(mask[..., None], 3, 2)
        expected = cv2.seamlessClone(patch, destination, deep, center, mode)
        weight = np.zeros((96, 96, 1), np.float32)
        weight[y : y + h, x : x + w, 0] = mask / 255
        out = clone(
            source.astype(np.float32),
            destination.astype(np.float32),
            as_box(y + tight[0], y + tight[1], x + tight[2], x + tight[3]),
            None if shape == "rectangle" else weight,
            mixed=mixed,
            window=(80, 80),
        )
        out = np.clip(out, 0, 255).astype(np.uint8).astype(int)
        off.append((np.abs(out - expected)[weight[..., 0] > 0] > 1).mean())
        assert (expected != destination).mean() > 0.001
    assert max(off) < 0.002
