"""How networks begin: all random numbers of a network are drawn at once.

A network has hundreds of parameters. Drawn one by one, each with a key of its own,
they are hundreds of small programs, and compiling those takes far longer than drawing.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Key

from anojax.types import PyTree

Initializer = Callable[..., Array]


class _Pool:
    """Numbers of one distribution, handed out in the order of the requests."""

    def __init__(self, numbers: Array | None = None):
        self.numbers, self.used = numbers, 0

    def take(self, shape: Sequence[int]) -> Array:
        # Flax asks with lists, too.
        begin, count = self.used, prod(shape)
        self.used += count
        if self.numbers is None:  # only counted
            return jnp.zeros(tuple(shape))
        return self.numbers[begin : begin + count].reshape(tuple(shape))


_POOLS: ContextVar[dict[str, _Pool] | None] = ContextVar("pools", default=None)


def init_network(network: nn.Module, key: Key[Array, ""], *args: Any) -> PyTree:
    """``network.init(key, *args)`` with one draw for all parameters.

    The numbers are others than those of ``network.init``, their distributions are the
    same. Where initializers are not of this file, they draw as ever.

    Returns:
      The variables, float32; also under `jax.eval_shape`.
    """
    counted = {"uniform": _Pool(), "normal": _Pool()}
    with _drawing_from(counted):
        jax.eval_shape(lambda k: network.init(k, *args), key)
    distributions = {"uniform": jax.random.uniform, "normal": jax.random.normal}
    filled = {
        name: _Pool(distribution(jax.random.fold_in(key, i), (counted[name].used,)))
        for i, (name, distribution) in enumerate(distributions.items())
    }
    with _drawing_from(filled):
        return network.init(key, *args)


def uniform(bound: float) -> Initializer:
    """Uniform distribution on [-bound, bound)."""

    def init(key, shape, dtype=jnp.float32):
        if (pools := _POOLS.get()) is None:
            return jax.random.uniform(key, shape, dtype, -bound, bound)
        return (bound * (2 * pools["uniform"].take(shape) - 1)).astype(dtype)

    return init


def normal(stddev: float, mean: float = 0.0) -> Initializer:
    """Normal distribution."""

    def init(key, shape, dtype=jnp.float32):
        if (pools := _POOLS.get()) is None:
            return mean + stddev * jax.random.normal(key, shape, dtype)
        return (mean + stddev * pools["normal"].take(shape)).astype(dtype)

    return init


def uniform_fan_in(fan_in: int) -> Initializer:
    """PyTorch's default for weights and biases: uniform within 1 / sqrt(fan_in)."""
    return uniform(fan_in**-0.5)


def he_normal_out(key, shape, dtype=jnp.float32) -> Array:
    """Kaiming's normal distribution over the outputs of a kernel ``[*, in, out]``."""
    fan_out = prod(shape) // shape[-2]
    return normal((2 / fan_out) ** 0.5)(key, shape, dtype)


@contextmanager
def _drawing_from(pools: dict[str, _Pool]):
    token = _POOLS.set(pools)
    try:
        yield
    finally:
        _POOLS.reset(token)
