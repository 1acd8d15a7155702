"""Optimizers against closed forms, and settings that contradict each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from anojax.errors import SettingError
from anojax.optim import Optimizer, ema_update, rising_decay


def rates(optimizer, steps=10):
    return np.array([optimizer.rate(i, steps) for i in range(steps)])


def apply(optimizer, gradients, start, steps=10):
    rule = optimizer.build(steps)
    params = {"w": jnp.float32(start)}
    state = rule.init(params)
    for g in gradients:
        updates, state = rule.update({"w": jnp.float32(g)}, state, params)
        params = optax.apply_updates(params, updates)
    return float(params["w"])


def test_schedules():
    constant = Optimizer("sgd", 0.5)
    np.testing.assert_allclose(rates(constant), 0.5)
    drops = ((0.8, 0.2), (0.9, 0.2))
    stepped = Optimizer("adam", 1.0, schedule="drops", drops=drops)
    np.testing.assert_allclose(rates(stepped), [1] * 8 + [0.2, 0.04], rtol=1e-6)
    cosine = rates(Optimizer("adam", 1.0, schedule="cosine"))
    half = 0.5 + 0.5 * np.cos(np.pi * np.arange(10) / 10)
    np.testing.assert_allclose(cosine, half, atol=1e-6)
    linear = rates(Optimizer("adam", 1.0, schedule="linear"))
    np.testing.assert_allclose(linear, 1 - np.arange(10) / 10, rtol=1e-6)
    warm = rates(Optimizer("adam", 1.0, warmup=0.4))
    np.testing.assert_allclose(warm, [0.25, 0.5, 0.75] + [1] * 7, rtol=1e-6)


def test_sgd_with_momentum_and_penalty():
    rule = Optimizer("sgd", 0.1, momentum=0.9, weight_decay=0.5)
    velocity, w = 0.0, 2.0
    for g in (1.0, -3.0, 2.0):
        velocity = 0.9 * velocity + g + 0.5 * w
        w -= 0.1 * velocity
    assert apply(rule, (1, -3, 2), 2.0) == pytest.approx(w, rel=1e-6)


@pytest.mark.parametrize("rule", ["adam", "adamw"])
def test_adam_couples_its_decay_and_adamw_does_not(rule):
    b1, b2, rate, decay = 0.5, 0.8, 0.1, 0.3
    m = v = 0.0
    w = 2.0
    for i, g in enumerate((1.0, -3.0, 2.0), 1):
        g += decay * w if rule == "adam" else 0
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        step = m / (1 - b1**i) / (np.sqrt(v / (1 - b2**i)) + 1e-8)
        w -= rate * (step + (decay * w if rule == "adamw" else 0))
    optimizer = Optimizer(rule, rate, betas=(b1, b2), weight_decay=decay)
    assert apply(optimizer, (1, -3, 2), 2.0) == pytest.approx(w, rel=1e-5)


def test_clipping():
    assert apply(Optimizer("sgd", 1.0, clip_norm=0.5), [10.0], 0.0) == pytest.approx(
        -0.5
    )


def test_average_is_exact():
    average = {"w": jnp.float32(1.0)}
    for value in (2.0, 4.0, 8.0):
        average = ema_update(average, {"w": jnp.float32(value)}, 0.75)
    expected = 0.75**3 * 1 + 0.25 * (0.75**2 * 2 + 0.75 * 4 + 8)
    np.testing.assert_allclose(average["w"], expected, rtol=1e-6)
    assert jax.tree.leaves(average)[0].dtype == jnp.float32


def test_decay_rises_to_its_bound():
    found = [rising_decay(0.9, 10, k) for k in (1, 2, 80, 81, 1000)]
    np.testing.assert_allclose(found, [2 / 11, 3 / 12, 81 / 90, 0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "adam", "momentum": 0.9}, "adam has no momentum"),
        ({"rule": "sgd", "betas": (0.5, 0.9)}, "sgd has no betas"),
        ({"schedule": "drops"}, "do not fit schedule 'drops'"),
        ({"drops": ((0.5, 0.1),)}, "do not fit schedule 'constant'"),
        ({"rule": "adan"}, "choose one of adam, adamw, sgd"),
        ({"learning_rate": -1.0}, "at least 0"),
    ],
)
def test_contradictions(settings, words):
    with pytest.raises(SettingError, match=words):
        Optimizer(**settings)
