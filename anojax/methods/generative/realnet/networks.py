"""The networks of RealNet's detector (CVPR 2024): what chooses features, restores them,
ranks what could not be restored, and sees defects in that.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int, Key

from anojax.errors import SettingError
from anojax.nn.attention import SelfAttention
from anojax.nn.blocks import Conv, ConvNorm, ConvTranspose, Network
from anojax.nn.diffusion_blocks import avg_pool_2x2
from anojax.nn.group_norm import GroupNorm
from anojax.nn.init import init_network
from anojax.nn.resize import resize_bilinear
from anojax.nn.resnet import ARCHITECTURES, STAGES, ResNet, imagenet_normalize
from anojax.nn.unet import check_sides
from anojax.types import PyTree

Maps = dict[str, Float[Array, "b _ _ _"]]
Blocks = tuple[Float[Array, "b _ _ _"], ...]
Selection = dict[str, Int[Any, " _"]]

EPSILON = 1e-4


@dataclass(frozen=True)
class SelectedFeatures:
    """Channels chosen from the stages of a frozen residual network, in blocks.

    A block holds the stages that are brought to one stride, and is restored by one
    network. Blocks come in the order of their strides.
    """

    backbone: str = "wide_resnet50_2"
    """One of `anojax.nn.resnet.ARCHITECTURES`."""
    width: int = 64
    """Channels of its stem; published weights have 64."""
    selected: tuple[int, ...] = (256, 512, 512, 256)
    """Channels chosen of ``layer1`` to ``layer4``; 0: the stage is not used."""
    strides: tuple[int, ...] = (4, 8, 16, 32)
    """In px of the image, of the block that each stage belongs to."""
    halvings: int = 2
    """How often the sides of a block are halved when it is restored."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The stages that are used."""
        return tuple(s for s, m in zip(STAGES, self.selected, strict=True) if m)

    @property
    def blocks(self) -> dict[int, tuple[str, ...]]:
        """The stages of every block, by its stride, in ascending order."""
        own = dict(zip(STAGES, self.strides, strict=True))
        strides = sorted({own[layer] for layer in self.layers})
        return {s: tuple(n for n in self.layers if own[n] == s) for s in strides}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Channels of every block."""
        chosen = dict(zip(STAGES, self.selected, strict=True))
        return tuple(sum(chosen[n] for n in names) for names in self.blocks.values())

    @property
    def side_multiple(self) -> int:
        """What the sides of images must be multiples of, in px."""
        return max(self.blocks) * 2**self.halvings

    def check(self) -> None:
        """Raise unless every stage has the channels that are requested of it.

        Raises:
          SettingError: it has not, or no stage is used at all.
        """
        for layer, requested in zip(STAGES, self.selected, strict=True):
            if requested > (have := self.channels(layer)):
                raise SettingError(
                    f"realnet: selected asks for {requested} channels of {layer}, but "
                    f"{self.backbone} with a width of {self.width} has {have}; ask for "
                    "at most as many"
                )
        if not self.layers:
            raise SettingError(
                "realnet: selected asks for no channel of any stage; give at least one "
                "number above 0"
            )

    def channels(self, layer: str) -> int:
        """How many channels a stage has."""
        wide = 4 if ARCHITECTURES[self.backbone].get("bottleneck", False) else 1
        return self.width * 2 ** STAGES.index(layer) * wide

    def init(self, key: Key[Array, ""]) -> PyTree:
        """Random variables of the whole backbone, as they are read from files."""
        x = jnp.zeros((1, 64, 64, 3), jnp.float32)
        return init_network(self._network(("layer4",)), key, x, False)

    def first(self) -> dict[str, Int[Array, " _"]]:
        """The first channels of every stage, where nothing has been measured yet."""
        chosen = dict(zip(STAGES, self.selected, strict=True))
        return {n: jnp.arange(chosen[n], dtype=jnp.int32) for n in self.layers}

    def maps(
        self, variables: PyTree, images: Float[Array, "b h w c"], dtype: Any
    ) -> Maps:
        """All channels of the stages that are used, at the stride of their block.

        Args:
          variables: of the backbone.
          images: in [0, 1]; sides must be multiples of `side_multiple`.
          dtype: that the backbone computes in.
        """
        check_sides(images, self.side_multiple)
        x = imagenet_normalize(images)
        found = self._network(self.layers, dtype).apply(variables, x, False)
        _, h, w, _ = images.shape
        return {
            name: resize_bilinear(
                found[name], (h // stride, w // stride), align_corners=True
            )
            for stride, names in self.blocks.items()
            for name in names
        }

    def choose(self, maps: Maps, selection: Selection) -> Blocks:
        """The chosen channels of `maps`, put together to blocks."""
        return tuple(
            jnp.concatenate(
                [jnp.take(maps[n], selection[n], axis=-1, mode="clip") for n in names],
                axis=-1,
            )
            for names in self.blocks.values()
        )

    def _network(self, taps: tuple[str, ...], dtype: Any = jnp.float32) -> ResNet:
        how = ARCHITECTURES[self.backbone]
        return ResNet(width=self.width, taps=taps, dtype=dtype, **how)


def selection_losses(
    anomalous: Float[Array, "b h w c"],
    normal: Float[Array, "b h w c"],
    mask: Float[Array, "b i j 1"],
) -> Float[Array, " c"]:
    """How far every channel is from telling where the anomalies are (AFS).

    It is the mean squared difference between the mask and the squared change of the
    channel, which is first brought to [0, 1] by its extremes over the whole batch.

    Args:
      anomalous: features of the anomalies.
      normal: of the images that they were made from.
      mask: at any size that is a multiple of the features'.
    """
    _, h, w, _ = normal.shape
    _, i, j, _ = mask.shape
    small = mask[:, :: i // h, :: j // w]
    change = jnp.square(anomalous - normal)
    low = change.min((0, 1, 2), keepdims=True)
    high = change.max((0, 1, 2), keepdims=True)
    scaled = (change - low) / (high - low + EPSILON)
    return jnp.mean(jnp.square(scaled - small), axis=(0, 1, 2))


def select_by_rank(
    residual: Float[Array, "b h w c"],
    ranking: Float[Array, "b h w c"],
    *,
    by_max: int,
    by_mean: int,
) -> Float[Array, "b h w k"]:
    """The channels whose ranking is greatest, first by its peak, then by its mean (RRS).

    Every image has its own; both lists descend, and a channel may be in both.

    Args:
      residual: what is handed on.
      ranking: what decides.
      by_max: channels with the greatest maximum over the image.
      by_mean: channels with the greatest mean.
    """
    peaks = lax.top_k(ranking.max((1, 2)), by_max)[1]
    means = lax.top_k(ranking.mean((1, 2)), by_mean)[1]
    chosen = jnp.concatenate([peaks, means], -1)[:, None, None]
    return jnp.take_along_axis(residual, chosen, -1, mode="promise_in_bounds")


class FeatureBlock(Network):
    """Normalization, SiLU and one 3 x 3 convolution, and the input again."""

    features: int
    groups: int = 32
    resample: Literal["up", "down"] | None = None
    """``"up"``: twice the sides, by transposed convolutions of both ways; ``"down"``:
    half, by 2 x 2 means of both."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b i j k"]:
        y = nn.silu(GroupNorm(groups=self.groups, dtype=self.dtype, name="norm")(x))
        if self.resample == "down":
            x, y = avg_pool_2x2(x), avg_pool_2x2(y)
        elif self.resample == "up":
            x, y = self._up("up_input", x), self._up("up", y)
        y = Conv(features=self.features, dtype=self.dtype, name="conv")(y)
        if x.shape[-1] != self.features:
            x = Conv(
                features=self.features, kernel=1, dtype=self.dtype, name="shortcut"
            )(x)
        return x + y

    @nn.nowrap
    def _up(self, name: str, x: Array) -> Array:
        return ConvTranspose(features=x.shape[-1], dtype=self.dtype, name=name)(x)


