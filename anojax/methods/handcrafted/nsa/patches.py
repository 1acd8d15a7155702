"""How `nsa` draws its patches, finds places for them, and blends them in."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from anojax.methods.handcrafted.nsa.settings import NsaSettings
from anojax.ops.blend import allowed, requested_area_px
from anojax.ops.overlap import overlap_counts
from anojax.ops.patches import (
    bounded_size,
    box_in_window,
    centers_within,
    choose_crop,
    controlled_size,
    resized_crop,
)
from anojax.ops.placement import integral_image, random_pixel
from anojax.ops.poisson import EROSION_PX, clone_masked, clone_window
from anojax.ops.rank import binary_median, disk_median
from anojax.random import stream
from anojax.types import Inputs, Synthesis

# With control over the count, so many patches can be requested.
_MOST_PATCHES = 8
# The public code's solver fails on smaller ones; the rule is kept at 256 x 256.
_LEAST_PIXELS = 50
# OpenCV's 3 pixels would hide most patches in images smaller than this.
_FULL_EROSION_SIDE = 128


class Scene(NamedTuple):
    """What the patches of one image have in common, in gray levels."""

    source: Float[Array, "h w c"]
    """The other image."""
    objects: tuple[Float[Array, "h w 1"], Float[Array, "h w 1"]] | None
    """Where the object is in the source and in the image."""
    source_sums: Float[Array, "h1 w1"] | None
    region: Float[Array, "h w 1"] | None
    factor: Float[Array, ""] | None
    box_px: Float[Array, ""] | None
    """Area of each pasted box, if it is controlled."""
    aspect: Float[Array, ""] | None


class Draw(NamedTuple):
    """The random numbers of a patch; in the scan, with a leading axis."""

    active: Bool[Array, "*n"]
    half_frac: Float[Array, "*n 2"]
    """Half-height and half-width in the source."""
    scale: Float[Array, "*n"]
    source_tries: Float[Array, "*n k 2"]
    """Centers in the source, in [0, 1) of their range."""
    tries: Float[Array, "*n k 2"]
    """Centers in the image, likewise."""
    region_key: Key[Array, "*n"]
    """For centers in the image, if a region is given."""


class Patch(NamedTuple):
    """A patch in the window in which it is pasted."""

    levels: Float[Array, "p c q"]
    area: Bool[Array, "p 1 q"]
    """What it labels."""
    corner: Int[Array, "2"]
    """Of the window, in the image."""
    offset: tuple[Int[Array, ""], Int[Array, ""]]
    """Of the patch, in the window."""
    size: tuple[Int[Array, ""], Int[Array, ""]]
    found: Bool[Array, ""]
    """Whether there was a place for it."""


@dataclass(frozen=True)
class Patches:
    """The steps of the synthesis, in the order in which `Nsa` takes them."""

    how: NsaSettings

    def draw(self, key: Key[Array, ""], inputs: Inputs) -> Draw:
        """All random numbers but the factor of the continuous label."""
        count, limit = inputs.controls.count, self.how.setting("max_patches")
        n = limit if count is None else max(limit, _MOST_PATCHES)
        size, gate, resize, place = jax.random.split(stream(key, "shape"), 4)
        if count is None:
            active = jax.random.bernoulli(gate, 0.5, (n,)).at[0].set(True)
        else:
            active = jnp.arange(n) < jnp.maximum(jnp.round(count).astype(jnp.int32), 1)
        scale, offset = self.how.setting("gamma")
        # A Gamma variable of shape 2 is the sum of two exponential ones.
        half = offset + scale * jax.random.exponential(size, (n, 2, 2)).sum(axis=-1)
        factor = 1.0 + 0.5 * jax.random.normal(resize, (n,))
        # Without objects the first place is as good as any.
        tries = (n, self.how.tries if self._knows_objects(inputs) else 1, 2)
        return Draw(
            active,
            half,
            jnp.clip(factor, *self.how.setting("resize")),
            jax.random.uniform(stream(key, "source"), tries),
            jax.random.uniform(place, tries),
            jax.random.split(place, n),
        )

    def scene(
        self, key: Key[Array, ""], inputs: Inputs, levels: Array, patches: Array
    ) -> Scene:
        source = jnp.round(inputs.source * 255.0)
        factor, box_px, controls = None, None, inputs.controls
        if self.how.label == "continuous":
            factor = jax.random.uniform(
                stream(key, "blend"), (), minval=0.05, maxval=0.95
            )
        if controls.area is not None:
            area = requested_area_px(inputs)
            side = jnp.sqrt(area / patches.astype(jnp.float32))
            # The rim of a box hardly changes, so it does not count.
            box_px = (side + 2.0 * (1 + _erosion_px(levels.shape))) ** 2
        objects, sums = None, None
        if self._knows_objects(inputs):
            objects = (
                self._object(source, inputs.source_foreground),
                self._object(levels, inputs.foreground),
            )
            sums = integral_image(objects[0])
        region = None if inputs.region is None else allowed(inputs)
        return Scene(source, objects, sums, region, factor, box_px, controls.aspect)

    def _knows_objects(self, inputs: Inputs) -> bool:
        given = inputs.foreground is not None or inputs.source_foreground is not None
        return given or self.how.setting("background") is not None

    def _object(
        self, levels: Float[Array, "h w c"], given: Float[Array, "h w 1"] | None
    ) -> Float[Array, "h w 1"]:
        """The object of an image: the one given, or what is not background."""
        if given is not None:
            return given
        if self.how.setting("background") is None:
            return jnp.ones_like(levels[..., :1])
        level, tolerance = self.how.setting("background")
        # Plane by plane: four times as fast on CPU as reducing an innermost axis.
        mean = sum(levels[..., c : c + 1] for c in range(levels.shape[2]))
        distance = jnp.abs(mean / levels.shape[2] - level)
        return binary_median((distance > tolerance).astype(jnp.float32), size_px=7)

    def window(self, inputs: Inputs) -> tuple[int, int]:
        """Static size of the window in which a patch of any size fits."""
        shape = inputs.image.shape[:2]
        if inputs.controls.area is not None:
            return shape
        _, high = self.how.bounds_px(shape)
        # Whole vectors are faster than a remainder.
        return tuple(min(n, -(-m // 8) * 8) for n, m in zip(shape, high, strict=True))

    def choose(self, scene: Scene, draw: Draw, window: tuple[int, int]) -> Patch:
        """Take a patch from the source and find a place for it."""
        shape = scene.source.shape[:2]
        crop, in_source = self._crop(scene, draw)
        size = self._size(scene, draw, crop, shape)
        box, in_place = self._place(scene, draw, crop, size, shape, window)
        corner = jnp.minimum(box, np.subtract(shape, window).astype(np.int32))
        offset = (box[0] - corner[0], box[1] - corner[1])
        least = min(_LEAST_PIXELS, _LEAST_PIXELS * shape[0] * shape[1] // 256**2)
        found = in_source & in_place & ((size[0] - 2) * (size[1] - 2) >= least)
        resized = partial(
            resized_crop, crop=crop, size=size, window=window, offset=offset
        )
        area = rearrange(box_in_window(window, offset, size), "p q c -> p c q")
        if scene.objects is not None:
            theirs = rearrange(scene.objects[1], "h w c -> h c w")
            theirs = lax.dynamic_slice(theirs, (corner[0], 0, corner[1]), area.shape)
            area &= (resized(scene.objects[0]) >= 0.5) | (theirs > 0.5)
        # OpenCV resizes bytes to bytes.
        levels = jnp.floor(resized(scene.source) + 0.5)
        return Patch(levels, area, corner, offset, size, found)

    def paste(
        self,
        scene: Scene,
        patch: Patch,
        old: Float[Array, "p c q"],
        labeled: Float[Array, "p 1 q"],
    ) -> tuple[Float[Array, "p c q"], Float[Array, "p 1 q"]]:
        """The window with the patch blended in, and what is labeled in it."""
        mixed = self.how.setting("clone") == "mixed"
        (y, x), (height, width) = patch.offset, patch.size
        if self.how.domain == "mask":
            given = (patch.levels, old, patch.area.astype(jnp.float32))
            given = (rearrange(v, "p c q -> p q c") for v in given)
            new = rearrange(clone_masked(*given, mixed=mixed), "p q c -> p c q")
        else:
            # The outermost ring of the patch is not used.
            box = (y + 1, y + height - 1, x + 1, x + width - 1)
            erosion = _erosion_px(scene.source.shape)
            new = clone_window(patch.levels, old, box, mixed=mixed, erosion_px=erosion)
        if scene.factor is not None:
            # Differs: the factor weakens the change instead of the guidance field,
            # which is the same thing because the equation is linear.
            new = old + scene.factor * (new - old)
        kept = labeled > 0.5
        if self.how.merge == "overwrite":
            window = (old.shape[0], old.shape[2])
            inside = box_in_window(window, patch.offset, patch.size)
            kept &= ~rearrange(inside, "p q c -> p c q")
        # OpenCV truncates.
        new = jnp.floor(jnp.clip(new, 0.0, 255.0))
        return new, (kept | patch.area).astype(jnp.float32)

    def _crop(
        self, scene: Scene, draw: Draw
    ) -> tuple[tuple[Array, ...], Bool[Array, ""]]:
        """Where the patch is taken: ``(y0, x0, height, width)``, and if there is."""
        shape = scene.source.shape[:2]
        low, high = (np.asarray(v, np.float32) for v in self.how.bounds_px(shape))
        half = jnp.clip(draw.half_frac * np.asarray(shape, np.float32), low, high)
        margin = tuple(int(v) for v in low)
        centers = centers_within(draw.source_tries, margin, shape)
        return choose_crop(
            centers,
            half.astype(jnp.int32),
            shape,
            sums=scene.source_sums,
            least_frac=self.how.setting("min_object_frac"),
        )

    def _size(
        self, scene: Scene, draw: Draw, crop: tuple, shape: tuple[int, int]
    ) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """Height and width of the pasted box."""
        low, high = self.how.bounds_px(shape)
        size = bounded_size(crop[2:], draw.scale, low, high)
        if scene.box_px is None and scene.aspect is None:
            return size
        if scene.box_px is not None:
            # A margin of one pixel all around, and one more for odd sizes.
            high = tuple(max(n - 3, 1) for n in shape)
        return controlled_size(size, high, area_px=scene.box_px, aspect=scene.aspect)

    def _place(
        self,
        scene: Scene,
        draw: Draw,
        crop: tuple,
        size: tuple,
        shape: tuple[int, int],
        window: tuple[int, int],
    ) -> tuple[Int[Array, "2"], Bool[Array, ""]]:
        """Corner of the pasted box, and whether there is a place for it."""
        margin = tuple(v // 2 + 1 for v in size)
        if scene.region is None:
            centers = centers_within(draw.tries, margin, shape)
        else:
            keys = jax.random.split(draw.region_key, draw.tries.shape[0])
            pixels = jax.vmap(random_pixel, in_axes=(0, None))(keys, scene.region)
            stops = [n - m - 1 for n, m in zip(shape, margin, strict=True)]
            centers = jnp.clip(
                jnp.stack(pixels, -1), jnp.stack(margin)[None], jnp.stack(stops)[None]
            )
        corners = centers - (jnp.stack(margin) - 1)[None]
        if scene.objects is None:
            return corners[0], jnp.bool_(True)
        ours = resized_crop(scene.objects[0], crop, size, window=window)
        inside = box_in_window(window, (0, 0), size)
        ours = (inside & (rearrange(ours, "h w c -> h c w") >= 0.5)).astype(jnp.float32)
        common = overlap_counts(scene.objects[1], ours, corners[:, 0], corners[:, 1])
        held, whole = ours.sum(), (size[0] * size[1]).astype(jnp.float32)
        good = common.astype(jnp.float32) > self.how.min_overlap_frac * held
        good &= held > self.how.setting("min_object_frac") * whole
        return corners[jnp.argmax(good)], good.any()

    def label(
        self, before: Array, after: Array, labeled: Array, factor: Array | None
    ) -> tuple[Float[Array, "h w 1"], Float[Array, "h w 1"]]:
        """Where the image changed visibly, and alpha: how much."""
        channels = before.shape[1]
        # Whole numbers: the mean over three channels is a multiple of 1/3.
        change = (jnp.abs(after - before).sum(axis=1) * labeled[:, 0])[..., None]
        changed = (change > self.how.tolerance * channels).astype(jnp.float32)
        mask = binary_median(changed, size_px=5)
        if self.how.label == "binary":
            return mask, mask
        if self.how.label == "continuous":
            return mask, mask * factor
        total = (change * mask)[..., 0].astype(jnp.int32)
        bits = (255 * channels).bit_length()
        total = disk_median(total, radius_px=5, bits=bits)
        # Only so many values can occur: a table, exact to the last bit.
        level = np.arange(255 * channels + 1) / channels
        if self.how.label == "intensity":
            table = level / 255
        else:
            slope, midpoint = self.how.setting("logistic")
            table = 1 / (1 + np.exp(-slope * (level - midpoint)))
        table = jnp.asarray(table.astype(np.float32))
        alpha = table.at[total].get(mode="promise_in_bounds")[..., None]
        return mask, mask * alpha


def _erosion_px(shape: tuple[int, ...]) -> int:
    share = min(1.0, min(shape[:2]) / _FULL_EROSION_SIDE)
    return max(1, round(EROSION_PX * share))


def cut_window(
    after: Float[Array, "h c w"],
    labeled: Float[Array, "h 1 w"],
    corner: Int[Array, "2"],
    window: tuple[int, int],
) -> tuple[Float[Array, "p c q"], Float[Array, "p 1 q"]]:
    """The window at `corner` of both."""
    place, (height, width) = (corner[0], 0, corner[1]), window
    return tuple(
        lax.dynamic_slice(v, place, (height, v.shape[1], width))
        for v in (after, labeled)
    )


def with_leftovers(inputs: Inputs, new: Array, out: Synthesis) -> Synthesis:
    """Leave changed pixels outside the mask as they came out of the blending."""
    severity = inputs.controls.severity
    if severity is not None:
        new = inputs.image + severity * (new - inputs.image)
    where = allowed(inputs)
    if where is not None:
        new = jnp.where(where > 0.5, new, inputs.image)
    return out.replace(image=jnp.clip(new, 0.0, 1.0))
