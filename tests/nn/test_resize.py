"""Bilinear resizing and separable smoothing, against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.nn.resize import resize_bilinear
from anojax.nn.smoothing import gaussian_taps, mean_filter, separable_filter


def interpolated(x, n_out, axis, align_corners):
    """One axis, by `numpy.interp` at the sampling positions."""
    n_in = x.shape[axis]
    i = np.arange(n_out)
    if align_corners:
        position = i * (n_in - 1) / max(n_out - 1, 1)
    else:
        position = (i + 0.5) * n_in / n_out - 0.5
    line = lambda v: np.interp(position, np.arange(n_in), v)  # noqa: E731
    return np.apply_along_axis(line, axis, x)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(10, 14), (10, 9), (3, 4), (5, 7), (1, 20)])
def test_resize_interpolates(shape, align_corners):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    y = resize_bilinear(jnp.asarray(x), shape, align_corners=align_corners)
    expected = interpolated(x, shape[0], 1, align_corners)
    expected = interpolated(expected, shape[1], 2, align_corners)
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_half_pixel_resize_agrees_with_jax(key):
    x = jax.random.normal(key, (1, 6, 9, 2))
    y = resize_bilinear(x, (12, 5))
    expected = jax.image.resize(x, (1, 12, 5, 2), "bilinear", antialias=False)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_aligned_corners_stay():
    x = jnp.arange(12, dtype=jnp.float32).reshape(1, 3, 4, 1)
    y = resize_bilinear(x, (6, 8), align_corners=True)
    np.testing.assert_array_equal(y[0, ::5, ::7, 0], x[0, ::2, ::3, 0])
    np.testing.assert_array_equal(resize_bilinear(x, (3, 4), align_corners=True), x)


@pytest.mark.parametrize("align_corners", [False, True])
def test_resize_in_bfloat16(align_corners):
    x = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
    for shape in ((8, 8), (6, 7)):
        y = resize_bilinear(x, shape, align_corners=align_corners)
        assert y.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(y), 1, atol=0.01)


def test_smoothing_is_the_banded_product(key):
    x = jax.random.normal(key, (2, 9, 12, 3))
    taps = gaussian_taps(11, 1.5)
    assert sum(taps) == pytest.approx(1, abs=1e-12)

    def banded(n):
        offset = np.arange(n)[:, None] - np.arange(n) + 5
        inside = (offset >= 0) & (offset < 11)
        weights = np.asarray(taps)[np.clip(offset, 0, 10)]
        return np.where(inside, weights, 0).astype(np.float32)

    def product(x):
        return jnp.einsum("ih,bhwc,jw->bijc", banded(9), x, banded(12))

    np.testing.assert_allclose(
        jax.jit(separable_filter, static_argnums=1)(x, taps), product(x), atol=1e-6
    )
    cost = lambda f: lambda x: jnp.sum(jnp.sin(f(x)))  # noqa: E731
    gradient = jax.jit(jax.grad(cost(lambda x: separable_filter(x, taps))))(x)
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(cost(product)))(x), atol=1e-6)


def test_mean_filter_always_divides_by_the_square():
    point = jnp.zeros((1, 30, 31, 1)).at[0, 15, 15, 0].set(1.0)
    blur = jax.jit(lambda x: mean_filter(x, 21))
    smoothed = blur(point)
    assert float(smoothed.max()) == pytest.approx(1 / 441, rel=1e-5)
    ones = blur(jnp.ones((1, 30, 31, 1)))[0, ..., 0]
    assert float(ones[15, 15]) == pytest.approx(1, rel=1e-5)
    assert float(ones[0, 0]) == pytest.approx(121 / 441, rel=1e-5)
