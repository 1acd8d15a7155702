"""The parts of denoising U-Nets, under the names that diffusers gives them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn
from jaxtyping import Array, Float, Int

from anojax.nn.attention import SelfAttention
from anojax.nn.diffusion_config import UNet2DConfig
from anojax.nn.group_norm import GroupNorm
from anojax.nn.init import normal, uniform_fan_in

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": nn.silu,
    "swish": nn.silu,
    "mish": lambda x: x * jnp.tanh(nn.softplus(x)),
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "relu": nn.relu,
}


class UNetBlock(nn.Module, kw_only=True):
    """What a U-Net and its parts share."""

    config: UNet2DConfig
    dtype: Any = jnp.float32
    """Precision of the arithmetic: float32 or bfloat16. Normalization and softmax are
    float32 in any case."""
    remat: bool = False
    """Whether the backward pass computes every block anew instead of storing it."""
    zero_init: bool = True
    """Whether fresh residual blocks, attention and the output are zero (ADM)."""
    flash: bool = False
    """Attention without the matrix of all pairs; `attend` says what it needs."""

    @nn.nowrap
    def shared(self) -> dict[str, Any]:
        """What every part is built with."""
        return {
            "config": self.config,
            "dtype": self.dtype,
            "remat": self.remat,
            "zero_init": self.zero_init,
            "flash": self.flash,
        }

    @nn.nowrap
    def conv(
        self,
        name: str,
        x: Float[Array, "b h w c"],
        features: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        zero: bool = False,
    ) -> Float[Array, "b i j k"]:
        """Convolve `x`; `padding` is (before, after), by default (kernel - 1) // 2."""
        fan_in = kernel * kernel * x.shape[-1]
        init = nn.initializers.zeros if zero else uniform_fan_in(fan_in)
        return nn.Conv(
            features,
            (kernel, kernel),
            strides=stride,
            padding=[padding or ((kernel - 1) // 2,) * 2] * 2,
            kernel_init=init,
            bias_init=init,
            dtype=self.dtype,
            name=name,
        )(x)

    @nn.nowrap
    def linear(
        self, name: str, x: Float[Array, "b c"], features: int
    ) -> Float[Array, "b k"]:
        """Apply a linear layer."""
        init = uniform_fan_in(x.shape[-1])
        return nn.Dense(
            features, kernel_init=init, bias_init=init, dtype=self.dtype, name=name
        )(x)

    @nn.nowrap
    def norm(self, name: str) -> GroupNorm:
        """The usual normalization."""
        c = self.config
        return GroupNorm(
            groups=c.norm_num_groups, eps=c.norm_eps, dtype=self.dtype, name=name
        )

    @nn.nowrap
    def resnet(
        self, name: str, x: Array, emb: Array, train: bool, **settings
    ) -> Float[Array, "b i j k"]:
        """Apply a `ResnetBlock`."""
        kind = _RematResnet if self.remat else ResnetBlock
        return kind(name=name, **settings, **self.shared())(x, emb, train)

    @nn.nowrap
    def attention(
        self, name: str, x: Float[Array, "b h w c"], **settings
    ) -> Float[Array, "b h w c"]:
        """Apply a `SelfAttention` with the configured heads."""
        kind = _RematAttention if self.remat else SelfAttention
        width = self.config.attention_head_dim or x.shape[-1]
        settings = {"groups": self.config.norm_num_groups} | settings
        return kind(
            heads=x.shape[-1] // width,
            head_dim=width,
            eps=self.config.norm_eps,
            zero_init=self.zero_init,
            flash=self.flash,
            dtype=self.dtype,
            name=name,
            **settings,
        )(x)


class ResnetBlock(UNetBlock):
    """Two convolutions about the embedding of time and class, and the input again."""

    features: int
    resample: str | None = None
    """``"up"``: twice the sides, by repetition; ``"down"``: half, by 2 x 2 means."""
    output_scale: float = 1.0
    """The sum of both ways is divided by this."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], emb: Float[Array, "b d"], train: bool
    ) -> Float[Array, "b i j k"]:
        c, act = self.config, ACTIVATIONS[self.config.act_fn]
        y = act(self.norm("norm1")(x))
        if self.resample is not None:
            change = {"up": upsample_nearest_2x, "down": avg_pool_2x2}[self.resample]
            x, y = change(x), change(y)
        y = self.conv("conv1", y, self.features)
        modulated = c.resnet_time_scale_shift == "scale_shift"
        size = self.features * (2 if modulated else 1)
        emb = self.linear("time_emb_proj", act(emb), size)
        if modulated:
            scale, shift = jnp.split(emb, 2, -1)
            y = self.norm("norm2")(y, (scale, shift))
        else:
            y = self.norm("norm2")(y + emb[:, None, None])
        y = nn.Dropout(c.dropout, deterministic=not train)(act(y))
        y = self.conv("conv2", y, self.features, zero=self.zero_init)
        if x.shape[-1] != self.features:
            x = self.conv("conv_shortcut", x, self.features, kernel=1)
        y = x + y
        return y if self.output_scale == 1 else y / self.output_scale


_RematResnet = nn.remat(ResnetBlock, static_argnums=(3,))
_RematAttention = nn.remat(SelfAttention)


class Resampler(UNetBlock):
    """A convolution that halves both sides, or doubles them after repetition."""

    down: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
        if not self.down:
            return self.conv("conv", upsample_nearest_2x(x), x.shape[-1])
        padding = (1, 1) if self.config.downsample_padding else (0, 1)
        return self.conv("conv", x, x.shape[-1], stride=2, padding=padding)


class DownBlock(UNetBlock):
    """One level on the way down."""

    level: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], emb: Float[Array, "b d"], train: bool
    ) -> tuple[Float[Array, "b i j k"], list[Float[Array, "b _ _ k"]]]:
        """The result, and what the way up takes from here, in order."""
        kind = self.config.down_block_types[self.level]
        features = self.config.block_out_channels[self.level]
        skips = []
        for i in range(self.config.layers_per_block):
            x = self.resnet(f"resnets_{i}", x, emb, train, features=features)
            if kind.startswith("Attn"):
                x = self.attention(f"attentions_{i}", x)
            skips.append(x)
        if self.level + 1 < len(self.config.block_out_channels):
            how = {"features": features, "resample": "down"}
            if self.config.resamples_by(kind) == "resnet":
                x = self.resnet("downsamplers_0", x, emb, train, **how)
            else:
                x = Resampler(down=True, name="downsamplers_0", **self.shared())(x)
            skips.append(x)
        return x, skips


class MidBlock(UNetBlock):
    """The middle: attention between two residual blocks."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], emb: Float[Array, "b d"], train: bool
    ) -> Float[Array, "b h w c"]:
        c = self.config
        scale = {"output_scale": float(c.mid_block_scale_factor)}
        how = {"features": x.shape[-1], **scale}
        x = self.resnet("resnets_0", x, emb, train, **how)
        if c.add_attention:
            groups = c.attn_norm_num_groups
            if groups is None and c.resnet_time_scale_shift == "default":
                groups = c.norm_num_groups
            x = self.attention("attentions_0", x, groups=groups, **scale)
        return self.resnet("resnets_1", x, emb, train, **how)


class UpBlock(UNetBlock):
    """One level on the way up; level 0 is the deepest."""

    level: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        skips: list[Float[Array, "b h w _"] | None],
        emb: Float[Array, "b d"],
        train: bool,
    ) -> Float[Array, "b i j k"]:
        """`skips` are those of this level, in the order of use; ``None``: no skip."""
        kind = self.config.up_block_types[self.level]
        features = self.config.block_out_channels[::-1][self.level]
        for i, skip in enumerate(skips):
            if skip is not None:
                x = jnp.concatenate([x, skip], -1)
            x = self.resnet(f"resnets_{i}", x, emb, train, features=features)
            if kind.startswith("Attn"):
                x = self.attention(f"attentions_{i}", x)
        if self.level + 1 < len(self.config.block_out_channels):
            how = {"features": features, "resample": "up"}
            if self.config.resamples_by(kind) == "resnet":
                x = self.resnet("upsamplers_0", x, emb, train, **how)
            else:
                x = Resampler(down=False, name="upsamplers_0", **self.shared())(x)
        return x


