"""Decoding one image file: only the promised formats, by content, whole or refused.

The name of a file says nothing: Pillow would open whatever it recognizes, and start
other programs for some formats. What a file lacks is refused, not filled with black.
Everything here is safe to call from several threads at once.
"""

import ctypes
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from anojax.data.complete import check_rows, check_tiles
from anojax.data.opening import open_file
from anojax.data.provenance import note
from anojax.data.roles import EXTENSIONS
from anojax.errors import AnojaxError, DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
LOSSY = ("JPEG", "MPO")
MIN_SIDE_PX = 8
MAX_SIDE_PX = 16_384
MAX_PIXELS = 2**26

# Pillow warns of large files before it can be asked how large they are, and has no
# switch per call: make it an error, which `decode` turns into a sentence. Its other
# warnings are about metadata that is not used here.
warnings.filterwarnings("ignore", module=r"PIL\.")
warnings.simplefilter("error", Image.DecompressionBombWarning)


def _quiet_libtiff() -> None:
    """Keep libtiff from printing about damaged files, which are refused in a sentence.

    Pillow has no switch for it, but the library that it has loaded does. Where it
    cannot be reached, as in a static build, its lines are printed.
    """
    try:
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            switch = getattr(library, name)
            switch.argtypes, switch.restype = [ctypes.c_void_p], ctypes.c_void_p
            switch(None)
    except (AttributeError, OSError):
        return


_quiet_libtiff()

_GRAY_MODES = {"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"}
_COLOR_MODES = {"RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}
# EXIF orientation -> (transpose first, flip rows, flip columns).
_UPRIGHT = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True),
    8: (True, True, False),
}  # fmt: skip
# Tag of TIFF pages; bit 0 marks a smaller copy of another page.
_SUBFILE, _ORIENTATION = 254, 0x0112


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a file holds, upright."""

    array: np.ndarray
    """``[H, W, C]``, C is 1 or 3: uint8 or uint16, or int32 or float32 where the file
    holds such values."""
    stored: str
    """How the file stores it, in Pillow's words, e.g. ``RGBA`` or ``I;16``."""
    lossy: bool
    """True for JPEG."""
    orientation: int = 1
    """Of EXIF: how the file is turned on the disk."""
    frames: int = 1
    """Images of the same kind in the file."""
    alpha: np.ndarray | None = None
    """``[H, W]`` uint8, 0 is clear; ``None`` where the file has no transparency."""
    indices: np.ndarray | None = None
    """``[H, W]``: numbers of the palette's colors, where these are not all gray."""


def decode(path: Path) -> Decoded:
    """Decode a file.

    Raises:
      DataError: no regular file, none of the promised formats, damaged or incomplete,
        or with a side outside `MIN_SIDE_PX` to `MAX_SIDE_PX` or more than `MAX_PIXELS`
        pixels.
    """
    note(path)
    try:
        # Through a file object: given a name, Pillow maps uncompressed TIFF files into
        # memory with the sides exchanged when they are stored rotated.
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            _check_extent(path, image)
            frames = _frames(image)
            check_tiles(path, image)
            kind, stored = image.format, image.mode
            raw = _raw_mode(image)
            array, alpha, indices = _pixels(path, image, raw)
            # After loading: Pillow turns TIFF files upright on its own.
            orientation = image.getexif().get(_ORIENTATION, 1)
            check_rows(path, file, image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(path, "too many") from None
    except UnidentifiedImageError:
        raise DataError(_not_an_image(path)) from None
    except MemoryError:
        raise _too_large(path, "too many") from None
    except AnojaxError:
        raise
    except Exception as error:
        # Pillow reports damage by nearly every type of exception there is, depending
        # on the format and on the place of the damage.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is damaged ({reason[:200]}); export it again or remove it"
        ) from error
    return Decoded(
        array=upright(array, orientation),
        stored=stored,
        lossy=kind in LOSSY,
        orientation=orientation if orientation in _UPRIGHT else 1,
        frames=frames,
        alpha=None if alpha is None else upright(alpha, orientation),
        indices=None if indices is None else upright(indices, orientation),
    )


