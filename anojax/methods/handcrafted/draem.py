"""DRAEM: an augmented texture, blended in under a thresholded Perlin field; a network
that removes it again, and one that sees where the two images disagree.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from anojax.core import Card, hp
from anojax.detector import Detector
from anojax.methods._perlin_shape import PerlinShape, drawn_opacity
from anojax.nn import losses
from anojax.nn.blocks import Network
from anojax.nn.init import init_network
from anojax.nn.smoothing import mean_filter
from anojax.nn.unet import DiscriminativeUNet, ReconstructiveUNet
from anojax.ops.blend import local_synthesis
from anojax.ops.geometry import rotate
from anojax.ops.texture_augment import three_of_ten
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Draem(PerlinShape):
    """Corrupts an image with a randomly augmented texture inside a Perlin mask.

    `Controls.severity` is the weight of the texture; `Controls.area` replaces the
    threshold by the level that gives this area.
    """

    card: ClassVar[Card] = Card(
        title="DRAEM: A Discriminatively Trained Reconstruction Embedding for Surface "
        "Anomaly Detection",
        authors="Vitjan Zavrtanik, Matej Kristan, Danijel Skočaj",
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2108.07610",
        paradigm="handcrafted",
        family="external",
        level="image",
        needs=("texture",),
        controls=("severity", "area"),
        code_url="https://github.com/VitjanZ/DRAEM",
        code_license="MIT",
        fidelity="statistics",
        differences=(
            "The weight of the texture is the code's, 0.2 to 1; the paper has 0.1 to "
            "1: texture_weight=(0.1, 1.0).",
            "The noise fits any size; the public code needs multiples of 32.",
            "Textures are augmented as RGB; the public code hands BGR to operators "
            "that expect RGB.",
            "Turning three in ten normal images by up to 90 degrees, and keeping "
            "half of them clean, is left to training.",
            "The range of the structural similarity is 1 in every step; the public code "
            "widens it where a reconstruction leaves [-0.5, 128].",
        ),
    )

    texture_weight: tuple[float, float] = hp(
        (0.2, 1.0), "weight of the texture in the mask, drawn uniformly", low=0, high=1
    )
    augment: bool = hp(
        True, "whether three of ten photometric operators change the texture first"
    )

    def shape(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Float[Array, "h w 1"]:
        del params
        return self.perlin(key, inputs)

    def generate(
        self,
        params: PyTree,
        key: Key[Array, ""],
        inputs: Inputs,
        mask: Float[Array, "h w 1"],
    ) -> Synthesis:
        del params
        texture = inputs.source
        if self.augment:
            texture = three_of_ten(stream(key, "source"), texture)
        weight = drawn_opacity(key, inputs, self.texture_weight)
        return local_synthesis(
            inputs,
            (1 - weight) * inputs.image + weight * texture,
            mask,
            alpha=weight * mask,
            severity="done",
            aux={"texture_weight": weight},
        )


class DraemNetwork(Network):
    """The reconstruction of an image, and logits of normal and anomalous from both.

    Sides must be multiples of 32.
    """

    reconstructive_width: int = 128
    discriminative_width: int = 64

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w 2"]]:
        common = {"dtype": self.dtype, "axis_name": self.axis_name}
        clean = ReconstructiveUNet(
            channels=x.shape[-1],
            width=self.reconstructive_width,
            name="reconstructive",
            **common,
        )(x, train)
        logits = DiscriminativeUNet(
            width=self.discriminative_width, name="discriminative", **common
        )(jnp.concatenate([clean, x], axis=-1), train)
        return clean, logits


@dataclass(frozen=True)
class DraemDetector(Detector):
    """The probability of an anomaly at every pixel; its smoothed peak is the score."""

    network: DraemNetwork
    smoothing_radius_px: int = 10

    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        weights = {
            "params": variables["params"],
            "batch_stats": variables["statistics"],
        }
        _, logits = self.network.apply(weights, image[None], False)
        found = jax.nn.softmax(logits)[..., 1:]
        smooth = mean_filter(found, 2 * self.smoothing_radius_px + 1)
        return found[0, ..., 0], jnp.max(smooth)


@dataclass(frozen=True)
class DraemTask(GradientTask):
    """Both networks at once: the second one's loss reaches the first through its input.

    The loss is squared error + structural dissimilarity of the reconstruction + focal
    loss of the segmentation.
    """

    synth: Draem
    optimizer: Optimizer = Optimizer(
        "adam", 1e-4, schedule="drops", drops=((0.8, 0.2), (0.9, 0.2))
    )
    reconstructive_width: int = hp(
        128, "channels of the reconstructing network's first block", low=1, high=1024
    )
    discriminative_width: int = hp(
        64, "channels of the segmenting network's first block", low=1, high=1024
    )
    clean_share: float = hp(0.5, "share of images left clean", low=0.0, high=1.0)
    rotated_share: float = hp(
        0.3,
        "share of images turned by up to 90 degrees before synthesis, 0 where parts "
        "never turn; precomputed anomalies stay upright",
        low=0.0,
        high=1.0,
    )
    ssim_weight: float = hp(1.0, "weight of the structural dissimilarity", low=0.0)
    smoothing_radius_px: int = hp(
        10,
        "for the score, the map is averaged over squares that reach this far",
        low=0,
        high=256,
    )

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        made = init_network(self._network(), key, batch.images[:1], False)
        return made["params"], made["batch_stats"]

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        if self.rotated_share and batch.precomputed is None:
            keys = self.example_keys(key, batch, "rotation")
            inputs = batch.inputs.replace(image=batch.images)
            turn = partial(turned, share=self.rotated_share)
            batch = batch.replace(inputs=jax.vmap(turn)(keys, inputs))
        out = self.draw(key, batch, clean_share=self.clean_share)
        (clean, logits), new = self._network(
            dtype=self.compute_dtype, axis_name=reduce.axis
        ).apply(
            {"params": params, "batch_stats": state.statistics},
            out.image,
            True,
            mutable=["batch_stats"],
        )
        metrics = {
            "l2": losses.l2(clean, batch.images),
            "ssim": losses.ssim(clean, batch.images),
            "focal": losses.focal(logits, out.mask[..., 0].astype(jnp.int32)),
        }
        total = metrics["l2"] + self.ssim_weight * metrics["ssim"] + metrics["focal"]
        metrics["anomalous"] = jnp.mean(out.anomalous.astype(jnp.float32))
        return total, (new["batch_stats"], metrics)

    def detector(self) -> DraemDetector:
        return DraemDetector(self._network(), self.smoothing_radius_px)

    def _network(self, **how) -> DraemNetwork:
        return DraemNetwork(
            reconstructive_width=self.reconstructive_width,
            discriminative_width=self.discriminative_width,
            **how,
        )


def turned(key: Key[Array, ""], inputs: Inputs, *, share: float) -> Inputs:
    """With probability `share` the image turned by up to 90 degrees to either side.

    Foreground and region turn with it, and black swings in.
    """
    whether, how_far = jax.random.split(key)
    turned = jax.random.bernoulli(whether, share)
    angle = (jax.random.uniform(how_far) - 0.5) * jnp.pi

    def mask(x):
        x = (x > 0).astype(jnp.float32)
        return jnp.where(turned, rotate(x, angle, method="nearest"), x)

    image = jnp.where(turned, rotate(inputs.image, angle), inputs.image)
    foreground, region = jax.tree.map(mask, (inputs.foreground, inputs.region))
    return inputs.replace(image=image, foreground=foreground, region=region)
