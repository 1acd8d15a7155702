"""Reading one image or one mask, whatever the format, with clear refusals.

Everything here is safe to call from several threads at once.
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from anojax.errors import AnojaxError, DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MIN_SIDE_PX = 8
MAX_SIDE_PX = 16_384
MAX_PIXELS = 2**26

Size = int | tuple[int, int]

# Pillow warns of large files before it can be asked how large they are, and has no
# switch per call: make it an error, which `_opened` turns into a sentence.
warnings.simplefilter("error", Image.DecompressionBombWarning)

_GRAY_MODES = {"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"}
_COLOR_MODES = {"RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
# EXIF orientation -> (transpose first, flip rows, flip columns).
_UPRIGHT = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True),
    8: (True, True, False),
}  # fmt: skip


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

    @property
    def bits(self) -> int:
        """8 or 16 bits per channel."""
        return 8 * self.array.dtype.itemsize


def read_image(path: str | Path, *, gray: bool | None = None) -> ImageFile:
    """Read PNG, JPEG, BMP, TIFF or WebP of 8 or 16 bits per channel.

    Gray files stay single-channel; alpha is dropped; palettes, CMYK and other color
    spaces become RGB; the EXIF rotation is applied; of several frames the first counts.

    Args:
      path: the file.
      gray: True converts color to gray (ITU-R 601 luma), False makes three equal
        channels of gray, ``None`` keeps what the file holds.

    Raises:
      DataError: not an image, damaged, of more than 16 bits, or with a side outside
        `MIN_SIDE_PX` to `MAX_SIDE_PX` or more than `MAX_PIXELS` pixels.
    """
    path = Path(path)
    array, stored = _decoded(path)
    if gray is True and array.shape[2] == 3:
        array = _luma(array)
    elif gray is False and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return ImageFile(path, np.ascontiguousarray(array), array.shape[2] == 1, stored)


def _decoded(path: Path) -> tuple[np.ndarray, str]:
    try:
        # Through a file object: given a name, Pillow maps uncompressed TIFF files into
        # memory with the sides exchanged when they are stored rotated.
        with path.open("rb") as file, Image.open(file) as image:
            _check_extent(path, image)
            stored = image.mode
            array = _pixels(path, image)
            # After loading: Pillow turns TIFF files upright on its own.
            orientation = image.getexif().get(0x0112, 1)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(path, "too many") from None
    except UnidentifiedImageError:
        raise DataError(_not_a_image(path)) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give an image") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; check its permissions") from None
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        if isinstance(error, AnojaxError):
            raise
        # Pillow reports damage by all of these, depending on the format.
        raise DataError(
            f"{path} is damaged ({error}); export it again or remove it"
        ) from error
    return _upright(array, orientation), stored


def _not_a_image(path: Path) -> str:
    if path.is_file() and path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); export it again or remove it"
    return (
        f"{path} is not an image, whatever its name says; "
        f"anojax reads {', '.join(e[1:].upper() for e in EXTENSIONS)}"
    )


def _too_large(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} has {what} pixels; anojax takes at most {MAX_SIDE_PX} a side and "
        f"{MAX_PIXELS // 2**20} megapixels: cut the image into tiles"
    )


def _check_extent(path: Path, image: Image.Image) -> None:
    w, h = image.size
    if min(w, h) < MIN_SIDE_PX:
        raise DataError(
            f"{path} is {w} x {h} pixels; an image needs at least {MIN_SIDE_PX} a side: "
            "remove it or export it larger"
        )
    if max(w, h) > MAX_SIDE_PX or w * h > MAX_PIXELS:
        raise _too_large(path, f"{w} x {h}")


def _pixels(path: Path, image: Image.Image) -> np.ndarray:
    """The decoded array ``[H, W, C]``, before any rotation."""
    mode = image.mode
    if mode in _COLOR_MODES and _raw_mode(image).endswith((";16B", ";16L", ";16N")):
        return _deep_color(path, image)
    if mode == "P":
        # An optimized gray file often has a palette of grays: it is still gray.
        palette = np.asarray(image.convert("RGB"))
        equal = np.ptp(palette, axis=2).max() == 0
        return palette[..., :1] if equal else palette
    if mode == "PA":
        return np.asarray(image.convert("RGB"))
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if mode in _GRAY_MODES:
        # Taking the band drops alpha without blending it into the gray.
        band = image.getchannel(0) if mode in ("LA", "La") else image.convert("L")
        return np.asarray(band)[..., None]
    if mode in ("RGBA", "RGBX"):
        return np.asarray(image)[..., :3]
    if mode in _COLOR_MODES:
        return np.asarray(image.convert("RGB"))
    if mode == "I":
        values = np.asarray(image)
        if values.min() >= 0 and values.max() <= 65_535:
            return values.astype(np.uint16)[..., None]
    raise DataError(
        f"{path} holds {mode} pixels (32-bit or exotic); save it with 8 or 16 bits"
    )


def _raw_mode(image: Image.Image) -> str:
    if not image.tile:
        return ""
    args = image.tile[0][3]
    return str(args[0] if isinstance(args, tuple) else args)


def _deep_color(path: Path, image: Image.Image) -> np.ndarray:
    """16-bit color, which Pillow halves: decode once for each byte of the values.

    Reading big-endian values as little-endian ones yields the byte Pillow would drop.
    """
    raw = _raw_mode(image)
    native = "L" if sys.byteorder == "little" else "B"
    order = native if raw.endswith("N") else raw[-1]
    with path.open("rb") as file, Image.open(file) as other:
        swapped = raw[:-1] + ("B" if order == "L" else "L")
        other.tile = [
            tile._replace(
                args=(swapped, *tile.args[1:])
                if isinstance(tile.args, tuple)
                else swapped
            )
            for tile in other.tile
        ]
        low = np.asarray(other)[..., :3].astype(np.uint16)
    high = np.asarray(image)[..., :3].astype(np.uint16)
    return (high << 8) | low


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    transpose, rows, columns = _UPRIGHT.get(orientation, (False, False, False))
    if transpose:
        array = array.swapaxes(0, 1)
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def _luma(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return np.asarray(Image.fromarray(array).convert("L"))[..., None]
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(array.astype(np.float32) @ weights).astype(np.uint16)[..., None]


def to_8bit(array: np.ndarray) -> np.ndarray:
    """uint16 values divided by 257 and rounded; uint8 as it is."""
    if array.dtype == np.uint8:
        return array
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def extent(size: Size) -> tuple[int, int]:
    """Height and width: one number stands for a square."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def to_size(array: np.ndarray, size: Size) -> UInt8[np.ndarray, "h w c"]:
    """The image at another size, in 8 bits: Pillow's bilinear reduction.

    `size` is (height, width), or one number for a square. The aspect ratio is not kept:
    the result covers the whole image.
    """
    array = to_8bit(array)
    h, w = extent(size)
    if array.shape[:2] == (h, w):
        return array
    flat = array[..., 0] if array.shape[2] == 1 else array
    image = Image.fromarray(np.ascontiguousarray(flat))
    resized = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR))
    return resized.reshape(h, w, array.shape[2])


