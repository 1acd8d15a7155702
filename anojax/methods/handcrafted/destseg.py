"""DeSTSeg: a plain texture, blended in under a thresholded Perlin field."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Key

from anojax.core import Card, Synthesizer, hp
from anojax.ops.blend import local_synthesis
from anojax.ops.noise import perlin_shape
from anojax.random import stream
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Destseg(Synthesizer):
    """Corrupts a picture with an unchanged texture inside a Perlin mask.

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
        code_licence="Apple sample code licence",
        fidelity="statistics",
        differences=(
            "The Perlin lattice fits any size; the public code stretches it where the "
            "sides are not multiples of the number of cells.",
            "The rotation of the normal picture by class is left to the training data.",
        ),
        unverified=("The paper may state another range of opacities than its code.",),
    )

    texture_weight: tuple[float, float] = hp(
        (0.2, 1.0), "weight of the texture in the mask, drawn uniformly", low=0, high=1
    )
    exponents: tuple[int, int] = hp(
        (0, 5), "range of e, for 2**e Perlin cells along each axis", low=0, high=7
    )
    threshold: float = hp(
        0.5, "level of the noise above which the defect lies", low=-1, high=1
    )
    rotation: str = hp(
        "resample",
        "how the noise is turned: interpolated, evaluated at turned points, or not",
        choices=("resample", "nearest", "direct", "none"),
    )
    on_empty: str = hp(
        "keep",
        "what becomes of empty masks: kept, redrawn, or the noise is stretched",
        choices=("keep", "retry", "rescale"),
    )

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        mask = perlin_shape(
            stream(key, "shape"),
            inputs,
            exponents=self.exponents,
            threshold=self.threshold,
            rotation=self.rotation,
            on_empty=self.on_empty,
        )
        weight = inputs.controls.severity
        if weight is None:
            low, high = self.texture_weight
            weight = jax.random.uniform(stream(key, "blend"), minval=low, maxval=high)
        return local_synthesis(
            inputs,
            (1 - weight) * inputs.image + weight * inputs.source,
            mask,
            alpha=weight * mask,
            severity="done",
            aux={"texture_weight": weight},
        )
