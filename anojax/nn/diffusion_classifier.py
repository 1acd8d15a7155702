"""The classifier that steers diffusion (ADM): half a U-Net with attention pooling."""

from typing import Any

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float

from anojax.errors import AnojaxError
from anojax.nn.attention import attend
from anojax.nn.diffusion_blocks import Timesteps
from anojax.nn.diffusion_unet import UNetEncoder
from anojax.nn.init import normal, uniform_fan_in


class UNetClassifier(UNetEncoder):
    """Logits of the class of a noisy image at its time step.

    Of the configuration the way up and the output are not used. ADM's classifier at
    256 px is ``adm_config(width=128, sample_size=256)``.
    """

    classes: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        timesteps: Timesteps,
        *,
        train: bool = False,
    ) -> Float[Array, "b k"]:
        """Float32 logits; `x` in [-1, 1] must have the configured size, if there is one.

        Raises:
          AnojaxError: the size or the channels do not fit.
        """
        c, (_, h, w, _) = self.config, x.shape
        size = (c.sample_size,) * 2 if isinstance(c.sample_size, int) else c.sample_size
        if size is not None and (h, w) != size:
            raise AnojaxError(
                f"the classifier takes images of {size[0]} x {size[1]} px, not {h} x "
                f"{w}: its places have numbers; resize them, or change sample_size"
            )
        x, _ = self.encode(x, self.embed(timesteps, None), train)
        x = nn.silu(self.norm("conv_norm_out")(x))
        pool = AttentionPool(
            features=self.classes,
            head_dim=c.attention_head_dim or x.shape[-1],
            dtype=self.dtype,
            name="pool",
        )
        return pool(x).astype(jnp.float32)


class AttentionPool(nn.Module, kw_only=True):
    """What the mean of a feature map finds when it attends to all places and itself
    (CLIP)."""

    features: int
    head_dim: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        _, h, w, c = x.shape
        x = rearrange(x, "b h w c -> b (h w) c")
        x = jnp.concatenate([x.mean(1, keepdims=True), x], 1)
        init = normal(c**-0.5)
        places = self.param("positional_embedding", init, (c, h * w + 1))
        x = (x + places.T[None].astype(x.dtype)).astype(self.dtype)
        x = self._linear("qkv_proj", 3 * c, c)(x)
        x = rearrange(x, "b t (p n d) -> b t p n d", p=3, d=self.head_dim)
        found = attend(x[:, :1, 0], x[:, :, 1], x[:, :, 2])
        found = rearrange(found, "b 1 n d -> b (n d)")
        return self._linear("c_proj", self.features, c)(found)

    @nn.nowrap
    def _linear(self, name: str, features: int, fan_in: int) -> nn.Dense:
        init = uniform_fan_in(fan_in)
        return nn.Dense(
            features, kernel_init=init, bias_init=init, dtype=self.dtype, name=name
        )
