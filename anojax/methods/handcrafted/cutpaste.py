"""CutPaste: a piece of the picture, slightly recoloured, pasted somewhere else."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.core import Card, Synthesizer, hp
from anojax.methods._cutpaste_pieces import (
    Piece,
    choose_place,
    fetch,
    uniform_index,
    upright_extent,
    within_piece,
)
from anojax.ops import color, placement
from anojax.ops.blend import allowed, local_synthesis
from anojax.random import stream
from anojax.types import Inputs, PyTree, Synthesis

PATCH, SCAR = 1, 2
_REFERENCE_SIDE_PX = 256


@dataclass(frozen=True)
class Cutpaste(Synthesizer):
    """Pastes a box of the picture, or a thin turned scar, at another place.

    `Controls.area` and `aspect` replace the drawn size of patch and scar, `angle` turns
    either; a box that does not fit is cut at the border. Label 1 is a patch, 2 a scar,
    which is what the three-way task of the paper learns to tell apart.
    """

    card: ClassVar[Card] = Card(
        title="CutPaste: Self-Supervised Learning for Anomaly Detection and "
        "Localization",
        authors="Chun-Liang Li, Kihyuk Sohn, Jinsung Yoon, Tomas Pfister",
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2104.04015",
        paradigm="handcrafted",
        family="self_contained",
        level="image",
        controls=("severity", "area", "aspect", "angle"),
        code_url="https://github.com/Runinho/pytorch-cutpaste",
        code_licence="none stated (unofficial)",
        fidelity="statistics",
        differences=(
            "Jitter and translation of the whole normal picture belong to training.",
            "A scar keeps inside the picture; the public code swaps its height and "
            "width when it draws the place.",
            "The size of a scar in pixels holds for pictures of 256 pixels and scales "
            "with the shorter side.",
            "Colour jitter is not rounded to 8 bits between its steps.",
        ),
        unverified=(
            "The paper's density over aspect ratios: aspect_law has both readings.",
        ),
    )

    variant: str = hp(
        "normal",
        "what is pasted: a patch, a thin scar, or either with probability one half",
        choices=("normal", "scar", "union"),
    )
    area: tuple[float, float] = hp(
        (0.02, 0.15), "area of a patch as a fraction of the picture", low=0.001, high=1
    )
    aspect: tuple[float, float] = hp(
        (0.3, 1 / 0.3), "width / height of a patch", low=0.05, high=20
    )
    aspect_law: str = hp(
        "log_uniform",
        "density of the aspect: log-uniform, or a coin between below 1 and above 1, "
        "each uniform",
        choices=("log_uniform", "two_interval"),
    )
    scar_width_px: tuple[float, float] = hp(
        (2.0, 16.0), "width of a scar in pixels, at a side of 256", low=1, high=256
    )
    scar_length_px: tuple[float, float] = hp(
        (10.0, 25.0), "length of a scar in pixels, at a side of 256", low=1, high=256
    )
    scar_rotation_deg: float = hp(
        45.0, "a scar turns by up to this angle to either side", low=0, high=180
    )
    jitter: float = hp(
        0.1, "colour jitter: brightness, contrast, saturation, hue", low=0, high=0.5
    )

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        if self.variant != "union":
            piece = self._scar if self.variant == "scar" else self._patch
            new, mask = self._paste(key, inputs, piece(stream(key, "shape"), inputs))
            label = SCAR if self.variant == "scar" else PATCH
            return local_synthesis(inputs, new, mask, label=label)

        def branch(piece):
            return lambda: self._paste(key, inputs, piece(stream(key, "shape"), inputs))

        scar = jax.random.bernoulli(stream(key, "variant"))
        new, mask = lax.cond(scar, branch(self._scar), branch(self._patch))
        return local_synthesis(inputs, new, mask, label=jnp.where(scar, SCAR, PATCH))

    def _patch(self, key: Key[Array, ""], inputs: Inputs) -> Piece:
        shape = h, w = inputs.image.shape[:2]
        asked, size = inputs.controls, h * w
        u = jax.random.uniform(key, (3,))
        area = _between(u[0], self.area) * size if asked.area is None else _area(inputs)
        aspect = (
            self._aspect(u[1], u[2])
            if asked.aspect is None
            else _as_float(asked.aspect)
        )
        height, width = placement.box_sides(area, aspect, shape)
        window = shape
        if asked.area is asked.aspect is asked.angle is None:
            largest, (low, high) = self.area[1] * size, self.aspect
            # A side that does not fit is cut, and the other one grows.
            tall = max(math.sqrt(largest / low), largest / w)
            wide = max(math.sqrt(largest * high), largest / h)
            window = min(h, math.ceil(tall) + 1), min(w, math.ceil(wide) + 1)
        angle = None if asked.angle is None else _as_float(asked.angle)
        return Piece(height, width, angle, window)

    def _aspect(self, coin: Float[Array, ""], u: Float[Array, ""]) -> Float[Array, ""]:
        low, high = self.aspect
        if self.aspect_law == "log_uniform":
            return jnp.exp(_between(u, (math.log(low), math.log(high))))
        middle = min(max(1.0, low), high)
        return jnp.where(
            coin < 0.5, _between(u, (low, middle)), _between(u, (middle, high))
        )

    def _scar(self, key: Key[Array, ""], inputs: Inputs) -> Piece:
        shape = inputs.image.shape[:2]
        asked, scale = inputs.controls, min(shape) / _REFERENCE_SIDE_PX
        u = jax.random.uniform(key, (3,))
        width = jnp.round(_between(u[0], self.scar_width_px) * scale)
        length = jnp.round(_between(u[1], self.scar_length_px) * scale)
        width, length = jnp.maximum(width, 1.0), jnp.maximum(length, 1.0)
        area = width * length if asked.area is None else _area(inputs)
        aspect = width / length if asked.aspect is None else _as_float(asked.aspect)
        if asked.area is asked.aspect is None:
            height, width = length.astype(jnp.int32), width.astype(jnp.int32)
            longest = math.hypot(self.scar_width_px[1], self.scar_length_px[1])
            room = math.ceil(longest * scale) + 3
            window = min(shape[0], room), min(shape[1], room)
        else:
            height, width = placement.box_sides(area, aspect, shape)
            window = shape
        limit = math.radians(self.scar_rotation_deg)
        angle = _between(u[2], (-limit, limit))
        angle = angle if asked.angle is None else _as_float(asked.angle)
        return Piece(height, width, angle, window)

    def _paste(
        self, key: Key[Array, ""], inputs: Inputs, piece: Piece
    ) -> tuple[Float[Array, "h w c"], Float[Array, "h w 1"]]:
        """The picture with the recoloured piece in it, and where the piece lies."""
        image, window = inputs.image, piece.window
        shape = image.shape[:2]
        u = jax.random.uniform(stream(key, "source"), (2,))
        source = [
            uniform_index(v, full - side)
            for v, full, side in zip(u, shape, piece[:2], strict=True)
        ]
        extent = upright_extent(piece)
        place = choose_place(stream(key, "place"), allowed(inputs), extent, shape)
        corner = [
            jnp.clip(p, 0, full - room)
            for p, full, room in zip(place, shape, window, strict=True)
        ]
        row, column = within_piece(piece, extent, place, corner)
        inside = (
            (row >= 0) & (row < piece.height) & (column >= 0) & (column < piece.width)
        )
        mask = inside.astype(jnp.float32)[..., None]
        patch = fetch(image, source[0] + row, source[1] + column)
        patch = color.jitter(
            stream(key, "jitter"),
            patch,
            brightness=self.jitter,
            contrast=self.jitter,
            saturation=self.jitter,
            hue=self.jitter,
            weights=mask,
        )
        blank = jnp.zeros((*shape, 1), jnp.float32)
        return (
            lax.dynamic_update_slice(image, patch, (*corner, 0)),
            lax.dynamic_update_slice(blank, mask, (*corner, 0)),
        )


def _area(inputs: Inputs) -> Float[Array, ""]:
    """The asked area in pixels: a fraction of the foreground, or of the picture."""
    h, w = inputs.image.shape[:2]
    whole = h * w if inputs.foreground is None else jnp.sum(inputs.foreground)
    return _as_float(inputs.controls.area) * whole


def _as_float(value: Array | float) -> Float[Array, ""]:
    return jnp.asarray(value, jnp.float32)


def _between(u: Float[Array, ""], bounds: tuple[float, float]) -> Float[Array, ""]:
    return bounds[0] + (bounds[1] - bounds[0]) * u