def mask_values(array: np.ndarray) -> np.ndarray:
    """A decoded mask as booleans ``[H, W]``.

    Values from half the range on are set. A file whose values all lie below that (0/1
    masks, class indices) is set wherever it is not 0.
    """
    gray = to_8bit(array).max(axis=2)
    return gray > 0 if gray.max() < 128 else gray >= 128


def read_mask(
    path: str | Path, shape: tuple[int, int], *, kind: str = "region"
) -> UInt8[np.ndarray, "h w 1"]:
    """Read a mask, white (or not 0) where it is set: 0 or 1.

    Args:
      path: the file.
      shape: height and width of its image, which the mask must have.
      kind: "region" (where a defect may go) and "foreground" (the object) must not be
        empty; "defect" must not cover more than half of the image, which would mean
        that its polarity is inverted.

    Raises:
      DataError: unreadable, of another size, empty, or inverted.
    """
    if kind not in ("region", "foreground", "defect"):
        raise AnojaxError(f"mask kind '{kind}'; choose region, foreground or defect")
    array, _ = _decoded(Path(path))
    if array.shape[:2] != tuple(shape):
        raise DataError(
            f"mask {path} is {array.shape[1]} x {array.shape[0]} pixels but its image is "
            f"{shape[1]} x {shape[0]}; export the mask at the size of the image"
        )
    mask = mask_values(array)
    if kind == "defect" and mask.mean() > 0.5:
        raise DataError(
            f"mask {path} marks {mask.mean():.0%} of the image as defect, so it looks "
            "inverted; save it white on the defect and black elsewhere"
        )
    if kind != "defect" and not mask.any():
        raise DataError(
            f"{kind} mask {path} is empty; paint at least one pixel white or remove it"
        )
    return mask[..., None].astype(np.uint8)
