"""Losses: against definitions in float64, and who learns from what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from anojax.diffusion.losses import (
    discretized_gaussian,
    draw,
    hybrid_loss,
    simple_loss,
    variational_bound,
)
from anojax.diffusion.prediction import TARGETS, Prediction, min_snr_weights
from anojax.diffusion.schedules import Schedule, add_noise, alphas_cumprod, betas
from anojax.errors import AnojaxError

SCHEDULE = Schedule()
LEARNED = Prediction(variance="learned_range")


@pytest.fixture(scope="module")
def batch():
    """8-bit images, noise, timesteps from both branches, and an output."""
    k = jax.random.split(jax.random.key(1), 3)
    x0 = jax.random.randint(k[0], (4, 3, 5, 2), 0, 256).astype(jnp.float32) / 127.5 - 1
    noise = jax.random.normal(k[1], x0.shape)
    output = jax.random.normal(k[2], (4, 3, 5, 4)) * 0.5
    return output, x0, noise, jnp.array([0, 1, 400, 999])


def by_definition(output, x0, noise, t):
    """Bits per dimension of every example, from textbook formulas in float64."""
    beta, kept = betas(SCHEDULE), alphas_cumprod(SCHEDULE)
    output, x0, noise = (np.asarray(v, np.float64) for v in (output, x0, noise))
    bits = []
    for e, i in enumerate(np.asarray(t)):
        x = np.sqrt(kept[i]) * x0[e] + np.sqrt(1 - kept[i]) * noise[e]
        epsilon, nu = output[e, ..., :2], output[e, ..., 2:]
        said = (x - np.sqrt(1 - kept[i]) * epsilon) / np.sqrt(kept[i])
        before = kept[i - 1] if i else 1.0
        j = max(i, 1)
        small = beta[j] * (1 - kept[j - 1]) / (1 - kept[j])
        log_p = (nu + 1) / 2 * np.log(beta[i]) + (1 - nu) / 2 * np.log(small)
        if i == 0:
            s = np.exp(log_p / 2)
            high = np.where(x0[e] > 0.999, 1, norm.cdf((x0[e] + 1 / 255 - said) / s))
            low = np.where(x0[e] < -0.999, 0, norm.cdf((x0[e] - 1 / 255 - said) / s))
            term = -np.log(np.maximum(high - low, 1e-12))
        else:
            c1 = beta[i] * np.sqrt(before) / (1 - kept[i])
            c2 = (1 - before) * np.sqrt(1 - beta[i]) / (1 - kept[i])
            gap = (c1 * x0[e] + c2 * x) - (c1 * said + c2 * x)
            ratio = small / np.exp(log_p)
            term = 0.5 * (gap**2 / np.exp(log_p) + ratio - 1 - np.log(ratio))
        bits.append(term.mean() / np.log(2))
    return np.array(bits)


def test_the_bound_follows_its_definition(batch):
    output, x0, noise, t = batch
    x = add_noise(x0, noise, t, schedule=SCHEDULE)
    vb = variational_bound(output, x0, x, t, schedule=SCHEDULE, prediction=LEARNED)
    np.testing.assert_allclose(vb, by_definition(*batch), rtol=2e-4)


def test_hybrid_loss_is_the_sum_of_both(batch):
    output, _, noise, _ = batch
    loss, parts = hybrid_loss(*batch, schedule=SCHEDULE, prediction=LEARNED)
    mse = np.mean(np.square(output[..., :2] - noise), axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(parts["mse"], mse, rtol=1e-6)
    np.testing.assert_allclose(parts["vb"], by_definition(*batch).mean(), rtol=2e-4)
    np.testing.assert_allclose(loss, parts["mse"] + parts["vb"], rtol=1e-6)


def test_only_the_variance_learns_from_the_bound(batch):
    output, *rest = batch

    def bound(output):
        settings = dict(schedule=SCHEDULE, prediction=LEARNED)
        return hybrid_loss(output, *rest, **settings)[1]["vb"]

    gradient = np.asarray(jax.jit(jax.grad(bound))(output))
    assert (gradient[..., :2] == 0).all()
    assert np.isfinite(gradient).all() and (gradient[1:, ..., 2:] != 0).all()


def test_the_bound_needs_a_learned_variance(batch):
    output, *rest = batch
    with pytest.raises(AnojaxError, match="use simple_loss"):
        hybrid_loss(output, *rest, schedule=SCHEDULE, prediction=Prediction())


def test_the_exact_posterior_has_no_divergence(batch):
    """A network that knows x_0 and puts the variance at its lower bound: 0 bits."""
    _, x0, noise, t = batch
    output = jnp.concatenate([noise, -jnp.ones_like(noise)], axis=-1)
    x = add_noise(x0, noise, t, schedule=SCHEDULE)
    vb = variational_bound(output, x0, x, t, schedule=SCHEDULE, prediction=LEARNED)
    assert np.abs(vb[1:]).max() < 1e-4
    assert vb[0] > 0


@pytest.mark.parametrize("deviation", [0.003, 0.1])
@pytest.mark.parametrize("mean", [-1.2, -0.9, 0.013, 1.0])
def test_discretized_probabilities_add_up_to_one(mean, deviation):
    x = jnp.arange(256, dtype=jnp.float32) / 127.5 - 1
    x = x[None, None, :, None]
    level = jnp.full((1, 1, 1, 1), np.log(deviation), jnp.float32)
    total = jnp.sum(jnp.exp(discretized_gaussian(x, jnp.full_like(x, mean), level)))
    assert total == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_simple_loss_is_a_mean_over_examples(batch, target):
    _, x0, noise, t = batch
    prediction = Prediction(target)
    kwargs = dict(schedule=SCHEDULE, prediction=prediction)
    output = 0.3 * x0
    whole = simple_loss(output, x0, noise, t, **kwargs, min_snr_gamma=5.0)
    parts, plain = [], []
    for e in range(4):
        one = [v[e : e + 1] for v in (output, x0, noise, t)]
        plain.append(simple_loss(*one, **kwargs))
        parts.append(simple_loss(*one, **kwargs, min_snr_gamma=5.0))
    np.testing.assert_allclose(whole, np.mean(parts), rtol=1e-5)
    weights = min_snr_weights(SCHEDULE, target, 5.0)[np.asarray(t)]
    np.testing.assert_allclose(parts, weights * np.array(plain), rtol=1e-5)
    a, s = (
        np.sqrt(alphas_cumprod(SCHEDULE)[400]),
        np.sqrt(1 - alphas_cumprod(SCHEDULE)[400]),
    )
    wanted = {"epsilon": noise, "sample": x0, "v_prediction": a * noise - s * x0}
    error = np.mean(np.square(wanted[target][2] - output[2]))
    np.testing.assert_allclose(plain[2], error, rtol=1e-5)


def test_draws_depend_on_the_example_alone(key):
    keys = jax.random.split(key, 512)
    x0 = jnp.zeros((512, 2, 2, 1))
    t, noise = draw(keys, x0, schedule=SCHEDULE)
    some, part = draw(keys[7:9], x0[7:9], schedule=SCHEDULE)
    np.testing.assert_array_equal(t[7:9], some)
    np.testing.assert_array_equal(noise[7:9], part)
    assert t.min() >= 0 and t.max() <= 999
    # Uniform: mean 499.5, standard error 12.8; 4 of them.
    assert abs(float(jnp.mean(t.astype(jnp.float32))) - 499.5) < 51
    assert abs(float(jnp.std(noise)) - 1) < 0.07
