"""Denoisers that are known exactly: what a perfect network would put out."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from anojax.diffusion.prediction import Prediction, epsilon_of
from anojax.diffusion.schedules import Schedule, gather, tables


@pytest.fixture(scope="session")
def gaussian() -> Callable:
    """``gaussian(schedule, prediction, m, c)``: the perfect model of N(m, c²) pixels.

    A learned variance is put out at `values`.
    """

    def build(schedule: Schedule, prediction: Prediction, m=0.3, c=0.4, values=-1.0):
        def model(x, t):
            known = tables(schedule)
            a, s = gather(known.alpha, t), gather(known.sigma, t)
            epsilon = s * (x - a * m) / (a * a * c * c + s * s)
            x0 = m + a * c * c * (x - a * m) / (a * a * c * c + s * s)
            out = prediction.of(x0, epsilon, a, s)
            if prediction.variance == "learned_range":
                out = jnp.concatenate([out, jnp.full_like(out, values)], axis=-1)
            return out

        return model

    return build


@pytest.fixture(scope="session")
def mixture() -> Callable:
    """``mixture(schedule, prediction)``: the same for 0.3 N(-0.6, 0.1²) + 0.7 N(0.4, 0.2²)."""
    weights, means, deviations = (0.3, 0.7), (-0.6, 0.4), (0.1, 0.2)
    mean = float(np.dot(weights, means))
    second = float(np.dot(weights, np.square(means) + np.square(deviations)))

    def build(schedule: Schedule, prediction: Prediction):
        def model(x, t):
            known = tables(schedule)
            a, s = gather(known.alpha, t), gather(known.sigma, t)
            logs, parts = [], []
            for w, m, d in zip(weights, means, deviations, strict=True):
                v = a * a * d * d + s * s
                gap = x - a * m
                logs.append(np.log(w) - 0.5 * (gap * gap / v + jnp.log(v)))
                parts.append(m + a * d * d * gap / v)
            share = jnp.exp(logs[0] - jnp.logaddexp(*logs))
            x0 = share * parts[0] + (1 - share) * parts[1]
            return prediction.of(x0, epsilon_of(x, x0, a, s), a, s)

        return model

    build.mean, build.std = mean, (second - mean**2) ** 0.5
    return build
