"""Group normalization in few passes over the image."""

from typing import Any

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float


class GroupNorm(nn.Module, kw_only=True):
    """Normalizes groups of neighboring channels over the whole image.

    Statistics are float32 whatever `dtype` is, and in two passes: the mean, then the
    mean square about it. They are summed per channel first, which leaves whole rows of
    channels to the vector unit. All that follows is one multiplication and one addition
    per number, a modulation of the result included.
    """

    groups: int = 32
    eps: float = 1e-5
    dtype: Any = jnp.float32
    """Precision of the result."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        modulation: tuple[Float[Array, "b c"], Float[Array, "b c"]] | None = None,
    ) -> Float[Array, "b h w c"]:
        """The normalized image y, or ``y * (1 + scale) + shift`` of a modulation."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        y = x.astype(jnp.float32)
        mean = self._over_groups(y)
        variance = self._over_groups(jnp.square(y - mean[:, None, None]))
        factor = scale[None] / jnp.sqrt(variance + self.eps)
        offset = bias[None] - mean * factor
        if modulation is not None:
            gain = 1 + modulation[0].astype(jnp.float32)
            factor, offset = factor * gain, offset * gain
            offset += modulation[1].astype(jnp.float32)
        y = y * factor[:, None, None] + offset[:, None, None]
        return y.astype(self.dtype)

    @nn.nowrap
    def _over_groups(self, x: Array) -> Array:
        """Mean over every group of every image, ``[b, c]``."""
        found = rearrange(x.mean((1, 2)), "b (g s) -> b g s", g=self.groups)
        found = jnp.broadcast_to(found.mean(-1, keepdims=True), found.shape)
        return rearrange(found, "b g s -> b (g s)")