class FeatureUNet(Network):
    """Puts features back to what they would be without a defect.

    A U-Net that attends at every level but the first, and in the middle. A fresh one
    returns zero. Sides must be divisible by two once less often than there are levels.
    """

    width: int
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of the levels, in multiples of `width`."""
    blocks: int = 2
    """Residual blocks of every level, on the way down; one more on the way up."""
    head_channels: int = 64
    groups: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        channels, sizes = x.shape[-1], [self.width * m for m in self.multipliers]
        x = Conv(features=sizes[0], dtype=self.dtype, name="stem")(x)
        skips = [x]
        for level, size in enumerate(sizes):
            if level:
                x = self._block(f"down{level}", x, x.shape[-1], resample="down")
                skips.append(x)
            for i in range(self.blocks):
                x = self._block(f"down{level}_{i}", x, size, attend=level > 0)
                skips.append(x)
        x = self._block("middle_0", x, sizes[-1], attend=True)
        x = self._block("middle_1", x, sizes[-1])
        for level, size in reversed([*enumerate(sizes)]):
            for i in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], -1)
                x = self._block(f"up{level}_{i}", x, size, attend=level > 0)
            if level:
                x = self._block(f"up{level}", x, size, resample="up")
        x = nn.silu(GroupNorm(groups=self.groups, dtype=self.dtype, name="norm")(x))
        return nn.Conv(
            channels,
            (3, 3),
            padding=1,
            kernel_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="out",
        )(x).astype(jnp.float32)

    @nn.nowrap
    def _block(self, name: str, x: Array, size: int, attend: bool = False, **how):
        made = FeatureBlock(
            features=size, groups=self.groups, dtype=self.dtype, name=name, **how
        )
        x = made(x)
        if not attend:
            return x
        return SelfAttention(
            heads=size // self.head_channels,
            head_dim=self.head_channels,
            groups=self.groups,
            zero_init=True,
            dtype=self.dtype,
            name=f"{name}_attention",
        )(x)


class RealnetNetwork(Network):
    """Restored features, and logits of normal and anomalous for every pixel.

    What differs between features and their restoration is squared. Of these residuals
    the most telling channels of each image are looked at. Batch normalization only
    ranks them: a wide channel does not win by its width. No gradient comes from there.
    """

    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    head_channels: int = 64
    groups: int = 32
    by_max: int = 256
    by_mean: int = 256

    @nn.compact
    def __call__(
        self, features: Blocks, shape: tuple[int, int], train: bool
    ) -> tuple[Blocks, Float[Array, "b h w 2"]]:
        """`shape` (h, w) is that of the images; the first block is the finest."""
        restored = tuple(
            FeatureUNet(
                width=x.shape[-1] // 2,
                multipliers=self.multipliers,
                blocks=self.blocks,
                head_channels=self.head_channels,
                groups=self.groups,
                dtype=self.dtype,
                name=f"restore{i}",
            )(x)
            for i, x in enumerate(features, start=1)
        )
        finest = features[0].shape[1:3]
        residual = jnp.concatenate(
            [
                resize_bilinear(jnp.square(x - y), finest, align_corners=True)
                for x, y in zip(features, restored, strict=True)
            ],
            axis=-1,
        )
        ranking = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.1,
            epsilon=1e-5,
            use_bias=False,
            use_scale=False,
            use_fast_variance=False,
            axis_name=self.axis_name,
            name="ranking",
        )(lax.stop_gradient(residual))
        chosen = select_by_rank(
            residual, ranking, by_max=self.by_max, by_mean=self.by_mean
        )
        head = DefectHead(dtype=self.dtype, axis_name=self.axis_name, name="head")
        return restored, head(chosen, shape, train)


class DefectHead(Network):
    """Logits of normal and anomalous, at the size of the image, from residuals."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], shape: tuple[int, int], train: bool
    ) -> Float[Array, "b i j 2"]:
        conv = partial(Conv, dtype=self.dtype)
        _, h, w, c = x.shape
        x = x.astype(self.dtype)
        for i in (1, 2):
            y = conv(features=c, use_bias=False, name=f"residual{i}a")(nn.relu(x))
            y = nn.relu(y)
            x += conv(features=c, kernel=1, use_bias=False, name=f"residual{i}b")(y)
        x = ConvNorm(
            features=128, dtype=self.dtype, axis_name=self.axis_name, name="reduce"
        )(nn.relu(x), train)
        x = nn.relu(conv(features=32, name="conv1")(x))
        x = nn.relu(conv(features=8, name="conv2")(x))
        x = resize_bilinear(x, (2 * h, 2 * w), align_corners=True)
        x = nn.relu(conv(features=4, name="conv3")(x))
        x = conv(features=2, name="conv4")(x).astype(jnp.float32)
        return resize_bilinear(x, shape, align_corners=True)


def peak_of_means(found: Float[Array, "h w"], size: int) -> Float[Array, ""]:
    """The greatest mean of a square of `size` px that lies within the map.

    Along a side that is shorter, the mean is over the whole side.
    """
    h, w = (min(size, side) for side in found.shape)
    # One side after the other: 2 `size` additions per pixel, not its square.
    for window in ((h, 1), (1, w)):
        found = lax.reduce_window(found, 0.0, lax.add, window, (1, 1), "valid")
    return jnp.max(found) / (h * w)


def smallest(losses: jax.Array, count: int) -> jax.Array:
    """Numbers of the channels with the smallest losses, in ascending order.

    A channel whose loss is no number counts as the worst.
    """
    worst = jnp.nanmax(losses)
    order = jnp.argsort(jnp.where(jnp.isnan(losses), worst, losses))
    return jnp.sort(order[:count]).astype(jnp.int32)