def has_16_bits(path: Path) -> bool:
    """Whether a file holds more than 8 bits per value, by its header alone; False for
    one that cannot be read."""
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS) as image:
            deep = _raw_mode(image).endswith((";16B", ";16L", ";16N"))
            return deep or image.mode == "I" or image.mode.startswith("I;16")
    except Exception:
        # Whatever is wrong with it is said when it is read.
        return False


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image ``[H, W, ...]`` as EXIF's number says."""
    transpose, rows, columns = _UPRIGHT.get(orientation, (False, False, False))
    if transpose:
        array = array.swapaxes(0, 1)
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def _not_an_image(path: Path) -> str:
    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); export it again or remove it"
    with open_file(path) as file:
        tiff = file.read(2) in (b"II", b"MM")
    if tiff:
        return (
            f"{path} is a damaged TIFF file, or holds a kind of pixels that is not "
            "read; save it with 8 or 16 bits, gray or RGB"
        )
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


def _frames(image: Image.Image) -> int:
    """Images in the file; smaller copies of the first do not count."""
    if image.format not in ("TIFF", "PNG", "WEBP") or getattr(image, "n_frames", 1) < 2:
        return 1
    if image.format != "TIFF":
        return image.n_frames
    w, h = image.size
    count = 1
    for number in range(1, image.n_frames):
        image.seek(number)
        smaller = 2 * image.size[0] <= w and 2 * image.size[1] <= h
        reduced = int(image.tag_v2.get(_SUBFILE, 0)) & 1
        count += not (smaller or reduced)
    image.seek(0)
    return count


Planes = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]


def _pixels(path: Path, image: Image.Image, raw: str) -> Planes:
    """Pixels ``[H, W, C]``, transparency and palette indices, before any rotation."""
    mode = image.mode
    if mode in _COLOR_MODES and raw.endswith((";16B", ";16L", ";16N")):
        alpha = np.asarray(image)[..., 3] if mode == "RGBA" else None
        return _deep_color(path, image, raw), alpha, None
    if mode in ("P", "PA"):
        return _from_palette(image)
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None], None, None
    if mode in _GRAY_MODES:
        # Taking the band drops alpha without blending it into the gray.
        paired = mode in ("LA", "La")
        band = image.getchannel(0) if paired else image.convert("L")
        alpha = np.asarray(image.getchannel(1)) if paired else _keyed(image)
        return np.asarray(band)[..., None], alpha, None
    if mode in ("RGBA", "RGBX"):
        every = np.asarray(image)
        return every[..., :3], every[..., 3] if mode == "RGBA" else None, None
    if mode in _COLOR_MODES:
        return np.asarray(image.convert("RGB")), _keyed(image), None
    if mode in ("I", "F"):
        values = np.asarray(image)
        if mode == "I" and values.min() >= 0 and values.max() <= 65_535:
            values = values.astype(np.uint16)
        return values[..., None], None, None
    raise DataError(
        f"{path} holds {mode} pixels (32-bit or exotic); save it with 8 or 16 bits"
    )


def _from_palette(image: Image.Image) -> Planes:
    alpha = None
    if image.mode == "PA" or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    colors = np.asarray(image.convert("RGB"))
    # An optimized gray file often has a palette of grays: it is still gray.
    if np.ptp(colors, axis=2).max() == 0:
        return colors[..., :1], alpha, None
    band = image if image.mode == "P" else image.getchannel(0)
    return colors, alpha, np.asarray(band)


def _keyed(image: Image.Image) -> np.ndarray | None:
    """Transparency of files that name one color as clear."""
    if image.mode not in ("L", "RGB", "1") or "transparency" not in image.info:
        return None
    if image.mode == "1":
        return None
    return np.asarray(image.convert("RGBA"))[..., 3]


def _raw_mode(image: Image.Image) -> str:
    if not image.tile:
        return ""
    args = image.tile[0][3]
    return str(args[0] if isinstance(args, tuple) else args)


def _deep_color(path: Path, image: Image.Image, raw: str) -> np.ndarray:
    """16-bit color, which Pillow halves: decode once for each byte of the values.

    Reading big-endian values as little-endian ones yields the byte Pillow would drop.
    """
    native = "L" if sys.byteorder == "little" else "B"
    order = native if raw.endswith("N") else raw[-1]
    with open_file(path) as file, Image.open(file, formats=FORMATS) as other:
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
