"""Reading one image, whatever the format, and bringing it to the size of the work.

Everything here is safe to call from several threads at once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anojax.data.decode import MAX_PIXELS, MAX_SIDE_PX, MIN_SIDE_PX, decode
from anojax.errors import DataError

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE_PX",
    "MIN_SIDE_PX",
    "ImageFile",
    "Size",
    "extent",
    "read_image",
    "to_8bit",
    "to_size",
]

Size = int | tuple[int, int]


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as the file holds it, upright, without alpha."""

    path: Path
    array: np.ndarray
    """``[H, W, C]``, uint8 or uint16; C is 1 (gray) or 3 (RGB)."""
    gray: bool
    """True when there is one channel."""
    stored: str
    """How the file stores it, in Pillow's words, e.g. ``RGBA`` or ``I;16``."""
    clear: float = 0.0
    """Share of the pixels that are not opaque; their colors are used all the same."""

    @property
    def bits(self) -> int:
        """8 or 16 bits per channel."""
        return 8 * self.array.dtype.itemsize


def read_image(
    path: str | Path, *, gray: bool | None = None, frames: str = "one"
) -> ImageFile:
    """Read PNG, JPEG, BMP, TIFF or WebP of 8 or 16 bits per channel.

    Gray files stay single-channel; alpha is dropped; palettes, CMYK and other color
    spaces become RGB; the EXIF rotation is applied.

    Args:
      path: the file.
      gray: True converts color to gray (ITU-R 601 luma), False makes three equal
        channels of gray, ``None`` keeps what the file holds.
      frames: "one" refuses files of several images; "first" takes the first of them.

    Raises:
      DataError: not an image, damaged, of more than 16 bits, of several frames, or with
        a side outside `MIN_SIDE_PX` to `MAX_SIDE_PX` or more than `MAX_PIXELS` pixels.
    """
    path = Path(path)
    found = decode(path)
    array = found.array
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path} holds {_span(array)}; save it with 8 or 16 bits, scaled to the "
            "range of those"
        )
    if found.frames > 1 and frames == "one":
        raise DataError(
            f"{path} holds {found.frames} frames; save each as a file, or use the "
            "first of every file with --frames first"
        )
    if gray is True and array.shape[2] == 3:
        array = _luma(array)
    elif gray is False and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    clear = 0.0 if found.alpha is None else float((found.alpha < 255).mean())
    array = np.ascontiguousarray(array)
    return ImageFile(path, array, array.shape[2] == 1, found.stored, clear)


def _span(values: np.ndarray) -> str:
    kind = "floating-point" if values.dtype.kind == "f" else "32-bit"
    finite = values[np.isfinite(values)]
    if not finite.size:
        return f"{kind} values, none of them a number"
    return f"{kind} values from {finite.min():g} to {finite.max():g}"


def _luma(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return np.asarray(Image.fromarray(array).convert("L"))[..., None]
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(array.astype(np.float32) @ weights).astype(np.uint16)[..., None]


def to_8bit(array: np.ndarray, bits: int = 16) -> np.ndarray:
    """uint16 values scaled from their own range to 8 bits and rounded; uint8 as it is.

    Args:
      array: uint8 or uint16, any shape.
      bits: of the sensor, up to 16: the largest value is ``2**bits - 1``.

    Raises:
      DataError: a value lies above that.
    """
    if array.dtype == np.uint8:
        return array
    top = 2**bits - 1
    if bits < 16 and (highest := int(array.max(initial=0))) > top:
        raise DataError(
            f"it holds {highest}, above the {top} of {bits} bits; give the sensor's "
            "depth with --bits"
        )
    return ((array.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def extent(size: Size) -> tuple[int, int]:
    """Height and width: one number stands for a square."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def to_size(
    array: np.ndarray, size: Size, *, bits: int = 16
) -> UInt8[np.ndarray, "h w c"]:
    """The image at another size, in 8 bits: Pillow's bilinear reduction.

    `size` is (height, width), or one number for a square. The aspect ratio is not kept:
    the result covers the whole image. For `bits` see `to_8bit`.
    """
    array = to_8bit(array, bits)
    h, w = extent(size)
    if array.shape[:2] == (h, w):
        return array
    flat = array[..., 0] if array.shape[2] == 1 else array
    image = Image.fromarray(np.ascontiguousarray(flat))
    resized = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR))
    return resized.reshape(h, w, array.shape[2])
