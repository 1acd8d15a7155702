"""DeSTSeg: an unchanged texture, blended in under a thresholded Perlin field."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float, Key

from anojax.core import Card, hp
from anojax.methods._perlin_shape import PerlinShape, drawn_opacity
from anojax.ops.blend import local_synthesis
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Destseg(PerlinShape):
    """Corrupts an image with an unchanged texture inside a Perlin mask.

    `Controls.severity` is the weight of the texture; `Controls.area` replaces the
    threshold by the level that gives this area.
    """

    card: ClassVar[Card] = Card(
        title="DeSTSeg: Segmentation Guided Denoising Student-Teacher for Anomaly "
        "Detection",
        authors="Xuan Zhang, Shiyu Li, Xi Li, Ping Huang, Jiulong Shan, Ting Chen",
        venue="CVPR",
        year=2023,
        url="https://arxiv.org/abs/2211.11317",
        paradigm="handcrafted",
        family="external",
        level="image",
        needs=("texture",),
        controls=("severity", "area"),
        code_url="https://github.com/apple/ml-destseg",
        code_license="Apple sample code license",
        fidelity="statistics",
        differences=(
            "The noise fits any size; the public code stretches its gradients where "
            "a side is no multiple of the number of cells.",
            "Turning the normal image by rules for each class of MVTec AD is left to "
            "the preparation of the training data.",
        ),
        unverified=("Whether the paper's range of opacities is the code's.",),
    )

    texture_weight: tuple[float, float] = hp(
        (0.2, 1.0), "weight of the texture in the mask, drawn uniformly", low=0, high=1
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
        weight = drawn_opacity(key, inputs, self.texture_weight)
        return local_synthesis(
            inputs,
            (1 - weight) * inputs.image + weight * inputs.source,
            mask,
            alpha=weight * mask,
            severity="done",
            aux={"texture_weight": weight},
        )
