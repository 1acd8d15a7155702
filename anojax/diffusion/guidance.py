"""Steering a network: by the gradient of a classifier, or by its own condition."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from anojax.diffusion.prediction import Images
from anojax.diffusion.samplers import Guide, Model
from anojax.types import PyTree

Weight = float | Float[Array, " b"]
"""One weight, or one per example."""


def classifier(
    logits: Callable[[Array, Array], Array],
    labels: Int[Array, " b"],
    weight: Weight = 1.0,
) -> Guide:
    """A guide towards classes, for `samplers.sample` (`Dhariwal & Nichol 2021
    <https://arxiv.org/abs/2105.05233>`_).

    Args:
      logits: a classifier of noisy images: ``(x [b h w c], t [b]) -> [b k]``.
      labels: the class that each example should get.
      weight: of the gradient; 0 is no guidance.

    Returns:
      ``weight`` times the gradient of log p(label | x, t) by x.
    """

    def likelihood(x, t):
        each = jax.nn.log_softmax(logits(x, t).astype(jnp.float32), axis=-1)
        return jnp.sum(jnp.take_along_axis(each, labels[:, None], axis=-1))

    def guide(x: Images, t: Array) -> Images:
        return _shaped(weight) * jax.grad(likelihood)(x, t)

    return guide


def combine(
    unconditional: Float[Array, "b h w c"],
    conditional: Float[Array, "b h w c"],
    weight: Weight,
) -> Float[Array, "b h w c"]:
    """``u + weight (c - u)``: 0 is without a condition, 1 with, more exaggerates it.

    Example:
      >>> import jax.numpy as jnp
      >>> float(combine(jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)), 7.5).max())
      7.5
    """
    return unconditional + _shaped(weight) * (conditional - unconditional)


def classifier_free(
    model: Callable[[Array, Array, Any], Array],
    condition: PyTree,
    null: PyTree,
    weight: Weight,
) -> Model:
    """A model that is guided by its own condition (`Ho & Salimans 2022
    <https://arxiv.org/abs/2207.12598>`_), with Stable Diffusion's scale: 1 is the
    condition as it is.

    The network runs once on a batch of twice the size. Where it learns a variance too,
    that of the condition is taken.

    Args:
      model: ``(x [b h w c], t [b], condition) -> [b h w k]``.
      condition: arrays with a leading axis B.
      null: the same with what the network knows as no condition.
      weight: of the condition.
    """

    def guided(x: Images, t: Array) -> Float[Array, "b h w k"]:
        def twice(a, b):
            return jnp.concatenate([a, b])

        both = model(twice(x, x), twice(t, t), jax.tree.map(twice, null, condition))
        without, given = jnp.split(both, 2)
        c = x.shape[-1]
        mean = combine(without[..., :c], given[..., :c], weight)
        return jnp.concatenate([mean, given[..., c:]], axis=-1)

    return guided


def _shaped(weight: Weight) -> Array | float:
    return weight if isinstance(weight, float | int) else weight[:, None, None, None]
