"""MemSeg: a texture, or shuffled tiles of the image itself, under a Perlin mask."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.core import Card, hp
from anojax.errors import SettingError
from anojax.methods._perlin_shape import PerlinShape, drawn_opacity
from anojax.ops.blend import local_synthesis
from anojax.ops.color import luma
from anojax.ops.rounding import rounded
from anojax.ops.shapes import grid_shuffle
from anojax.ops.texture_augment import three_of_ten
from anojax.random import stream
from anojax.types import Inputs, PyTree, Synthesis

# Classes of MVTec AD whose object stands out from the background: the gray level that it
# exceeds, and the one that it does not. Every other class is taken as all object.
PRESETS = {
    "bottle": (None, 250),
    "capsule": (None, 120),
    "hazelnut": (50, None),
    "metal_nut": (40, None),
    "pill": (100, None),
    "screw": (None, 110),
    "toothbrush": (30, None),
    "transistor": (None, 90),
    "zipper": (None, 100),
}


@dataclass(frozen=True)
class Memseg(PerlinShape):
    """Blends a texture, or the augmented image with its tiles shuffled, into a mask.

    Defects stay on the object: on `Inputs.foreground`, and on the pixels that the gray
    levels of the settings call the object. `Controls.severity` is the opacity;
    `Controls.area` is a fraction of that object.
    """

    card: ClassVar[Card] = Card(
        title="MemSeg: A Semi-Supervised Method for Image Surface Defect Detection "
        "Using Differences and Commonalities",
        authors="Minghui Yang, Peng Wu, Hui Feng",
        venue="Engineering Applications of Artificial Intelligence 119",
        year=2023,
        url="https://arxiv.org/abs/2205.00908",
        paradigm="handcrafted",
        family="external",
        level="image",
        needs=("texture",),
        controls=("severity", "area"),
        code_url="https://github.com/TooTouch/MemSeg",
        code_license="MIT",
        fidelity="statistics",
        differences=(
            "The public code is not the authors'. Like it, textures are not augmented "
            "(augment_texture), and the grid is 8 x 8.",
            "Empty masks have label 0; the public code says 1.",
            "Nothing is cropped after synthesis; the public code works at 288 pixels "
            "and keeps the central 256.",
        ),
        unverified=(
            "The paper's operators (mirror, rotation, brightness, saturation, hue), its "
            "grid of 4 x 8 and its cleaning of the foreground by morphology.",
        ),
    )

    source: str = hp(
        "both",
        "what defects are made of: a texture, the image itself (structure), or "
        "either of them, at even odds (both)",
        choices=("both", "texture", "structure"),
    )
    transparency: tuple[float, float] = hp(
        (0.15, 1.0), "opacity of the defect, drawn uniformly", low=0, high=1
    )
    grid_rows: int = hp(8, "rows of tiles that a structural defect shuffles", low=1)
    grid_columns: int = hp(
        8, "columns of tiles that a structural defect shuffles", low=1
    )
    augment_texture: bool = hp(
        False, "whether three of ten photometric operators change the texture first"
    )
    truncate: bool = hp(
        True, "whether the blend is cut down to whole gray levels, as in 8-bit images"
    )
    preset: str | None = hp(
        None,
        "class of MVTec AD whose threshold separates object and background",
        choices=tuple(PRESETS),
    )
    object_above: int | None = hp(
        None, "gray level that every pixel of the object exceeds", low=0, high=255
    )
    object_below: int | None = hp(
        None, "gray level that no pixel of the object exceeds", low=0, high=255
    )

    def __post_init__(self):
        super().__post_init__()
        own = (self.object_above, self.object_below)
        if self.preset is not None and own != (None, None):
            raise SettingError(
                f"memseg: preset is {self.preset!r} and object_above, object_below are "
                f"{own[0]}, {own[1]}; give the preset or the gray levels"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.source == "structure" else ("texture",)

    def shape(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Float[Array, "h w 1"]:
        """A Perlin shape on the object: the one given, or by its gray level."""
        del params
        return self.perlin(key, self._on_object(inputs))

    def generate(
        self,
        params: PyTree,
        key: Key[Array, ""],
        inputs: Inputs,
        mask: Float[Array, "h w 1"],
    ) -> Synthesis:
        del params
        inputs = self._on_object(inputs)
        structural, appearance = self._appearance(stream(key, "source"), inputs)
        opacity = drawn_opacity(key, inputs, self.transparency)
        # A difference, so that equal levels stay equal and truncation spares them.
        # Rounded one by one: truncation would show any other last bit.
        old, appearance = rounded(inputs.image), rounded(appearance)
        new = old + rounded(opacity * (appearance - old))
        if self.truncate:
            new = jnp.floor(new * 255) / 255
        return local_synthesis(
            inputs,
            new,
            mask,
            alpha=opacity * mask,
            severity="done",
            aux={"transparency": opacity, "structural": structural},
        )

    def _on_object(self, inputs: Inputs) -> Inputs:
        above, below = PRESETS.get(self.preset, (self.object_above, self.object_below))
        level = jnp.round(luma(inputs.image) * 255)
        parts = [] if inputs.foreground is None else [inputs.foreground]
        if above is not None:
            parts.append((level > above).astype(jnp.float32))
        if below is not None:
            parts.append((level <= below).astype(jnp.float32))
        return inputs.replace(foreground=prod(parts) if parts else None)

    def _appearance(self, key, inputs: Inputs) -> tuple[Array, Array]:
        """Whether the defect is structural, and an image made of nothing else."""
        keys = stream(key, "structure"), stream(key, "texture")
        shuffle = partial(
            grid_shuffle,
            stream(key, "tiles"),
            grid=(self.grid_rows, self.grid_columns),
        )
        if self.source == "structure":
            return jnp.bool_(True), shuffle(three_of_ten(keys[0], inputs.image))
        if self.source == "texture":
            texture = inputs.source
            if self.augment_texture:
                texture = three_of_ten(keys[1], texture)
            return jnp.bool_(False), texture
        structural = jax.random.bernoulli(stream(key, "kind"))
        if not self.augment_texture:
            # In a batch both are made, and the operators left out where `active` is
            # false; alone, only one is.
            return structural, lax.cond(
                structural,
                lambda: shuffle(three_of_ten(keys[0], inputs.image, active=structural)),
                lambda: inputs.source,
            )
        augmented = three_of_ten(
            jnp.where(structural, *keys),
            jnp.where(structural, inputs.image, inputs.source),
        )
        return structural, lax.cond(structural, shuffle, lambda x: x, augmented)
