"""Whether a file holds all of its image: Pillow fills what is missing without a word.

Rows that a PNG file lacks and strips that a TIFF file lacks become 0, blocks that a JPEG
file lacks become an even gray. Only where an image ends like that is the file looked at
more closely.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from anojax.errors import DataError

_ORIENTATION = 0x0112
# Of a JPEG file that is decoded once more: room for what it might lack.
_MOST_PADDING = 2**24


def check_tiles(path: Path, image: Image.Image) -> None:
    """Raise for a TIFF file, not decoded yet, whose strips do not cover its image."""
    if image.format != "TIFF":
        return
    w, h = image.size
    if image.tag_v2.get(_ORIENTATION, 1) in (5, 6, 7, 8):
        w, h = h, w  # as the strips are stored
    covered = sum(
        (min(x1, w) - x0) * (min(y1, h) - y0)
        for x0, y0, x1, y1 in (tile[1] for tile in image.tile)
    )
    if covered < w * h:
        raise _damaged(path, f"strips for {covered} of {w * h} pixels")


def check_rows(path: Path, file: BinaryIO, image: Image.Image) -> None:
    """Raise for a PNG or JPEG file, decoded, that ends before its image does."""
    w, h = image.size
    if image.format == "PNG":
        last = np.asarray(image.crop((0, h - 1, w, h)))
        # Interlaced ones may lack rows anywhere.
        if last.any() and not image.info.get("interlace"):
            return
        file.seek(0)
        expected, found = _png_bytes(file.read())
        if found < expected:
            raise _damaged(path, f"pixels for {found / expected:.0%} of the image")
    elif image.format in ("JPEG", "MPO"):
        corner = np.asarray(image.crop((w - 8, h - 8, w, h)))
        if (corner != 128).any():
            return
        file.seek(0)
        longer = _jpeg_padded(file.read(), min(6 * w * h, _MOST_PADDING))
        if longer is None:
            return
        with Image.open(io.BytesIO(longer), formats=("JPEG",)) as again:
            other = np.asarray(again.crop((w - 8, h - 8, w, h)))
        # What is whole does not change by what follows it.
        if not np.array_equal(corner, other):
            raise _damaged(path, "it ends before its last pixels")


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} is damaged ({what}); export it again or remove it")


def _png_bytes(data: bytes) -> tuple[int, int]:
    """Bytes of filtered rows that a PNG needs, and that it has."""
    width, height, bits, color, _, _, interlaced = struct.unpack(
        ">IIBBBBB", data[16:29]
    )
    per_pixel = bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for x, y, dx, dy in passes:
        columns, rows = -((x - width) // dx), -((y - height) // dy)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * per_pixel // 8))
    found, place, unpack = 0, 8, zlib.decompressobj()
    while place + 8 <= len(data) and found < expected:
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"IDAT":
            rest = data[place + 8 : place + 8 + length]
            while rest and not unpack.eof and found < expected:
                found += len(unpack.decompress(rest, 2**20))
                rest = unpack.unconsumed_tail
        place += 12 + length
    return expected, min(found + len(unpack.flush()), expected)


_ADAM7 = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
    (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip


def _jpeg_padded(data: bytes, length: int) -> bytes | None:
    """A JPEG file with more bytes behind the pixels of its only scan; ``None`` for
    files of several scans."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        kind = data[place + 1]
        (size,) = struct.unpack(">H", data[place + 2 : place + 4])
        place += 2 + size
        if kind == 0xDA:
            break
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        kind = data[place + 1]
        if kind == 0xD9:
            return data[:place] + b"\x55" * length + b"\xff\xd9"
        if kind and not 0xD0 <= kind <= 0xD7 and kind != 0xFF:
            return None
        place += 1 if kind == 0xFF else 2
    return None
