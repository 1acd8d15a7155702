"""The encoder-decoders of DRAEM (ICCV 2021) and RIAD (Pattern Recognition 2021)."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from anojax.errors import AnojaxError
from anojax.nn.blocks import (
    Conv,
    ConvNorm,
    ConvTranspose,
    Network,
    max_pool_2x2,
)
from anojax.nn.init import normal
from anojax.nn.resize import resize_bilinear

DRAEM_INIT = {
    "kernel_init": normal(0.02),
    "scale_init": normal(0.02, mean=1.0),
}


class ReconstructiveUNet(Network):
    """DRAEM's reconstructive network: no skips, so that all passes the bottleneck.

    Sides must be multiples of 16. The output is linear.
    """

    channels: int = 3
    """Channels of the reconstruction."""
    width: int = 128
    """Channels of the first block; the deepest has eight times as many."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h w k"]:
        check_sides(x, 16)
        w, conv = self.width, _layer(self, train, **DRAEM_INIT)
        for level, size in enumerate((w, 2 * w, 4 * w, 8 * w, 8 * w), start=1):
            x = x if level == 1 else max_pool_2x2(x)
            x = conv(size, f"down{level}a")(x)
            x = conv(size, f"down{level}b")(x)
        for level, size in zip((4, 3, 2, 1), (8 * w, 4 * w, 2 * w, w), strict=True):
            x = conv(size, f"up{level}")(_twice(x))
            x = conv(size, f"up{level}a")(x)
            x = conv(max(size // 2, w), f"up{level}b")(x)
        return _head(self, self.channels, DRAEM_INIT["kernel_init"])(x)


class DiscriminativeUNet(Network):
    """DRAEM's discriminative network: logits of normal and anomalous for every pixel.

    The paper's input is the reconstruction followed by the image, on the channel
    axis. Sides must be multiples of 32.
    """

    classes: int = 2
    width: int = 64
    """Channels of the first block; the deepest has eight times as many."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h w k"]:
        check_sides(x, 32)
        w, conv = self.width, _layer(self, train, **DRAEM_INIT)
        skips = []
        for level, size in enumerate((w, 2 * w, 4 * w, 8 * w, 8 * w, 8 * w), start=1):
            x = x if level == 1 else max_pool_2x2(x)
            x = conv(size, f"down{level}a")(x)
            x = conv(size, f"down{level}b")(x)
            skips.append(x)
        for level, size in zip((5, 4, 3, 2, 1), (8, 4, 2, 1, 1), strict=True):
            x = conv(size * w, f"up{level}")(_twice(x))
            x = jnp.concatenate([x, skips[level - 1]], -1)
            x = conv(size * w, f"up{level}a")(x)
            x = conv(size * w, f"up{level}b")(x)
        return _head(self, self.classes, DRAEM_INIT["kernel_init"])(x)


class InpaintingUNet(Network):
    """RIAD's U-Net: strided convolutions down, transposed ones up, tanh at the end.

    Sides must be multiples of 16.
    """

    channels: int = 3
    """Channels of the result, which lies in (-1, 1)."""
    width: int = 64
    """Channels of the first block; the deepest has eight times as many."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h w k"]:
        check_sides(x, 16)
        w, conv = self.width, _layer(self, train)
        skips = []
        for level, size in enumerate((w, 2 * w, 4 * w, 8 * w, 8 * w), start=1):
            first = {} if level == 1 else {"kernel": 4, "stride": 2}
            x = conv(size, f"down{level}a", **first)(x)
            x = conv(size, f"down{level}b")(x)
            skips.append(x)
        for level, size in zip((4, 3, 2, 1), (8 * w, 4 * w, 2 * w, w), strict=True):
            x = ConvTranspose(features=size, dtype=self.dtype, name=f"up{level}")(x)
            x = jnp.concatenate([x, skips[level - 1]], -1)
            x = conv(size, f"up{level}a")(x)
            x = conv(size, f"up{level}b")(x)
        return jnp.tanh(_head(self, self.channels)(x))


def check_sides(x: Float[Array, "b h w c"], multiple: int) -> None:
    """Raise unless both sides are multiples of `multiple`.

    Raises:
      AnojaxError: they are not.
    """
    _, h, w, _ = x.shape
    if h % multiple or w % multiple:
        raise AnojaxError(
            f"the network cannot halve images of {h} x {w} px often enough; resize "
            f"them so that both sides are multiples of {multiple}"
        )


def _layer(parent: Network, train: bool, **init) -> Callable:
    """``conv(features, name)``: a `ConvNorm` of `parent`, as a function of the input."""

    def conv(features: int, name: str, **size) -> Callable[[Array], Array]:
        layer = ConvNorm(
            features=features,
            dtype=parent.dtype,
            axis_name=parent.axis_name,
            name=name,
            **init,
            **size,
        )
        return partial(layer, train=train)

    return conv


def _twice(x: Array) -> Array:
    _, h, w, _ = x.shape
    return resize_bilinear(x, (2 * h, 2 * w), align_corners=True)


def _head(parent: Network, features: int, kernel_init=None) -> Callable:
    """The last convolution, back in float32."""
    conv = Conv(
        features=features, kernel_init=kernel_init, dtype=parent.dtype, name="head"
    )
    return lambda x: conv(x).astype(jnp.float32)