class Embedding(UNetBlock):
    """Two linear layers on projected time."""

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
        size = self.config.embedding_dim
        return self.linear("linear_2", nn.silu(self.linear("linear_1", x, size)), size)


class FourierTime(nn.Module, kw_only=True):
    """Sines and cosines of the logarithm of noise levels, at fixed random frequencies
    (Song et al., ICLR 2021)."""

    size: int
    scale: float = 16.0

    @nn.compact
    def __call__(self, t: Float[Array, " b"]) -> Float[Array, "b 2*{self.size}"]:
        init = normal(self.scale)
        weight = jax.lax.stop_gradient(self.param("weight", init, (self.size,)))
        angle = jnp.log(t)[:, None] * weight[None] * 2 * np.float32(np.pi)
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def positional_time(
    t: Float[Array, " b"], size: int, *, cosine_first: bool, shift: float
) -> Float[Array, "b {size}"]:
    """Sines and cosines of `t` at wavelengths from 2 pi to 20000 pi (Ho et al., 2020).

    With `shift` 1 the longest wavelength is reached, with 0 it is the next one.

    Args:
      t: timesteps.
      size: channels of the result.
      cosine_first: cosines come before sines.
      shift: 1 or 0, see above.
    """
    half = size // 2
    exponents = np.arange(half, dtype=np.float32) / np.float32(half - shift)
    frequencies = np.exp(np.float32(-np.log(10_000)) * exponents)
    angle = t[:, None] * frequencies[None]
    waves = [jnp.sin(angle), jnp.cos(angle)]
    found = jnp.concatenate(waves[::-1] if cosine_first else waves, -1)
    return jnp.pad(found, ((0, 0), (0, size % 2)))


def upsample_nearest_2x(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Every pixel as a block of 2 x 2.

    Example:
      >>> row = jnp.asarray([1.0, 2.0]).reshape(1, 1, 2, 1)
      >>> upsample_nearest_2x(row)[0, ..., 0].tolist()
      [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """
    b, h, w, c = x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return rearrange(blocks, "b h i w j c -> b (h i) (w j) c")


def avg_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """The mean of every block of 2 x 2; sides must be even."""
    x = rearrange(x, "b (h i) w c -> b h i w c", i=2)
    x = rearrange(x[:, :, 0] + x[:, :, 1], "b h (w j) c -> b h w j c", j=2)
    return (x[..., 0, :] + x[..., 1, :]) / 4


Timesteps = Float[Array, " b"] | Int[Array, " b"]
ClassLabels = Int[Array, " b"] | Float[Array, " b"] | Float[Array, "b d"]
