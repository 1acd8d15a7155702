"""RIAD: cells of a grid are removed, and a network learns to put them back."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from anojax.core import Card, Synthesizer, hp
from anojax.detector import Detector
from anojax.errors import SettingError
from anojax.nn import losses
from anojax.nn.init import init_network
from anojax.nn.smoothing import mean_filter
from anojax.nn.unet import InpaintingUNet
from anojax.ops.blend import allowed, local_synthesis, requested_area_px
from anojax.ops.branch import grouped_switch
from anojax.ops.cells import cover, partition
from anojax.optim import Optimizer
from anojax.random import example_key, stream
from anojax.task import Examples, GradientTask, Metrics, Reduce, TrainState
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Riad(Synthesizer):
    """Removes a third of the cells of a grid, drawn at random, from an image.

    `Controls.severity` fades the holes in. `Controls.area` is the removed fraction, in
    whole cells, of which there is at least one.
    """

    card: ClassVar[Card] = Card(
        title="Reconstruction by inpainting for visual anomaly detection",
        authors="Vitjan Zavrtanik, Matej Kristan, Danijel Skočaj",
        venue="Pattern Recognition",
        year=2021,
        url="https://doi.org/10.1016/j.patcog.2020.107706",
        paradigm="handcrafted",
        family="inpainting",
        level="image",
        controls=("severity", "area"),
        mask="area",
        purpose="probe",
        code_url="https://github.com/plutoyuxie/"
        "Reconstruction-by-inpainting-for-visual-anomaly-detection",
        code_license="none stated (unofficial)",
        fidelity="statistics",
        differences=(
            "A cell size is drawn for every image, not once for a batch.",
            "Cells at the lower and right border are cut where the size of the image "
            "is no multiple of theirs.",
            "Asking for an area is an addition; without it one of the disjoint sets is "
            "removed.",
            "The masked copies of a batch share their normalization statistics; the "
            "public code passes them through the network one after the other.",
        ),
        unverified=(
            "Whether the paper's zero is mid gray, as in its ports, or black: fill.",
        ),
    )

    cells_px: tuple[int, ...] = hp(
        (2, 4, 8, 16), "sides of a cell in pixels; one is drawn", low=1, high=1024
    )
    parts: int = hp(
        3, "number of disjoint sets of cells, one of which is removed", low=2, high=64
    )
    fill: float = hp(
        0.5, "value of removed pixels; 0.5 is zero to the network", low=0, high=1
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.cells_px:
            raise SettingError("riad: cells_px is empty; give at least one size")

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        removed, cell = self._at_drawn_size(key, partial(self._removed, inputs))
        new = jnp.full_like(inputs.image, self.fill)
        mask = removed.astype(jnp.float32)[..., None]
        return local_synthesis(inputs, new, mask, aux={"cell_px": cell})

    def partition(
        self, key: Key[Array, ""], shape: tuple[int, int]
    ) -> Int[Array, "h w"]:
        """The set of every pixel, of which `synthesize` removes the first (0).

        With the key of the example: the same cells as in its synthetic image.
        """
        divide = partial(partition, shape=shape, parts=self.parts)
        return self._at_drawn_size(key, divide)[0]

    def _at_drawn_size(self, key, function):
        order, size = jax.random.split(stream(key, "shape"))
        index = jax.random.randint(size, (), 0, len(self.cells_px))
        branches = [partial(function, cell_px=cell) for cell in self.cells_px]
        cells = jnp.asarray(self.cells_px, jnp.int32)
        return grouped_switch(index, branches, order), cells[index]

    def _removed(self, inputs: Inputs, key: Key[Array, ""], *, cell_px: int):
        h, w = inputs.image.shape[:2]
        if inputs.controls.area is None:
            return partition(key, (h, w), cell_px=cell_px, parts=self.parts) == 0
        where = allowed(inputs)
        where = jnp.ones((h, w, 1)) if where is None else where
        area_px = requested_area_px(inputs)
        return cover(key, where[..., 0], area_px, cell_px=cell_px)


def remove(
    images: Float[Array, "b h w c"],
    sets: Int[Array, "b h w"],
    *,
    parts: int,
    fill: float,
) -> Float[Array, "n h w c"]:
    """Every image `parts` times, each time without another of its sets.

    Args:
      images: any values.
      sets: for every pixel the set, 0 to `parts` - 1, with which it is removed.
      parts: number of sets.
      fill: what takes the place of removed pixels.
    """
    holes = jnp.where(_members(sets, parts), jnp.float32(fill), images[:, None])
    return rearrange(holes, "b parts h w c -> (b parts) h w c")


def assemble(
    filled: Float[Array, "n h w c"], sets: Int[Array, "b h w"], *, parts: int
) -> Float[Array, "b h w c"]:
    """One image from `parts`: every pixel from the one where it had been removed."""
    filled = rearrange(filled, "(b parts) h w c -> b parts h w c", parts=parts)
    return jnp.sum(jnp.where(_members(sets, parts), filled, 0.0), axis=1)


@dataclass(frozen=True)
class RiadDetector(Detector):
    """Where the inpainted image has other edges than the image.

    The removed cells are the same for all images, so that a score is no matter of
    chance.
    """

    synth: Riad = Riad()
    width: int = 64
    smoothing_radius_px: int = 10
    seed: int = 0
    """Of the removed cells."""

    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        key, parts, shape = jax.random.key(self.seed), self.synth.parts, image.shape[:2]
        sets = [
            partition(jax.random.fold_in(key, cell), shape, cell_px=cell, parts=parts)
            for cell in self.synth.cells_px
        ]
        fill, signed = _signed(self.synth.fill), _signed(image)[None]
        network = InpaintingUNet(channels=image.shape[-1], width=self.width)
        weights = {
            "params": variables["params"],
            "batch_stats": variables["statistics"],
        }

        def difference(one):
            holes = remove(signed, one, parts=parts, fill=fill)
            filled = assemble(network.apply(weights, holes, False), one, parts=parts)
            return 1 - jnp.mean(losses.msgms_map(signed, filled), -1, keepdims=True)

        # One size after the other: all at once would take four times the memory.
        found = jnp.mean(lax.map(difference, jnp.stack(sets)[:, None]), axis=0)
        found = mean_filter(found, 2 * self.smoothing_radius_px + 1)[0, ..., 0]
        return found, jnp.max(found)


@dataclass(frozen=True)
class RiadTask(GradientTask):
    """Inpainting: each third of an image is predicted from the other two.

    The loss is squared error + dissimilarity of gradients at four scales + structural
    dissimilarity, on images in [-1, 1].
    """

    # Every part of an image is removed in turn; precomputed ones lack one part.
    accepts_precomputed: ClassVar[bool] = False
    synth: Riad
    optimizer: Optimizer = Optimizer(
        "adam", 1e-4, schedule="drops", drops=((250 / 300, 0.1),), weight_decay=1e-5
    )
    width: int = hp(64, "channels of the first block", low=1, high=1024)
    gms_weight: float = hp(1.0, "weight of the dissimilarity of gradients", low=0.0)
    ssim_weight: float = hp(1.0, "weight of the structural dissimilarity", low=0.0)
    smoothing_radius_px: int = hp(
        10, "the map is averaged over squares that reach this far", low=0, high=256
    )

    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        made = init_network(
            self._network(batch, Reduce()), key, batch.images[:1], False
        )
        return made["params"], made["batch_stats"]

    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        images, parts = _signed(batch.images), self.synth.parts
        sets = self._partitions(key, batch)
        holes = remove(images, sets, parts=parts, fill=_signed(self.synth.fill))
        filled, new = self._network(batch, reduce).apply(
            {"params": params, "batch_stats": state.statistics},
            holes,
            True,
            mutable=["batch_stats"],
        )
        result = assemble(filled, sets, parts=parts)
        metrics = {
            "l2": losses.l2(result, images),
            "gms": losses.msgms(result, images),
            "ssim": losses.ssim(result, images),
        }
        total = metrics["l2"] + self.gms_weight * metrics["gms"]
        total += self.ssim_weight * metrics["ssim"]
        return total, (new["batch_stats"], metrics)

    def detector(self) -> RiadDetector:
        return RiadDetector(self.synth, self.width, self.smoothing_radius_px)

    def _partitions(self, key, batch):
        own = stream(key, self.synth.name)  # the key of the synthetic images
        keys = jax.vmap(lambda i: example_key(own, i))(batch.ids)
        shape = batch.inputs.image.shape[1:3]
        return jax.vmap(lambda k: self.synth.partition(k, shape))(keys)

    def _network(self, batch, reduce):
        return InpaintingUNet(
            channels=batch.inputs.image.shape[-1],
            width=self.width,
            dtype=self.compute_dtype,
            axis_name=reduce.axis,
        )


def _signed(values):
    """From [0, 1] to the network's [-1, 1]."""
    return 2 * values - 1


def _members(sets: Int[Array, "b h w"], parts: int) -> Bool[Array, "b p h w 1"]:
    each = np.arange(parts, dtype=np.int32)[None, :, None, None, None]
    return sets[:, None, ..., None] == each
