"""Residual networks (torchvision's, with the stride in the 3 x 3 convolution), and the
encoder-decoder of NSA (ECCV 2022) that is built on one.

Layers carry torchvision's names, so that its checkpoints load by a short map.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from anojax.nn.blocks import (
    Conv,
    ConvNorm,
    ConvTranspose,
    Network,
    batch_norm,
    dense,
)
from anojax.nn.init import he_normal_out
from anojax.nn.resize import resize_bilinear
from anojax.nn.unet import check_sides

Tap = Literal["layer1", "layer2", "layer3", "layer4", "pooled", "logits"]
STAGES = ("layer1", "layer2", "layer3", "layer4")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_normalize(image: Float[Array, "*b h w c"]) -> Float[Array, "*b h w 3"]:
    """What networks trained on ImageNet expect, from images in [0, 1].

    One-channel images become gray RGB.
    """
    shape = (1,) * (image.ndim - 1) + (3,)
    mean = np.asarray(IMAGENET_MEAN, np.float32).reshape(shape)
    std = np.asarray(IMAGENET_STD, np.float32).reshape(shape)
    rgb = jnp.broadcast_to(image, (*image.shape[:-1], 3))
    return (rgb - mean) / std


class ResNet(Network):
    """Residual network that returns the activations requested, by name.

    ``layer1`` to ``layer4`` are the outputs of the four stages after their last ReLU,
    at strides 4, 8, 16 and 32; ``pooled`` is the mean over ``layer4``, ``logits`` the
    classifier on it. What lies behind the last of them is not built.
    """

    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Blocks per stage."""
    bottleneck: bool = False
    width: int = 64
    """Channels of the stem and of ``layer1`` (four times as many with bottlenecks)."""
    widening: int = 1
    """Factor on the inner channels of the bottlenecks."""
    classes: int = 1000
    """Size of ``logits``."""
    taps: tuple[Tap, ...] = ("layer4",)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are built."""
        deepest = max(
            STAGES.index(tap) if tap in STAGES else len(STAGES) - 1 for tap in self.taps
        )
        return STAGES[: deepest + 1]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> dict[str, Float[Array, "b ..."]]:
        found = {}
        x = Conv(
            features=self.width,
            kernel=7,
            stride=2,
            use_bias=False,
            kernel_init=he_normal_out,
            dtype=self.dtype,
            name="conv1",
        )(x)
        x = nn.relu(batch_norm(self, "bn1", train)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for depth, stage in enumerate(self.stages):
            for i in range(self.blocks[depth]):
                x = ResidualBlock(
                    width=self.width * 2**depth,
                    stride=2 if depth > 0 and i == 0 else 1,
                    bottleneck=self.bottleneck,
                    widening=self.widening,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"{stage}_{i}",
                )(x, train)
            found[stage] = x
        if "pooled" in self.taps or "logits" in self.taps:
            found["pooled"] = x.mean((1, 2), dtype=jnp.float32)
        if "logits" in self.taps:
            pooled = found["pooled"]
            found["logits"] = dense(self, "fc", self.classes, x.shape[-1])(pooled)
        return {tap: found[tap].astype(jnp.float32) for tap in self.taps}


class ResidualBlock(Network):
    """Two 3 x 3 convolutions, or a bottleneck of 1 x 1, 3 x 3 and 1 x 1."""

    width: int
    stride: int = 1
    bottleneck: bool = False
    widening: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b i j k"]:
        inner = self.width * self.widening
        if self.bottleneck:
            out = 4 * self.width
            sizes = [(inner, 1, 1), (inner, 3, self.stride), (out, 1, 1)]
        else:
            out = self.width
            sizes = [(out, 3, self.stride), (out, 3, 1)]
        y = x
        for i, (features, kernel, stride) in enumerate(sizes, start=1):
            y = self._conv(features, kernel, stride, f"conv{i}")(y)
            y = batch_norm(self, f"bn{i}", train)(y)
            y = nn.relu(y) if i < len(sizes) else y
        if self.stride != 1 or x.shape[-1] != out:
            x = self._conv(out, 1, self.stride, "downsample_conv")(x)
            x = batch_norm(self, "downsample_bn", train)(x)
        return nn.relu(x + y)

    def _conv(self, features: int, kernel: int, stride: int, name: str) -> Conv:
        return Conv(
            features=features,
            kernel=kernel,
            stride=stride,
            use_bias=False,
            kernel_init=he_normal_out,
            dtype=self.dtype,
            name=name,
        )


ARCHITECTURES = {
    "resnet18": {"blocks": (2, 2, 2, 2)},
    "resnet34": {"blocks": (3, 4, 6, 3)},
    "resnet50": {"blocks": (3, 4, 6, 3), "bottleneck": True},
    "wide_resnet50_2": {"blocks": (3, 4, 6, 3), "bottleneck": True, "widening": 2},
}


class ResNetAutoencoder(Network):
    """NSA's network: a ResNet-18 without its head, a bottleneck, and a decoder.

    One value per pixel without activation: a logit, or the input of a ReLU, as the
    training target asks. No skips. Sides must be multiples of 32.
    """

    width: int = 64
    """Channels of the encoder's first stage, a multiple of 4."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b h w 1"]:
        check_sides(x, 32)
        shared = {"dtype": self.dtype, "axis_name": self.axis_name}
        x = ResNet(width=self.width, name="encoder", **shared)(x, train)["layer4"]
        for i, features in enumerate((4 * self.width, 2 * self.width), start=1):
            x = nn.relu(
                Conv(
                    features=features,
                    kernel=1,
                    use_bias=False,
                    kernel_init=he_normal_out,
                    dtype=self.dtype,
                    name=f"bottleneck{i}",
                )(x)
            )
        for i, features in enumerate((self.width, self.width // 2, self.width // 4)):
            x = ResidualUpBlock(features=features, name=f"up{i}", **shared)(x, train)
        _, h, w, _ = x.shape
        x = resize_bilinear(x, (2 * h, 2 * w), align_corners=True)
        x = ConvTranspose(
            features=1, kernel=7, use_bias=False, dtype=self.dtype, name="head"
        )(x)
        return x.astype(jnp.float32)


class ResidualUpBlock(Network):
    """Residual block that doubles both sides by transposed convolutions."""

    features: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> Float[Array, "b i j k"]:
        def up(kernel: int, name: str) -> ConvTranspose:
            return ConvTranspose(
                features=self.features,
                kernel=kernel,
                use_bias=False,
                dtype=self.dtype,
                name=name,
            )

        y = nn.relu(batch_norm(self, "bn1", train)(up(3, "conv1")(x)))
        y = ConvNorm(
            features=self.features,
            use_bias=False,
            relu=False,
            kernel_init=he_normal_out,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="conv2",
        )(y, train)
        x = batch_norm(self, "shortcut_bn", train)(up(1, "shortcut")(x))
        return nn.relu(x + y)
