"""Guidance: an exact classifier turns the score of a mixture into that of a class."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.diffusion.guidance import classifier, classifier_free, combine
from anojax.diffusion.plan import rows
from anojax.diffusion.prediction import Prediction
from anojax.diffusion.samplers import Sampler, initial_noise, sample
from anojax.diffusion.schedules import Schedule, gather, tables

SCHEDULE, EPSILON = Schedule(), Prediction()
WEIGHTS, MEANS, DEVIATIONS = (0.3, 0.7), (-0.6, 0.4), (0.1, 0.2)
"""Of the fixture `mixture`."""


def logits(x, t):
    """The exact classifier of the mixture's two parts, for images of one pixel."""
    known = tables(SCHEDULE)
    a, s = gather(known.alpha, t), gather(known.sigma, t)
    logs = []
    for w, m, d in zip(WEIGHTS, MEANS, DEVIATIONS, strict=True):
        v = a * a * d * d + s * s
        logs.append(np.log(w) - 0.5 * (jnp.square(x - a * m) / v + jnp.log(v)))
    return jnp.concatenate(logs, axis=-1)[:, 0, 0]


def run(model, keys, x, sampler, guide=None, **kwargs):
    settings = dict(schedule=SCHEDULE, prediction=EPSILON, sampler=sampler, guide=guide)
    return jax.jit(partial(sample, model, **settings, **kwargs))(keys, x)


@pytest.fixture(scope="module")
def many():
    """2000 one-pixel examples: keys, noise, and their classes."""
    keys = jax.random.split(jax.random.key(8), 2000)
    return keys, initial_noise(keys, (1, 1, 1)), jnp.arange(2000) % 2


@pytest.mark.parametrize("kind", ["ddim", "cold", "euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_guided_flow_is_the_flow_of_the_class(mixture, gaussian, many, kind, label):
    """Bayes: score of the mixture + gradient of log p(y | x) = score of the class."""
    _, x, _ = many
    sampler = Sampler(kind, 30, "linspace")
    x = jnp.clip(x[:64], -2, 2)
    guide = classifier(logits, jnp.full(64, label))
    guided = run(mixture(SCHEDULE, EPSILON), None, x, sampler, guide)
    own = gaussian(SCHEDULE, EPSILON, m=MEANS[label], c=DEVIATIONS[label])
    np.testing.assert_allclose(guided, run(own, None, x, sampler), atol=2e-3)


def test_guided_ancestral_samples_are_of_the_class(mixture, many):
    keys, x, labels = many
    guide = classifier(logits, labels)
    out = run(mixture(SCHEDULE, EPSILON), keys, x, Sampler("ddpm", 300), guide)
    for label in (0, 1):
        part = np.asarray(out[label::2, 0, 0, 0])
        assert part.mean() == pytest.approx(MEANS[label], abs=0.03)
        assert part.std() == pytest.approx(DEVIATIONS[label], rel=0.1)


def test_ancestral_mean_moves_by_the_unscaled_variance(mixture, many):
    """Also where strength scales the noise, and at the last step, which has none."""
    keys, x, _ = many
    model, sampler = mixture(SCHEDULE, EPSILON), Sampler("ddpm", 20, "ddim")
    variance = np.exp(rows(SCHEDULE, sampler)["log_small"])
    keys, x = keys[:4], x[:4]
    for i in (3, 19):
        kwargs = dict(start=i, stop=i + 1, strength=jnp.full(4, 0.2))
        plain = run(model, keys, x, sampler, **kwargs)
        pushed = run(model, keys, x, sampler, lambda x, t: 0 * x + 10.0, **kwargs)
        np.testing.assert_allclose(pushed - plain, 10 * variance[i], rtol=2e-4)


def test_guidance_acts_after_clipping():
    """x_0 is clipped, then moved by s² / a times the gradient, as in ADM."""
    sampler = Sampler("ddim", 1, "given", timesteps=(500,), clip=(-0.5, 0.5))
    known = tables(SCHEDULE)
    a, s = known.alpha[500], known.sigma[500]
    x = jnp.full((1, 1, 1, 1), 3.0)
    out = run(lambda x, t: 0 * x, None, x, sampler, lambda x, t: 0 * x + 0.25)
    np.testing.assert_allclose(out, 0.5 + 0.25 * s * s / a, rtol=1e-5)


def test_weights_are_per_example(mixture, many):
    _, x, labels = many
    x, labels = x[:2], labels[:2]
    model, sampler = mixture(SCHEDULE, EPSILON), Sampler("ddim", 10)
    plain = run(model, None, x, sampler)
    guide = classifier(logits, labels, jnp.array([0.0, 1.0]))
    out = run(model, None, x, sampler, guide)
    np.testing.assert_allclose(out[0], plain[0], atol=1e-6)
    whole = run(model, None, x, sampler, classifier(logits, labels))
    np.testing.assert_allclose(out[1], whole[1], atol=1e-6)
    assert np.abs(out[1] - plain[1]) > 1e-3


def test_classifier_free_guidance_runs_the_network_once(key):
    x = jax.random.normal(key, (2, 3, 4, 1))
    t, calls = jnp.array([1, 2]), []

    def model(x, t, condition):
        calls.append(x.shape)
        assert t.shape == (4,)
        shift = condition["text"][:, None, None]
        return jnp.concatenate([x + shift, 2 * shift + 0 * x], axis=-1)

    given, null = {"text": jnp.array([[1.0], [3.0]])}, {"text": jnp.zeros((2, 1))}
    for weight, first in ((0.0, 0.0), (1.0, 1.0), (7.5, 7.5)):
        out = classifier_free(model, given, null, weight)(x, t)
        np.testing.assert_allclose(out[0, ..., :1], x[0] + first, rtol=1e-5)
        np.testing.assert_allclose(out[1, ..., :1], x[1] + 3 * first, rtol=1e-5)
        # The variance's half is that of the condition, whatever the weight.
        np.testing.assert_allclose(
            out[..., 1:], 2 * given["text"][:, None, None] + 0 * x
        )
    assert calls == [(4, 3, 4, 1)] * 3
    out = combine(x, x + 1, jnp.array([2.0, 0.0]))
    np.testing.assert_allclose(
        out - x, jnp.array([2.0, 0.0])[:, None, None, None] + 0 * x, atol=1e-6
    )
