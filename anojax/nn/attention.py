"""Attention of a feature map to itself, as in the U-Nets of diffusion models."""

from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from anojax.errors import AnojaxError
from anojax.nn.group_norm import GroupNorm
from anojax.nn.init import uniform_fan_in

# Of a head, at most: GPUs before Hopper have no larger kernel.
_FLASH_CHANNELS = 128


class SelfAttention(nn.Module, kw_only=True):
    """Normalization, attention over all places with several heads, and the input again.

    Parameters have the names of diffusers: ``group_norm``, ``to_q``, ``to_k``,
    ``to_v`` and ``to_out_0``.
    """

    heads: int
    head_dim: int
    """Channels per head; queries and keys are scaled by its root."""
    groups: int | None = 32
    """Of the normalization; ``None``: none."""
    eps: float = 1e-5
    output_scale: float = 1.0
    """The sum of input and attention is divided by this."""
    zero_init: bool = False
    """Whether a fresh block returns its input."""
    flash: bool = False
    """Never hold the matrix of all pairs of places; `attend` says what it needs."""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        _, h, _, c = x.shape
        inner = self.heads * self.head_dim
        y = x.astype(self.dtype)
        if self.groups is not None:
            y = GroupNorm(
                groups=self.groups, eps=self.eps, dtype=self.dtype, name="group_norm"
            )(y)
        y = rearrange(y, "b h w c -> b (h w) c")
        q, k, v = (
            rearrange(
                self._linear(name, inner, c)(y), "b t (n d) -> b t n d", n=self.heads
            )
            for name in ("to_q", "to_k", "to_v")
        )
        y = rearrange(attend(q, k, v, flash=self.flash), "b t n d -> b t (n d)")
        y = self._linear("to_out_0", c, inner, zero=self.zero_init)(y)
        y = x.astype(self.dtype) + rearrange(y, "b (h w) c -> b h w c", h=h)
        return y if self.output_scale == 1 else y / self.output_scale

    @nn.nowrap
    def _linear(self, name: str, features: int, fan_in: int, zero: bool = False):
        init = nn.initializers.zeros if zero else uniform_fan_in(fan_in)
        return nn.Dense(
            features, kernel_init=init, bias_init=init, dtype=self.dtype, name=name
        )


def attend(
    q: Float[Array, "b t n d"],
    k: Float[Array, "b s n d"],
    v: Float[Array, "b s n d"],
    *,
    flash: bool = False,
) -> Float[Array, "b t n d"]:
    """Scaled dot-product attention of `n` heads; scores and softmax are float32.

    `flash` takes the fused kernel of cuDNN: for NVIDIA GPUs, for bfloat16 and float16,
    and for heads whose channels are a multiple of 8 and at most 128. Anything else is an
    error, since the other form would take the memory that `flash` was to save.

    Args:
      q: queries of t places.
      k, v: keys and values of s places.
      flash: whether to take that kernel.

    Raises:
      AnojaxError: `flash` where that kernel does not exist.

    Example:
      >>> q = jnp.ones((1, 4, 2, 8))
      >>> attend(q, q, 3 * q).mean().item()
      3.0
    """
    if flash:
        _check_flash(q)
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return _mixed(q, k, v)


def _check_flash(q: Array) -> None:
    channels, platform = q.shape[-1], jax.default_backend()
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        raise AnojaxError(
            f"flash attention has no kernel for {q.dtype}; compute in bfloat16, or leave "
            "flash out"
        )
    if channels % 8 or channels > _FLASH_CHANNELS:
        raise AnojaxError(
            f"flash attention has no kernel for heads of {channels} channels; give a "
            f"multiple of 8 up to {_FLASH_CHANNELS}, or leave flash out"
        )
    if platform not in ("gpu", "cuda"):
        raise AnojaxError(
            f"flash attention needs an NVIDIA GPU and this is a {platform}; leave flash "
            "out"
        )


@jax.custom_vjp
def _mixed(q: Array, k: Array, v: Array) -> Array:
    scores = jnp.einsum("btnd,bsnd->bnts", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5).astype(v.dtype)
    return jnp.einsum("bnts,bsnd->btnd", weights, v)


def _mixed_to_learn(q: Array, k: Array, v: Array) -> Array:
    """The same, divided after the second product: with its gradient, what is as large as
    all pairs of places is touched less often. Forward alone, softmax is faster."""
    q = (q * q.shape[-1] ** -0.5).astype(q.dtype)
    scores = jnp.einsum("btnd,bsnd->bnts", q, k, preferred_element_type=jnp.float32)
    weights = jnp.exp(scores - lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = rearrange(weights.sum(-1), "b n t -> b t n 1")
    mixed = jnp.einsum(
        "bnts,bsnd->btnd",
        weights.astype(v.dtype),
        v,
        preferred_element_type=jnp.float32,
    )
    return (mixed / total).astype(v.dtype)


_mixed.defvjp(
    lambda *given: jax.vjp(_mixed_to_learn, *given),
    lambda backward, cotangent: backward(cotangent),
)
