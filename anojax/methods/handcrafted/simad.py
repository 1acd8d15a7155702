"""SimAD: a piece of the object, warped and recolored, pasted back onto the object."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from anojax.core import Card, Synthesizer, hp
from anojax.errors import SettingError
from anojax.ops import color, filters, geometry, placement
from anojax.ops.blend import allowed, local_synthesis, whole_px
from anojax.ops.branch import grouped_switch
from anojax.ops.warp import Size, Warp, affine_warp, inside_mask, sample_grid
from anojax.random import between, stream
from anojax.types import Inputs, PyTree, Synthesis

PATCH, SCAR = 1, 2
GEOMETRIC = ("rotate", "flip_x", "flip_y", "scale", "shear", "squeeze")
COLOR = (
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "blur",
    "noise",
    "grayscale",
)
_CANDIDATES = 32
_REFERENCE_SIDE_PX = 256
_SCAR_WIDTH_PX, _SCAR_LENGTH_PX = (2.0, 16.0), (10.0, 25.0)


@dataclass(frozen=True)
class Simad(Synthesizer):
    """CutPaste kept on the object, with stronger changes of the patch in between.

    Cut and paste are both guided by `Inputs.foreground`; without one the image counts
    as a texture and patches come from and go anywhere. `Controls.area` is the size of
    the pasted piece, `aspect` that of the piece before it is warped, and `angle` turns
    it instead of a drawn rotation. Label 1 is a patch, 2 one squeezed to a scar.
    """

    card: ClassVar[Card] = Card(
        title="Self-Supervised Learning for Industrial Image Anomaly Detection by "
        "Simulating Anomalous Samples",
        authors="Pei, Liu, Zhao, Sun",
        venue="International Journal of Computational Intelligence Systems 16",
        year=2023,
        url="https://doi.org/10.1007/s44196-023-00328-0",
        paradigm="handcrafted",
        family="self_contained",
        level="image",
        controls=("severity", "area", "aspect", "angle"),
        fidelity="adapted",
        differences=(
            "Object masks are the caller's; an image without one is a texture.",
            "Jitter of the whole normal image belongs to training.",
        ),
        unverified=(
            "Sizes and aspects of the patch: CutPaste's, as fractions of the object.",
            "Which geometric and color operations there are, and their strengths.",
            "That one or two of each family are drawn.",
            "That 70 % of cut and pasted piece must lie on the object, and the number "
            "of tries.",
            "Pasting without any blending.",
        ),
    )

    object_extract: bool = hp(True, "cut the patch out of the object only")
    object_paste: bool = hp(True, "paste the patch onto the object only")
    area: tuple[float, float] = hp(
        (0.02, 0.15), "area of the cut as a fraction of the object", low=0.001, high=1
    )
    aspect: tuple[float, float] = hp(
        (0.3, 1 / 0.3), "width / height of the cut, log-uniform", low=0.05, high=20
    )
    geometric: tuple[str, ...] = hp(
        GEOMETRIC, "one or two of these are applied: " + ", ".join(GEOMETRIC)
    )
    color: tuple[str, ...] = hp(
        COLOR, "then one or two of these are applied: " + ", ".join(COLOR)
    )
    min_object_frac: float = hp(
        0.7, "share of cut and pasted piece that must lie on the object", low=0, high=1
    )

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("geometric", GEOMETRIC), ("color", COLOR)):
            for operation in getattr(self, name):
                if operation not in known:
                    raise SettingError(
                        f"simad: {name} has {operation!r}; choose from "
                        f"{', '.join(known)}"
                    )

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        del params
        image = inputs.image
        shape = image.shape[:2]
        source_object = inputs.foreground if self.object_extract else None
        size = self._size(stream(key, "shape"), inputs)
        warp, squeezed = self._warp(stream(key, "warp"), inputs, size)
        cut = self._cut(stream(key, "source"), source_object, size, shape)
        if not self.object_paste:
            inputs = inputs.replace(foreground=None)
        row, column = sample_grid(size)
        solid = inside_mask(source_object, cut[0] + row, cut[1] + column)
        center = self._center(
            stream(key, "place"),
            allowed(inputs),
            warp.extent(size),
            warp.apply(row - size[0] / 2, column - size[1] / 2),
            solid,
            shape,
        )
        # Every pixel of the image asks where in the cut it comes from.
        y = np.arange(shape[0], dtype=np.float32)[:, None] + 0.5 - center[0]
        x = np.arange(shape[1], dtype=np.float32)[None] + 0.5 - center[1]
        inverse = warp.inverse()
        row, column = inverse.apply(*jnp.broadcast_arrays(y, x))
        row, column = row + size[0] / 2, column + size[1] / 2
        inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
        row, column = row + cut[0], column + cut[1]
        mask = (inside & inside_mask(source_object, row, column)).astype(jnp.float32)[
            ..., None
        ]
        patch = _sample(image, row - 0.5, column - 0.5, inverse.copies())
        patch = self._recolor(stream(key, "colour"), patch, mask)
        label = jnp.where(squeezed, SCAR, PATCH)
        return local_synthesis(inputs, patch, mask, label=label)

    def _size(self, key: Key[Array, ""], inputs: Inputs) -> Size:
        """Height and width of the cut in whole pixels."""
        shape, requested = inputs.image.shape[:2], inputs.controls.aspect
        u = jax.random.uniform(key, (2,))
        area = between(u[0], self.area) * whole_px(inputs)
        low, high = self.aspect
        aspect = jnp.exp(between(u[1], (math.log(low), math.log(high))))
        if requested is not None:
            aspect = jnp.asarray(requested, jnp.float32)
        height, width = placement.box_sides(area, aspect, shape)
        return height.astype(jnp.float32), width.astype(jnp.float32)

    def _cut(
        self,
        key: Key[Array, ""],
        source: Float[Array, "h w 1"] | None,
        size: Size,
        shape: tuple[int, int],
    ) -> Size:
        """Top-left corner of the cut: anywhere, or mostly on the object."""
        room = [full - side for full, side in zip(shape, size, strict=True)]
        if source is None:
            u = jax.random.uniform(key, (2,))
            return jnp.floor(u[0] * room[0]), jnp.floor(u[1] * room[1])
        height, width = (side.astype(jnp.int32) for side in size)

        def candidate(y, x):
            return placement.box_around(y, x, height, width, shape)

        y0, x0 = jax.vmap(candidate)(*_pixels(key, source))
        sums = placement.integral_image(source)
        height, width = jnp.full_like(y0, height), jnp.full_like(x0, width)
        share = placement.box_sum(sums, y0, x0, height, width) / (size[0] * size[1])
        best = placement.first_acceptable(share, threshold=self.min_object_frac)
        return y0[best].astype(jnp.float32), x0[best].astype(jnp.float32)

    def _warp(
        self,
        key: Key[Array, ""],
        inputs: Inputs,
        size: Size,
    ) -> tuple[Warp, Bool[Array, ""]]:
        """The drawn geometric operations as one map, and whether it makes a scar."""
        requested = inputs.controls
        chosen = _choose(stream(key, "choice"), self.geometric, GEOMETRIC)
        u = jax.random.uniform(stream(key, "strength"), (6,))
        squeezed = chosen["squeeze"]
        angle = jnp.where(chosen["rotate"], between(u[0], _symmetric(90.0)), 0.0)
        angle += jnp.where(squeezed, between(u[1], _symmetric(45.0)), 0.0)
        if requested.angle is not None:
            angle = jnp.asarray(requested.angle, jnp.float32)
        shear = jnp.tan(between(u[2], _symmetric(15.0)))
        shear = jnp.where(chosen["shear"], shear, 0.0)
        scale = jnp.where(chosen["scale"], between(u[3], (0.7, 1.3)), 1.0)
        unit = min(inputs.image.shape[:2]) / _REFERENCE_SIDE_PX
        length = jnp.maximum(between(u[4], _SCAR_LENGTH_PX) * unit, 1.0)
        width = jnp.maximum(between(u[5], _SCAR_WIDTH_PX) * unit, 1.0)
        if requested.aspect is not None:
            aspect = jnp.asarray(requested.aspect, jnp.float32)
            area = length * width
            length, width = jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)
        tall = scale * jnp.where(squeezed, length / size[0], 1.0)
        wide = scale * jnp.where(squeezed, width / size[1], 1.0)
        if requested.area is not None:
            # Flips, turns and shears keep the area: only these two factors change it.
            area = jnp.asarray(requested.area, jnp.float32) * whole_px(inputs)
            factor = jnp.sqrt(area / (tall * size[0] * wide * size[1]))
            tall, wide = factor * tall, factor * wide
        tall = jnp.where(chosen["flip_y"], -tall, tall)
        wide = jnp.where(chosen["flip_x"], -wide, wide)
        warp = affine_warp(tall=tall, wide=wide, shear=shear, angle_rad=angle)
        return warp, squeezed

    def _center(
        self,
        key: Key[Array, ""],
        where: Float[Array, "h w 1"] | None,
        extent: Size,
        offsets: tuple[Float[Array, "a b"], Float[Array, "a b"]],
        solid: Bool[Array, "a b"],
        shape: tuple[int, int],
    ) -> Size:
        """Center of the pasted piece: anywhere inside, or mostly where it may go.

        The share that would lie there is taken at points spread over the piece:
        `offsets` from its center, of which the `solid` ones count.
        """
        room = [full - side for full, side in zip(shape, extent, strict=True)]
        if where is None:
            u = jax.random.uniform(key, (2,))
            # A piece larger than the image is centered and cut.
            corner = (
                jnp.where(r > 0, jnp.floor(v * r), r / 2)
                for v, r in zip(u, room, strict=True)
            )
            y, x = (c + e / 2 for c, e in zip(corner, extent, strict=True))
            return _half(y), _half(x)
        # Corners are whole pixels: a piece that is not warped is copied, not resampled.
        corners = [
            jnp.clip(
                jnp.floor(p.astype(jnp.float32) + 0.5 - e / 2), 0.0, jnp.maximum(r, 0.0)
            )
            for p, e, r in zip(_pixels(key, where), extent, room, strict=True)
        ]
        centers = [
            jnp.where(r > 0, c, r / 2) + e / 2
            for c, e, r in zip(corners, extent, room, strict=True)
        ]
        y, x = (
            c[:, None, None] + o[None] for c, o in zip(centers, offsets, strict=True)
        )
        good = jnp.mean(inside_mask(where, y, x) & solid[None], axis=(1, 2))
        share = good / jnp.maximum(jnp.mean(solid), 1e-3)
        best = placement.first_acceptable(share, threshold=self.min_object_frac)
        return _half(centers[0][best]), _half(centers[1][best])

    def _recolor(
        self,
        key: Key[Array, ""],
        patch: Float[Array, "h w c"],
        mask: Float[Array, "h w 1"],
    ) -> Float[Array, "h w c"]:
        """One or two of the color operations, in the order drawn."""
        weights = mask[..., 0]
        radius = min(4, min(patch.shape[:2]) - 1)

        def noise(x, u):
            drawn = jax.random.normal(stream(key, "noise"), x.shape)
            return x + between(u, (0.0, 0.05)) * drawn

        def blur(x, u):
            return filters.gaussian_blur(x, between(u, (0.5, 2.0)), radius=radius)

        def on_planes(adjust, bounds):
            return lambda x, u: color.merge_channels(
                adjust(color.split_channels(x), between(u, bounds))
            )

        def contrast(planes, factor):
            return color.adjust_contrast(planes, factor, weights=weights)

        factor = (0.6, 1.4)
        operations = {
            "brightness": on_planes(color.adjust_brightness, factor),
            "contrast": on_planes(contrast, factor),
            "blur": blur,
            "noise": noise,
        }
        if patch.shape[-1] == 3:
            operations |= {
                "saturation": on_planes(color.adjust_saturation, factor),
                "hue": on_planes(color.adjust_hue, (-0.1, 0.1)),
                "grayscale": on_planes(color.adjust_saturation, (0.0, 0.0)),
            }
        branches = [operations[name] for name in self.color if name in operations]
        if not branches:
            return patch
        nothing = len(branches)
        drawn = jax.random.uniform(stream(key, "choice"), (nothing + 1,))
        order = jnp.append(jnp.argsort(drawn[1:]), nothing)[:2]
        second = (np.arange(2) == 1) & (drawn[0] < 0.5)
        order = jnp.where(second, nothing, order)
        branches = [*branches, lambda x, u: x]
        strength = jax.random.uniform(stream(key, "strength"), (2,))

        def step(x, slot):
            return grouped_switch(slot[0], branches, x, slot[1]), None

        return lax.scan(step, patch, (order, strength))[0]


def _sample(
    image: Float[Array, "h w c"],
    y: Float[Array, "a b"],
    x: Float[Array, "a b"],
    copied: Bool[Array, ""],
) -> Float[Array, "a b c"]:
    """Bilinear samples; the pixels themselves where nothing falls between them."""

    def by(method):
        return lambda: geometry.sample(image, y, x, fill=None, method=method)

    return lax.cond(copied, by("nearest"), by("bilinear"))


def _choose(
    key: Key[Array, ""], names: tuple[str, ...], known: tuple[str, ...]
) -> dict[str, Bool[Array, ""]]:
    """Which of `known` are drawn: one or two of `names`, without replacement."""
    chosen = dict.fromkeys(known, jnp.array(False))
    if not names:
        return chosen
    u = jax.random.uniform(key, (len(names) + 1,))
    rank = jnp.argsort(jnp.argsort(u[1:]))
    drawn = (rank == 0) | ((rank == 1) & (u[0] < 0.5))
    return chosen | {name: drawn[i] for i, name in enumerate(names)}


def _pixels(
    key: Key[Array, ""], mask: Float[Array, "h w 1"]
) -> tuple[Int[Array, " k"], Int[Array, " k"]]:
    """Candidate centers, uniform among the pixels of the mask."""
    keys = jax.random.split(key, _CANDIDATES)
    return jax.vmap(placement.random_pixel, in_axes=(0, None))(keys, mask)


def _half(position: Float[Array, ""]) -> Float[Array, ""]:
    """Nearest half pixel."""
    return jnp.round(2.0 * position) / 2.0


def _symmetric(degrees: float) -> tuple[float, float]:
    return -math.radians(degrees), math.radians(degrees)
