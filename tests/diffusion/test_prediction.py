"""Predictions: conversions, learned variance, weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.diffusion.prediction import TARGETS, Prediction, min_snr_weights
from anojax.diffusion.schedules import Schedule, add_noise, alphas_cumprod, tables
from anojax.errors import AnojaxError, SettingError


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("t", [100, 500])
def test_what_a_perfect_network_says_is_solved(key, target, t):
    schedule, prediction = Schedule("cosine"), Prediction(target)
    x0, noise = jax.random.normal(key, (2, 1, 4, 4, 3))
    x = add_noise(x0, noise, jnp.array([t]), schedule=schedule)
    known = tables(schedule)
    alpha, sigma = jnp.float32(known.alpha[t]), jnp.float32(known.sigma[t])
    output = prediction.of(x0, noise, alpha, sigma)
    again, epsilon = prediction.solve(output, x, alpha, sigma)
    np.testing.assert_allclose(again, x0, atol=2e-5)
    np.testing.assert_allclose(epsilon, noise, atol=2e-5)


def test_learned_variance_ends_at_both_bounds():
    prediction = Prediction(variance="learned_range")
    known = tables(Schedule())
    small, large = known.log_posterior[300], known.log_beta[300]
    values = jnp.array([-1.0, 1.0, 0.0])[None, None, :, None]
    out = prediction.log_variance(values, jnp.float32(small), jnp.float32(large))
    np.testing.assert_allclose(
        out[0, 0, :, 0], [small, large, (small + large) / 2], rtol=1e-6
    )


def test_fixed_variances():
    small, large = jnp.float32(-5), jnp.float32(-4)
    assert Prediction().log_variance(None, small, large) == small
    assert Prediction(variance="fixed_large").log_variance(None, small, large) == large


def test_channels_must_fit():
    output = jnp.zeros((1, 2, 2, 6))
    mean, values = Prediction(variance="learned_range").split(output, 3)
    assert mean.shape == values.shape == (1, 2, 2, 3)
    with pytest.raises(AnojaxError, match="takes 3"):
        Prediction().split(output, 3)
    with pytest.raises(SettingError, match="choose one of"):
        Prediction("noise")


@pytest.mark.parametrize("target", TARGETS)
def test_min_snr_weighs_the_error_of_x0(key, target):
    """Whatever the target, the weighted loss is min(SNR, γ) times the error of x_0."""
    schedule, prediction = Schedule(), Prediction(target)
    known, kept = tables(schedule), alphas_cumprod(schedule)
    weights = min_snr_weights(schedule, target, 5.0)
    x0, noise, wrong = jax.random.normal(key, (3, 1, 2, 2, 1))
    for t in (50, 200, 600):
        alpha, sigma = jnp.float32(known.alpha[t]), jnp.float32(known.sigma[t])
        x = alpha * x0 + sigma * noise
        said = prediction.of(wrong, (x - alpha * wrong) / sigma, alpha, sigma)
        error = jnp.square(said - prediction.of(x0, noise, alpha, sigma))
        snr = kept[t] / (1 - kept[t])
        expected = min(snr, 5.0) * jnp.square(wrong - x0)
        np.testing.assert_allclose(float(weights[t]) * error, expected, rtol=2e-3)
