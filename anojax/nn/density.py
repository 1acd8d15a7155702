"""A Gaussian density of the features of normal images, and the distance from it."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from anojax.errors import AnojaxError
from anojax.types import PyTree


def ledoit_wolf(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """Covariance shrunk towards a multiple of the identity (Ledoit and Wolf, 2004).

    The share of the identity is the one of least expected squared error, so that the
    result can be inverted also from fewer examples than features. Computed on the host
    in double precision: after training, variances of features differ by many orders.

    Args:
      features: one row per example, at least two.

    Raises:
      AnojaxError: all the rows are equal.
    """
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    n, d = x.shape
    sample = x.T @ x / n
    level = np.trace(sample) / d
    if not level > 0:
        raise AnojaxError(
            f"the features of all {n} images are equal, so they have no density; "
            "give different images, or train with a lower learning rate"
        )
    squared = np.sum(sample**2)
    distance = squared / d - level**2
    error = (np.mean(np.sum(x**2, axis=1) ** 2) - squared) / (n * d)
    share = min(error / distance, 1.0) if distance > 0 else 1.0
    return (1 - share) * sample + share * level * np.eye(d)


def fit_gaussian(features: Float[np.ndarray, "n d"]) -> dict[str, np.ndarray]:
    """What `mahalanobis` needs, float32: the mean ``[d]`` of the rows, and the
    ``whitening`` ``[d, d]`` that gives them unit covariance (by `ledoit_wolf`)."""
    factor = np.linalg.cholesky(ledoit_wolf(features))
    return {
        "mean": features.mean(axis=0, dtype=np.float64).astype(np.float32),
        "whitening": np.linalg.inv(factor).astype(np.float32),
    }


def mahalanobis(density: PyTree, feature: Float[Array, " d"]) -> Float[Array, ""]:
    """Distance from the mean in standard deviations; about sqrt(d) is usual."""
    mean, whitening = (jnp.asarray(density[name]) for name in ("mean", "whitening"))
    white = jnp.dot(whitening, feature - mean, precision=lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.sum(white**2))
