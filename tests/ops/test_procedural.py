"""Noise statistics, and distances against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import cKDTree

from anojax.ops import procedural

SHAPE = (48, 66)


def made(function, *arguments, **options):
    return np.asarray(jax.jit(lambda *a: function(*a, **options))(*arguments))


def test_fractal_noise_is_normalized_and_falls_with_frequency(key):
    raw = procedural.white_noise(key, (65, 96))
    rough = made(procedural.fractal_noise, raw, slope=0.5, coarsest=3.0)
    smooth = made(procedural.fractal_noise, raw, slope=2.0, coarsest=3.0)
    for field in (rough, smooth):
        assert field.shape == (65, 96)
        np.testing.assert_allclose([field.mean(), field.std()], [0, 1], atol=1e-3)
    steps = [np.abs(np.diff(f, axis=1)).mean() for f in (rough, smooth)]
    assert steps[0] > 2 * steps[1]


@pytest.mark.parametrize("angle, along", [(0.0, 1), (np.pi / 2, 0)])
def test_stretched_noise_runs_along_its_angle(key, angle, along):
    raw = procedural.white_noise(key, (64, 64))
    field = made(
        procedural.fractal_noise,
        raw,
        slope=0.8,
        coarsest=4.0,
        stretch=8.0,
        angle_rad=angle,
    )
    steps = [np.abs(np.diff(field, axis=axis)).mean() for axis in (0, 1)]
    assert steps[1 - along] > 1.5 * steps[along]


@pytest.mark.parametrize("count", [4, 7])
def test_cells_equal_a_nearest_neighbor_search(key, count):
    # Points near the middle of their cells: the two nearest lie in the 3 x 3 around.
    points = 0.35 + 0.3 * np.asarray(jax.random.uniform(key, (8, 8, 2)))
    y, x = procedural.grid((40, 40))
    first, second, owner = jax.jit(
        lambda p, y, x: procedural.worley_noise(p, y, x, count=count)
    )(jnp.asarray(points), y, x)
    rows, columns = np.mgrid[-1 : count + 1, -1 : count + 1]
    inner = points[rows % count, columns % count]
    places = np.stack([rows + inner[..., 0], columns + inner[..., 1]], -1).reshape(
        -1, 2
    )
    numbers = ((rows % count) * 8 + columns % count).ravel()
    at = (np.stack([y, x], -1).reshape(-1, 2) + 0.5) * count
    far, which = cKDTree(places).query(at, k=2)
    np.testing.assert_allclose(np.asarray(first).ravel(), far[:, 0], atol=1e-5)
    np.testing.assert_allclose(np.asarray(second).ravel(), far[:, 1], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(owner).ravel(), numbers[which[:, 0]])


def test_strokes_equal_dense_sampling():
    y, x = procedural.grid(SHAPE)
    ends = np.array([[-0.3, -0.4, 0.2, 0.5], [0.4, 0.1, -0.1, -0.5]], np.float32)
    got = made(procedural.strokes, y, x, jnp.asarray(ends))
    t = np.linspace(0, 1, 4000)[:, None]
    dots = np.concatenate([(1 - t) * e[:2] + t * e[2:] for e in ends])
    far, _ = cKDTree(dots).query(np.stack([y, x], -1).reshape(-1, 2))
    np.testing.assert_allclose(got.ravel(), far, atol=1e-3)


def test_boxes_are_negative_inside_and_exact_outside():
    y, x = procedural.grid(SHAPE)
    places = np.array([[0.0, -0.2, 0.4, 0.3], [0.1, 0.4, 0.2, 0.2]], np.float32)
    got = made(procedural.boxes, y, x, places=places)
    inside = np.zeros(SHAPE, bool)
    nearest = np.full(SHAPE, np.inf)
    for cy, cx, h, w in places:
        dy = np.abs(np.asarray(y) - cy) - h / 2
        dx = np.abs(np.asarray(x) - cx) - w / 2
        inside |= (dy < 0) & (dx < 0)
        nearest = np.minimum(nearest, np.hypot(dy.clip(0), dx.clip(0)))
    np.testing.assert_array_equal(got < 0, inside)
    np.testing.assert_allclose(got[~inside], nearest[~inside], atol=1e-6)


def test_ramp_passes_through_its_colors():
    colors = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    value = jnp.asarray(np.array([[-1.0, 0.0, 1 / 3, 2 / 3, 1.0, 2.0]], np.float32))
    got = made(procedural.color_ramp, value, jnp.asarray(colors))[0]
    np.testing.assert_allclose(got, colors[[0, 0, 1, 2, 3, 3]], atol=1e-6)


def test_light_brightens_the_slope_that_faces_it():
    y, x = procedural.grid((32, 32))
    hill = jnp.exp(-(y * y + x * x) / 0.05)
    lit = made(procedural.shading, hill, angle_rad=0.0, depth=1.0)
    assert lit[:, :14].mean() > 0.05 and lit[:, 18:].mean() < -0.05
    assert np.abs(lit).max() < 1
