"""Where the object is, decided once for all images of a category.

A defect belongs on the object, not on the table beside it. But images of a material
have no table, and a threshold would still find something in them. So "auto" first asks
whether (nearly) all images show an object on a plain background; only then are masks
made, one for each image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy import ndimage

from anojax.data.mask_files import MaskFiles, mask_files
from anojax.data.reading import AS_STORED, Reading
from anojax.data.records import to_size
from anojax.errors import DataError

SAMPLE = 24
NEARLY_ALL = 0.9
WORK_PX = 128

# What makes an image one of an object, measured on textures, tiles and objects:
# objects stand out from the border by 16 to 50 times its unevenness, textures by 0.5
# to 6; Otsu explains 0.87 of an object image's variance and more.
LEAST_CONTRAST = 8.0
LEAST_SEPARATION = 0.7
MOST_BORDER = 0.25
AREA_RANGE = (0.02, 0.9)


@dataclass(frozen=True)
class Foregrounds:
    """The decision for a category, and the masks that follow from it."""

    kind: str
    """"object", "texture" (the whole image) or "folder"."""
    sentence: str
    """The decision in words."""
    masks: MaskFiles | None = None

    def __call__(
        self, image: UInt8[np.ndarray, "h w c"], path: Path | None = None
    ) -> UInt8[np.ndarray, "h w 1"] | None:
        """The foreground of one image, 0 or 1; ``None`` is the whole image.

        `path` is the image's file, needed when masks come from a folder.
        """
        if self.kind == "texture":
            return None
        if self.kind == "object":
            return find_object(image).mask.astype(np.uint8)[..., None]
        return self.masks.read(path, image.shape[:2])


def foregrounds(
    images: Sequence[Path | np.ndarray],
    mode: str | Path = "auto",
    *,
    root: Path | None = None,
    reading: Reading = AS_STORED,
) -> Foregrounds:
    """Decide how the foregrounds of a category's images are found.

    Args:
      images: files, or uint8 arrays ``[H, W, C]``; at most `SAMPLE` of them, evenly
        spread, are looked at, and unreadable ones are passed over.
      mode: "auto"; "none" for the whole image; a folder with one mask per image,
        named as the image, of the same size; or one mask for all.
      root: folder of the images, below which masks are in the same places; by
        default the one that holds all of them.
      reading: how files are read.

    Raises:
      DataError: no image can be read, or a mask does not fit.
    """
    if str(mode) == "none":
        return Foregrounds("texture", "the whole image, as requested")
    if str(mode) != "auto":
        masks = mask_files(mode, images, root, "foreground", reading.classes)
        words = "masks from" if masks.pairs else "one mask for all:"
        return Foregrounds("folder", f"{words} {mode}", masks)
    seen, reasons = [], []
    for image in _spread(images):
        try:
            seen.append(_look(image, reading))
        except DataError as error:
            # Named when its own turn comes; the decision rests on the others.
            reasons.append(str(error))
    if not seen:
        raise DataError(
            "none of the images can be read: "
            + (reasons[0] if reasons else "there are none")
        )
    hits = sum(found.plain_background for found in seen)
    count = f"{hits or 'none'} of {len(seen)} images looked at"
    if hits >= NEARLY_ALL * len(seen):
        area = np.mean([found.mask.mean() for found in seen])
        return Foregrounds(
            "object",
            f"object on a plain background in {count}, about {area:.0%} of the image: "
            "defects go on the object (--foreground none for everywhere)",
        )
    return Foregrounds(
        "texture",
        f"texture (an object on a plain background in {count}): defects may go "
        "anywhere (--foreground DIR for masks of your own)",
    )


def _spread(images: Sequence) -> list:
    """At most `SAMPLE` of the images, evenly spread."""
    picks = np.linspace(0, len(images) - 1, min(SAMPLE, len(images)))
    return [images[i] for i in picks.round().astype(int)]


def _look(image: Path | np.ndarray, reading: Reading) -> "Found":
    if isinstance(image, np.ndarray):
        return find_object(image)
    return find_object(reading.small(image, reading.image(image), 2 * WORK_PX))


@dataclass(frozen=True, eq=False)
class Found:
    """An object in an image, and how sure one can be of it."""

    mask: Bool[np.ndarray, "h w"]
    contrast: float
    """Distance of the object from the background, over the unevenness of the border."""
    separation: float
    """Share of the variance that two classes explain (Otsu's criterion)."""
    border: float
    """Share of the border that the object covers."""

    @property
    def plain_background(self) -> bool:
        """Whether this is an image of an object on a plain background."""
        return bool(
            self.contrast >= LEAST_CONTRAST
            and self.separation >= LEAST_SEPARATION
            and self.border <= MOST_BORDER
            and AREA_RANGE[0] <= float(self.mask.mean()) <= AREA_RANGE[1]
        )


def find_object(image: UInt8[np.ndarray, "h w c"]) -> Found:
    """The object as what differs from a smooth background fitted to the border.

    Works at about 128 px. Parts of at least a tenth of the largest one are kept, holes
    are filled, and soft shadows beside a colored object are left out.
    """
    h, w, _ = image.shape
    scale = min(1.0, WORK_PX / min(h, w))
    shape = max(8, round(h * scale)), max(8, round(w * scale))
    pixels = to_size(image, shape).astype(np.float32) / 255
    pixels = ndimage.gaussian_filter(pixels, (0.75, 0.75, 0))
    ring = np.ones(shape, bool)
    width = max(1, min(shape) // 32)
    ring[width:-width, width:-width] = False
    background = _background(pixels, ring)
    far = np.sqrt(np.mean((pixels - background) ** 2, axis=-1))
    threshold, separation = _otsu(far)
    uneven = float(np.quantile(far[ring], 0.8))
    # Below Otsu: half-tones of the object count too, where the background is even.
    mask = far > min(threshold, np.sqrt(max(0.02, 2 * uneven) * threshold))
    mask &= ~_shadow(pixels, background, mask)
    mask = _solid(mask)
    contrast = float(np.median(far[mask]) / max(uneven, 0.01)) if mask.any() else 0.0
    full = Image.fromarray(255 * mask.astype(np.uint8))
    full = np.asarray(full.resize((w, h), Image.Resampling.BILINEAR)) >= 128
    return Found(full, contrast, separation, float(mask[ring].mean()))


def _background(
    pixels: Float[np.ndarray, "h w c"], ring: Bool[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w c"]:
    """A plane per channel through the four fifths of the border that agree best."""
    h, w, _ = pixels.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    basis = np.stack([np.ones_like(x), y / h - 0.5, x / w - 0.5], axis=-1)
    values = pixels[ring]
    off = np.abs(values - np.median(values, axis=0)).mean(axis=-1)
    kept = off <= np.quantile(off, 0.8)
    plane, *_ = np.linalg.lstsq(basis[ring][kept], values[kept], rcond=None)
    return basis @ plane


def _otsu(values: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Otsu's threshold, and the share of the variance that it explains."""
    counts, _ = np.histogram(values, 256, (0, 1))
    share = counts / counts.sum()
    centers = (np.arange(256) + 0.5) / 256
    below, mean = np.cumsum(share), np.cumsum(share * centers)
    spread = (mean[-1] * below - mean) ** 2
    between = spread / np.maximum(below * (1 - below), 1e-9)
    total = np.sum(share * centers**2) - mean[-1] ** 2
    best = between >= between.max() * (1 - 1e-5)
    return float(centers[best].mean()), float(between.max() / max(total, 1e-9))


def _shadow(
    pixels: Float[np.ndarray, "h w c"],
    background: Float[np.ndarray, "h w c"],
    mask: Bool[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """Pixels that only darken the background, if the object has another color."""
    level, ground = pixels.mean(axis=-1), background.mean(axis=-1)
    tint = pixels / np.maximum(level, 0.05)[..., None]
    tint = tint - background / np.maximum(ground, 0.05)[..., None]
    color = np.abs(tint).max(axis=-1)
    if not mask.any() or np.median(color[mask]) < 0.15:
        return np.zeros_like(mask)
    ratio = level / np.maximum(ground, 0.05)
    return (color < 0.1) & (ratio > 0.5) & (ratio < 1.0)


def _solid(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Close gaps, drop specks, fill holes."""
    padded = np.pad(mask, 2)
    mask = ndimage.binary_closing(padded, np.ones((3, 3)))[2:-2, 2:-2] | mask
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    mask = (sizes >= 0.1 * sizes.max())[parts]
    gaps, _ = ndimage.label(~mask)
    rim = np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]])
    return ~np.isin(gaps, rim[rim > 0])
