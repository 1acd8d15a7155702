"""REB's DefectMaker: smooth random shapes filled with a cut-out or with coarse noise.

Six makers: {patch, scar, clump of blobs} x {cut from a normal image, noise}. All the
outlines are closed Bezier curves; sizes in pixels hold at a side of 256 and scale with
the image.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Int, Key

from anojax.core import Card, Synthesizer, hp
from anojax.ops import color, lowres, placement, shapes
from anojax.ops.blend import allowed, local_synthesis, requested_area_px
from anojax.ops.branch import grouped_switch
from anojax.random import between, stream
from anojax.types import Inputs, PyTree, Synthesis

MAKERS = (
    "bezier_cp",
    "bezier_scar_cp",
    "bezier_clump_cp",
    "bezier_noise",
    "bezier_scar_noise",
    "bezier_clump_noise",
)
PATCH, SCAR, CLUMP = range(3)
# Grain of a clump: 101 levels from 77 on; blobs are above 138, some 35 % of the box.
BLOB_LOW, BLOB_LEVELS, BLOB_ABOVE, BLOB_SHARE = 77, 101, 138.0, 0.35
# Noise fill: means 50, 60 .. 190, fluctuations 0, 5 .. 45, cell heights and shapes.
MEAN_LOW, MEAN_STEP, MEANS = 50, 10, 15
FLUCTUATION_STEP, FLUCTUATIONS = 5, 10
CELL_SIZES, CELL_ASPECTS = 3, (0.25, 0.5, 1.0, 2.0, 4.0)
# Uniform draws per shape, beside those of the corners.
SCALARS = 9
# Radius of the soft edge at a side of 256.
EDGE_PX = {PATCH: 2, SCAR: 1, CLUMP: 1}


class Shape(NamedTuple):
    """A shape in the top-left corner of its window, and the size of its box."""

    mask: Float[Array, "h w 1"]
    alpha: Float[Array, "h w 1"]
    height: Int[Array, ""]
    width: Int[Array, ""]


@dataclass(frozen=True)
class Reb(Synthesizer):
    """Bezier patches, scars and clumps, filled from another image or with noise."""

    card: ClassVar[Card] = Card(
        title="REB: Reducing biases in representation for industrial anomaly detection",
        authors="Shuai Lyu, Dongmei Mo, Waikeung Wong",
        venue="Knowledge-Based Systems 290",
        year=2024,
        url="https://arxiv.org/abs/2308.12577",
        paradigm="handcrafted",
        family="self_contained",
        level="image",
        needs=("normal",),
        controls=("severity", "area", "aspect", "angle"),
        code_url="https://github.com/ShuaiLYU/REB",
        code_license="Apache-2.0",
        fidelity="statistics",
        differences=(
            "One maker is drawn per image; the code runs all six on each.",
            "The defect is cut off at the foreground; the code only centers it there.",
            "The smoothed edge stays inside the mask; the code's spills by a pixel.",
            "The color jitter works on floats; the code truncates to 8 bits after each "
            "step, which darkens a copied fill by about a level.",
            "An empty clump is kept and reported; the code redraws up to four times "
            "on errors only.",
        ),
    )

    maker: str = hp(
        "all", "one maker, or all of them equally likely", choices=("all", *MAKERS)
    )
    area: tuple[float, float] = hp(
        (0.02, 0.15),
        "area of the box of a patch or clump, as a fraction of the image",
        low=0.001,
        high=1.0,
    )
    patch_aspect: float = hp(3.3, "largest aspect of a patch's box", low=1.0, high=10.0)
    clump_aspect: float = hp(3.0, "largest aspect of a clump's box", low=1.0, high=10.0)
    scar_width_px: tuple[int, int] = hp(
        (7, 21), "width of a scar in pixels, at a side of 256", low=1
    )
    scar_length_px: tuple[int, int] = hp(
        (15, 30), "length of a scar in pixels, at a side of 256", low=1
    )
    scar_angle_deg: int = hp(45, "largest rotation of a scar", low=0, high=180)
    points: tuple[int, int] = hp(
        (5, 6), "number of corners of a patch or scar", low=3, high=12
    )
    clump_points: tuple[int, int] = hp(
        (5, 9), "number of corners of a clump", low=3, high=12
    )
    tensions: tuple[float, ...] = hp(
        (0.2, 0.3, 0.4),
        "factors by which the handles of the curves shrink, equally likely",
        low=0.0,
        high=1.0,
    )
    straight: float = hp(0.5, "share of edges that are straight", low=0.0, high=1.0)
    blob_px: tuple[float, float] = hp(
        (5.0, 7.0), "grain of a clump in pixels, at a side of 256", low=1.0
    )
    clump_weight: tuple[float, float] = hp(
        (0.5, 1.0), "opacity of a clump", low=0.0, high=1.0
    )
    smooth: float = hp(0.5, "share of shapes with a soft edge", low=0.0, high=1.0)
    jitter: float = hp(0.1, "color jitter of the fill", low=0.0, high=0.5)

    @property
    def needs(self) -> tuple[str, ...]:
        """The noise makers do without a second image."""
        return () if self.maker.endswith("noise") else self.card.needs

    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        """Draw a maker, a shape, a fill and a place."""
        del params
        maker = jnp.int32(MAKERS.index(self.maker) if self.maker in MAKERS else 0)
        if self.maker == "all":
            maker = jax.random.randint(stream(key, "maker"), (), 0, len(MAKERS))
        kind, noisy = maker % 3, maker >= 3
        small, large = self._windows(inputs)

        # Drawn once, before the branches: every generator is compiled code.
        most = max(self.points[1], self.clump_points[1])
        u = jax.random.uniform(stream(key, "shape"), (3 * most + SCALARS,))
        u = u[SCALARS:].reshape(most, 3), u[:SCALARS]
        at = stream(key, "place"), allowed(inputs)
        center = placement.random_pixel(*at, shape=inputs.image.shape[:2])

        def scar():
            cut = self._shape(u, inputs, SCAR, small)
            return self._paste(key, inputs, cut, center, noisy)

        def other():
            cut = grouped_switch(
                kind == CLUMP,
                [
                    lambda: self._shape(u, inputs, PATCH, large),
                    lambda: self._shape(u, inputs, CLUMP, large, stream(key, "blobs")),
                ],
            )
            return self._paste(key, inputs, cut, center, noisy)

        new, mask, alpha, aux = grouped_switch(kind == SCAR, [other, scar])
        return local_synthesis(inputs, new, mask, alpha=alpha, label=maker + 1, aux=aux)

    def _windows(self, inputs: Inputs) -> tuple[tuple[int, int], tuple[int, int]]:
        """Canvases (height, width) that hold every scar, and every other shape."""
        shape, requested = inputs.image.shape[:2], inputs.controls
        if any(
            c is not None for c in (requested.area, requested.aspect, requested.angle)
        ):
            return shape, shape
        longest = math.hypot(self.scar_width_px[1], self.scar_length_px[1])
        widest = max(self.patch_aspect, self.clump_aspect) * self.area[1]
        scar = longest * _scale(shape) + 3
        other = math.sqrt(widest * shape[0] * shape[1]) + 1
        # A box that is too wide for the image grows in height instead.
        others = [max(other, self.area[1] * side + 1) for side in shape]
        small = [min(math.ceil(scar), side) for side in shape]
        large = [min(math.ceil(o), side) for o, side in zip(others, shape, strict=True)]
        return tuple(small), tuple(large)

    def _shape(self, u, inputs: Inputs, kind: int, window, key=None) -> Shape:
        """A shape of that kind in the top-left corner of its window.

        `u` holds uniform draws, three per corner and `SCALARS` for the rest; `key` is
        that of the blobs of a clump.
        """
        shape, requested = inputs.image.shape[:2], inputs.controls
        corners, (count, tension, *size, smooth, weight, grain, stretch) = u
        outline = self._outline(corners, count, tension, kind)
        area, aspect, angle = self._law(size, shape, kind)
        if requested.area is not None:
            filled = shapes.enclosed_fraction(outline)
            filled = filled * BLOB_SHARE if kind == CLUMP else filled
            area = requested_area_px(inputs) / filled
        if requested.aspect is not None:
            aspect = jnp.asarray(requested.aspect, jnp.float32)
        if requested.angle is not None:
            angle = jnp.asarray(requested.angle, jnp.float32)

        turned = kind == SCAR or requested.angle is not None
        if turned:
            area = placement.area_that_fits(area, aspect, angle, window)
        height, width = placement.box_sides(area, aspect, shape)
        mask = shapes.polygon_mask(window, shapes.fit_box(outline, height, width))
        if kind == CLUMP:
            blobs = self._blobs(key, grain, stretch, (height, width), window, shape)
            mask = mask * blobs
        if turned:
            mask, height, width = shapes.rotate_mask(mask, height, width, angle)

        radius = round(EDGE_PX[kind] * _scale(shape))
        feather = partial(shapes.feather, radius=radius)
        alpha = grouped_switch(
            smooth < self.smooth,
            [lambda mask, height, width: mask, feather],
            mask,
            height,
            width,
        )
        if kind == CLUMP:
            alpha = alpha * between(weight, self.clump_weight)
        return Shape(mask, alpha, height, width)

    def _outline(self, corners, count, tension, kind: int) -> Float[Array, "n 2"]:
        """Corners on a 100 x 100 grid, in angular order, joined by smooth edges."""
        bounds = self.clump_points if kind == CLUMP else self.points
        corners, count = corners[: bounds[1]], _whole(count, *bounds)
        choices = jnp.asarray(self.tensions, jnp.float32)
        return shapes.smooth_outline(
            shapes.sort_by_angle(jnp.floor(100.0 * corners[:, :2]), count=count),
            tension=choices[_whole(tension, 0, len(self.tensions) - 1)],
            straight=corners[:, 2] < self.straight,
            count=count,
        )

    def _law(self, u, shape: tuple[int, int], kind: int):
        """Area in pixels, aspect and angle of the box before it is turned."""
        if kind == SCAR:
            sizes = zip(u, (self.scar_width_px, self.scar_length_px), strict=False)
            width, height = (
                jnp.round(_whole(v, *bounds).astype(jnp.float32) * _scale(shape))
                for v, bounds in sizes
            )
            limit = self.scar_angle_deg
            angle = jnp.deg2rad(_whole(u[2], -limit, limit).astype(jnp.float32))
            return width * height, width / height, angle
        limit = math.log(self.clump_aspect if kind == CLUMP else self.patch_aspect)
        area = between(u[0], self.area) * (shape[0] * shape[1])
        return area, jnp.exp(between(u[1], (-limit, limit))), jnp.float32(0.0)

    def _blobs(self, key, grain, stretch, size, window, shape):
        """Coarse noise above a threshold; both cell counts come from the width."""
        finest, coarsest = (max(px * _scale(shape), 1.0) for px in self.blob_px)
        across = size[1].astype(jnp.float32) / between(grain, (finest, coarsest))
        aspect = jnp.exp2(between(stretch, (-1.0, 1.0)))
        most = math.ceil(2.0 * window[1] / finest)
        noise = lowres.coarse_noise(
            jax.random.bits(key, (1, most, most), jnp.uint16),
            BLOB_LOW,
            BLOB_LEVELS,
            (lowres.whole_cells(across / aspect), lowres.whole_cells(across * aspect)),
            size,
            canvas=window,
        )
        return (noise[0, ..., None] > BLOB_ABOVE).astype(jnp.float32)

    def _paste(self, key: Key[Array, ""], inputs: Inputs, cut: Shape, center, noisy):
        """Fill the shape and put it into the image."""
        image, window = inputs.image, cut.mask.shape[:2]
        shape = image.shape[:2]
        box = placement.box_around(*center, cut.height, cut.width, shape)
        corner, (y, x) = placement.window_over(*box, window, shape)
        fill, (fill_y, fill_x) = self._fill(stream(key, "source"), inputs, cut, noisy)
        fill = color.jitter(
            stream(key, "jitter"),
            fill,
            brightness=self.jitter,
            contrast=self.jitter,
            saturation=self.jitter,
            hue=self.jitter,
            weights=shapes.box_mask(window, fill_y, fill_x, cut.height, cut.width),
        )
        # The box lies at different places in the windows of shape, fill and image.
        fill = jnp.roll(fill, (y - fill_y, x - fill_x), (0, 1))
        mask, alpha = (jnp.roll(m, (y, x), (0, 1)) for m in (cut.mask, cut.alpha))

        at = (*corner, 0)
        old = lax.dynamic_slice(image, at, fill.shape)
        # Truncated to 8 bits; the slack keeps levels that are whole where they are.
        new = jnp.floor(255.0 * (old + alpha * (fill - old)) + 1 / 512) / 255.0
        blank = jnp.zeros((*shape, 1), jnp.float32)
        return (
            lax.dynamic_update_slice(image, new, at),
            lax.dynamic_update_slice(blank, mask, at),
            lax.dynamic_update_slice(blank, alpha, at),
            {"height": cut.height, "width": cut.width},
        )

    def _fill(self, key: Key[Array, ""], inputs: Inputs, cut: Shape, noisy):
        """A window of fill, and where in it the box of the shape begins."""
        source, window, size = (
            inputs.source,
            cut.mask.shape[:2],
            (cut.height, cut.width),
        )
        scale, channels = _scale(inputs.image.shape), inputs.image.shape[2]

        def noise():
            levels = _noise(key, size, window, channels, scale)
            return rearrange(levels, "c h w -> h w c") / 255.0, (
                jnp.int32(0),
                jnp.int32(0),
            )

        def copy():
            shape = source.shape[:2]
            pixel = placement.random_pixel(key, inputs.source_foreground, shape=shape)
            box = placement.box_around(*pixel, *size, shape)
            corner, inside = placement.window_over(*box, window, shape)
            return lax.dynamic_slice(source, (*corner, 0), (*window, channels)), inside

        return noise() if source is None else grouped_switch(noisy, [copy, noise])


def _noise(key: Key[Array, ""], size, window, channels: int, scale: float):
    """Gray, colored grain or stripes: coarse noise around a random mean."""
    cell_key, key = jax.random.split(key)
    u = jax.random.uniform(key, (4,))
    mean = MEAN_LOW + MEAN_STEP * _whole(u[0], 0, MEANS - 1)
    swing = FLUCTUATION_STEP * _whole(u[1], 0, FLUCTUATIONS - 1)
    cell = jnp.exp2(_whole(u[2], 0, CELL_SIZES - 1).astype(jnp.float32))
    return lowres.noise_of_random_shape(
        cell_key,
        mean - swing,
        2 * swing + 1,
        size[1].astype(jnp.float32) / jnp.maximum(cell * scale, 1.0),
        _whole(u[3], 0, len(CELL_ASPECTS) - 1),
        size,
        aspects=CELL_ASPECTS,
        most_across=window[1] / max(scale, 1.0),
        channels=channels,
        canvas=window,
    )


def _scale(shape: tuple[int, ...]) -> float:
    """Pixels per pixel of an image whose smaller side is 256."""
    return min(shape[:2]) / 256


def _whole(u: Float[Array, ""], low: int, high: int) -> Int[Array, ""]:
    """A whole number from `low` to `high`, both included, from u in [0, 1)."""
    return low + jnp.floor(u * (high - low + 1)).astype(jnp.int32)
