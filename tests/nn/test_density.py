"""The Gaussian density: scikit-learn's shrinkage, and distances that mean something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from anojax.errors import AnojaxError
from anojax.nn.density import fit_gaussian, ledoit_wolf, mahalanobis


def features(n, d, seed=0):
    """Correlated, with variances over six orders and a mean far from zero."""
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(d, d)) * np.logspace(0, -3, d)[:, None]
    return (draw.normal(size=(n, d)) @ mixing.T + 5).astype(np.float32)


@pytest.mark.parametrize("n, d", [(200, 7), (12, 40), (2, 5), (50, 1)])
def test_covariance_is_that_of_scikit_learn(n, d):
    x = features(n, d)
    expected = LedoitWolf().fit(x.astype(np.float64)).covariance_
    np.testing.assert_allclose(ledoit_wolf(x), expected, rtol=1e-8)


def test_distances_are_those_of_scikit_learn():
    x, others = features(60, 30), features(20, 30, seed=1)
    reference = LedoitWolf().fit(x.astype(np.float64))
    density = fit_gaussian(x)
    found = jax.vmap(lambda f: mahalanobis(density, f))(jnp.asarray(others))
    expected = np.sqrt(reference.mahalanobis(others.astype(np.float64)))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_distance_of_the_mean_and_of_a_usual_example():
    x = np.random.default_rng(0).normal(3, 2, (2000, 16)).astype(np.float32)
    density = fit_gaussian(x)
    assert mahalanobis(density, jnp.asarray(density["mean"])) == 0
    distances = jax.vmap(lambda f: mahalanobis(density, f))(jnp.asarray(x))
    assert abs(np.sqrt(np.mean(np.square(distances))) / 4 - 1) < 0.01


def test_silent_features_do_no_harm():
    x = np.concatenate([features(40, 3), np.zeros((40, 2), np.float32)], 1)
    density = fit_gaussian(x)
    usual = jnp.asarray(x[0])
    woken = usual.at[3].add(1.0)
    assert mahalanobis(density, woken) > 3 * mahalanobis(density, usual)


def test_equal_features_have_no_density():
    with pytest.raises(AnojaxError, match="features of all 3 images are equal"):
        fit_gaussian(np.ones((3, 4), np.float32))
