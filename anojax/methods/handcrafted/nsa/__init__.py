"""NSA: patches of another normal image, blended in by solving a Poisson equation; a
network that learns how strongly every pixel has changed.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.core import Card, hp
from anojax.detector import Detector
from anojax.methods.handcrafted.nsa.patches import (
    Draw,
    Patches,
    cut_window,
    with_leftovers,
)
from anojax.methods.handcrafted.nsa.settings import NsaSettings
from anojax.nn.init import init_network
from anojax.nn.losses import l2, soft_bce
from anojax.nn.resnet import ResNetAutoencoder, imagenet_normalize
from anojax.ops.blend import local_synthesis
from anojax.ops.branch import grouped_switch, grouped_update
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Nsa(NsaSettings):
    """Natural synthetic anomalies: Poisson-blended patches of another normal image.

    Up to `max_patches` rectangles of the source are resized and blended into the
    image one after the other. The mask is where that changed something, and the
    soft label grows with the change.
    """

    card: ClassVar[Card] = Card(
        title="Natural Synthetic Anomalies for Self-Supervised Anomaly Detection "
        "and Localization",
        authors="Schlüter, Tan, Hou, Kainz",
        venue="ECCV",
        year=2022,
        url="https://arxiv.org/abs/2109.15222",
        paradigm="handcrafted",
        family="self_contained",
        level="image",
        needs=("normal",),
        controls=("severity", "area", "count", "aspect"),
        code_url="https://github.com/hmsch/natural-synthetic-anomalies",
        code_license="MIT",
        fidelity="statistics",
        differences=(
            "Pixels that changed outside the mask, by one gray level or in specks that "
            "the median filter removes, are put back; the public code leaves them, so "
            "its gradient along the mask's rim is lower by 0.1 gray levels.",
            "Labels of overlapping patches are joined; merge=overwrite lets a later "
            "patch replace earlier labels in its box, as the public code does.",
            "A patch of odd width lies on its label box; the public code puts it one "
            "pixel to the right.",
            "The area control sets the size of the boxes without their rims; pixels "
            "in them that do not change visibly are not in the mask.",
            "The rim of 3 pixels that OpenCV erodes shrinks with images whose "
            "smaller side is below 128 pixels.",
        ),
    )

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        patches = Patches(self)
        # OpenCV's resizing and blending work on bytes. Channels go to the middle axis
        # (`ops.poisson`), which also makes the sums over them four times as fast.
        levels = jnp.round(inputs.image * 255.0)
        before = rearrange(levels, "h w c -> h c w")
        draws = patches.draw(key, inputs)
        scene = patches.scene(key, inputs, levels, draws.active.sum())
        window = patches.window(inputs)

        def step(state: tuple, draw: Draw) -> tuple:
            after, labeled, pasted = state
            # Two branches rather than one: the compiler would resize the patch anew
            # for every difference of neighbors that the blending takes.
            choose = partial(patches.choose, scene, draw, window)
            nothing = jax.tree.map(
                lambda v: jnp.zeros(v.shape, v.dtype), jax.eval_shape(choose)
            )
            patch = grouped_switch(draw.active, [lambda: nothing, choose])
            old = cut_window(after, labeled, patch.corner, window)
            new = grouped_update(
                jnp.where(patch.found, 0, -1),
                [lambda old: patches.paste(scene, patch, *old)],
                old,
            )
            # A window travels through the branch, not the image: it is smaller.
            place = (patch.corner[0], 0, patch.corner[1])
            after = lax.dynamic_update_slice(after, new[0], place)
            labeled = lax.dynamic_update_slice(labeled, new[1], place)
            return (after, labeled, pasted + patch.found.astype(jnp.int32)), None

        start = (before, jnp.zeros_like(before[:, :1]), jnp.int32(0))
        (after, labeled, pasted), _ = lax.scan(step, start, draws)
        mask, alpha = patches.label(before, after, labeled, scene.factor)
        aux = {"patches": pasted}
        new = rearrange(after, "h c w -> h w c") / 255.0
        out = local_synthesis(inputs, new, mask, alpha=alpha, aux=aux)
        return out if self.exact else with_leftovers(inputs, new, out)


@dataclass(frozen=True)
class NsaTask(GradientTask):
    """An encoder-decoder learns the soft label of every pixel.

    Differs: images are shifted within a mirrored border, where the public code crops
    a slightly larger image; the source is not augmented, and nothing is rotated.
    """

    synth: Nsa
    optimizer: Optimizer = Optimizer("adam", 1e-3, "cosine")
    width: int = hp(
        64, "channels of the first stage of the encoder, a multiple of 4", low=4
    )
    flip_share: float = hp(
        0.5, "share of images turned upside down; 0 for objects", low=0, high=1
    )
    shift_frac: float = hp(
        1 / 64, "images are shifted by up to this fraction", low=0, high=0.25
    )

    def network(self, **options: Any) -> ResNetAutoencoder:
        """The network of these settings; one number per pixel."""
        return ResNetAutoencoder(width=self.width, **options)

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        x = imagenet_normalize(batch.images[:1])
        made = init_network(self.network(), key, x, False)
        return made["params"], made["batch_stats"]

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        if batch.precomputed is None:
            keys = self.example_keys(key, batch, "augment")
            batch = batch.replace(inputs=jax.vmap(self._moved)(keys, batch.inputs))
        out = self.draw(key, batch)
        network = self.network(dtype=self.compute_dtype, axis_name=reduce.axis)
        found, new = network.apply(
            {"params": params, "batch_stats": state.statistics},
            imagenet_normalize(out.image),
            True,
            mutable=["batch_stats"],
        )
        intensity = self.synth.label == "intensity"
        loss = (
            l2(nn.relu(found), out.alpha) if intensity else soft_bce(found, out.alpha)
        )
        metrics = {"labeled": out.mask.mean()}
        return loss, (new["batch_stats"], metrics)

    def detector(self) -> "NsaDetector":
        return NsaDetector(self.network(), self.synth.label == "intensity")

    def _moved(self, key: Key[Array, ""], inputs: Inputs) -> Inputs:
        """Flipped and shifted: the image and its masks, exact to the pixel."""
        h, w = inputs.image.shape[:2]
        flip = jax.random.bernoulli(stream(key, "flip"), self.flip_share)
        pad = tuple(round(self.shift_frac * side) for side in (h, w))
        room = 2 * np.asarray(pad, np.int32) + 1
        y, x = jax.random.randint(stream(key, "shift"), (2,), 0, room)

        def move(v):
            v = jnp.where(flip, v[::-1], v)
            v = jnp.pad(v, [(p, p) for p in pad] + [(0, 0)], mode="reflect")
            return lax.dynamic_slice(v, (y, x, 0), (h, w, v.shape[2]))

        spatial = (inputs.image, inputs.foreground, inputs.region)
        image, foreground, region = jax.tree.map(move, spatial)
        return inputs.replace(image=image, foreground=foreground, region=region)


@dataclass(frozen=True)
class NsaDetector(Detector):
    """The network's output is the map, and the mean of the map the image's score."""

    network: ResNetAutoencoder
    intensity: bool = False
    """The output is an intensity (cut at 0); otherwise a logit."""

    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        found = self.network.apply(
            {"params": variables["params"], "batch_stats": variables["statistics"]},
            imagenet_normalize(image[None]),
            False,
        )[0, ..., 0]
        found = nn.relu(found) if self.intensity else nn.sigmoid(found)
        return found, found.mean()
