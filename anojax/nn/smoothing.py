"""Separable smoothing of batches with zeros beyond the border."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def gaussian_taps(size: int, sigma_px: float) -> tuple[float, ...]:
    """`size` (odd) weights of a Gaussian, summing to one."""
    offset = np.arange(size) - size // 2
    taps = np.exp(-0.5 * (offset / sigma_px) ** 2)
    return tuple((taps / taps.sum()).tolist())


def mean_filter(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b h w c"]:
    """Mean of the `size` x `size` (odd) neighborhood; beyond the border lie zeros, and
    the divisor is always size squared (the anomaly maps of DRAEM and RIAD)."""
    return separable_filter(x, (1 / size,) * size)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def separable_filter(
    x: Float[Array, "b h w c"], taps: tuple[float, ...]
) -> Float[Array, "b h w c"]:
    """Convolve both sides with symmetric `taps` (an odd number of them).

    A sum of shifted copies: on CPU a depthwise convolution is a hundred times slower,
    and a product with a banded matrix five times.
    """
    for axis in (1, 2):
        # Without the barrier XLA may recompute what lies before once per tap.
        x = _along(lax.optimization_barrier(x), axis, taps)
    return x


def _along(x: Array, axis: int, taps: tuple[float, ...]) -> Array:
    n, reach = x.shape[axis], len(taps) // 2
    pad = [(reach, reach) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = jnp.pad(x, pad)
    terms = [
        tap * lax.slice_in_dim(padded, i, i + n, axis=axis)
        for i, tap in enumerate(taps)
    ]
    return sum(terms[1:], terms[0])


# Symmetric taps and zero padding: the map is its own transpose.
separable_filter.defvjp(
    lambda x, taps: (separable_filter(x, taps), None),
    lambda taps, _, cotangent: (separable_filter(cotangent, taps),),
)
