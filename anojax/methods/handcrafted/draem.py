"""DRAEM: an augmented texture, blended in under a thresholded Perlin field."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Key

from anojax.core import Card, hp
from anojax.methods._perlin_shape import PerlinShape
from anojax.ops.blend import local_synthesis
from anojax.ops.texture_augment import three_of_ten
from anojax.random import stream
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Draem(PerlinShape):
    """Corrupts a picture with a randomly augmented texture inside a Perlin mask.

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
        code_licence="MIT",
        fidelity="statistics",
        differences=(
            "The weight of the texture is the code's, 0.2 to 1; the paper has 0.1 to "
            "1: texture_weight=(0.1, 1.0).",
            "The noise fits any size; the public code needs multiples of 32.",
            "Textures are augmented as RGB; the public code hands BGR to operators "
            "that expect RGB.",
            "Turning three in ten normal pictures by up to 90 degrees, and keeping "
            "half of them clean, is left to training.",
        ),
    )

    texture_weight: tuple[float, float] = hp(
        (0.2, 1.0), "weight of the texture in the mask, drawn uniformly", low=0, high=1
    )
    augment: bool = hp(
        True, "whether three of ten photometric operators change the texture first"
    )

    def paint(
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
        weight = inputs.controls.severity
        if weight is None:
            low, high = self.texture_weight
            weight = jax.random.uniform(stream(key, "blend"), minval=low, maxval=high)
        return local_synthesis(
            inputs,
            (1 - weight) * inputs.image + weight * texture,
            mask,
            alpha=weight * mask,
            severity="done",
            aux={"texture_weight": weight},
        )
