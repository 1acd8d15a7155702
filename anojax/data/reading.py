"""How the files of a run are read: what the user and the data set decide, in one place.

Cameras of 10, 12 or 14 bits write their values into files of 16. Taken as 16 bits such
images would be nearly black, so the depth is that of the data set.
"""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anojax.data.decode import has_16_bits
from anojax.data.masks import Classes
from anojax.data.records import Size, read_image, to_size
from anojax.errors import DataError

DEPTHS = (8, 10, 12, 14, 16)
LOOKED_AT = 256


@dataclass(frozen=True)
class Reading:
    """How images and masks are read."""

    gray: bool | None = None
    """True for one channel, False for three, ``None`` for what the file holds."""
    bits: int = 16
    """Of the sensor, for files of 16 bits."""
    frames: str = "one"
    """See `records.read_image`."""
    classes: Classes | None = None
    """The values of masks that count; ``None`` for binary masks only."""

    def image(self, path: Path) -> np.ndarray:
        """The file's own pixels, ``[H, W, C]`` uint8 or uint16.

        Raises:
          DataError: it cannot be used; see `records.read_image`.
        """
        return read_image(path, gray=self.gray, frames=self.frames).array

    def small(self, path: Path, array: np.ndarray, size: Size) -> np.ndarray:
        """The pixels of a file at a size, ``[h, w, C]`` uint8.

        Raises:
          DataError: a value is above the depth.
        """
        try:
            return to_size(array, size, bits=self.bits)
        except DataError as error:
            raise DataError(f"{path} does not fit the other images: {error}") from None


AS_STORED = Reading()
"""Every file as it is: 16 bits are 16 bits, masks are binary."""


@dataclass(frozen=True)
class Depth:
    """The depth of a data set, and how it was found."""

    bits: int
    """One of `DEPTHS`, or what the user said."""
    sentence: str
    """In words; empty where there are no files of 16 bits."""


def depth(
    paths: Sequence[Path], requested: int | None = None, frames: str = "one"
) -> Depth:
    """The depth of a data set: the least of `DEPTHS` that holds its values.

    Args:
      paths: its images; `LOOKED_AT` of them, evenly spread, are looked at.
      requested: what the user says.
      frames: see `records.read_image`.
    """
    picks = np.linspace(0, len(paths) - 1, min(LOOKED_AT, len(paths))).round()
    picked = [paths[i] for i in sorted(set(picks.astype(int).tolist()))]
    deep = [path for path in picked if has_16_bits(path)]
    if requested is not None:
        return Depth(requested, f"{requested} bits of 16, as requested" if deep else "")

    def highest(path: Path) -> int:
        try:
            return int(read_image(path, frames=frames).array.max())
        except DataError:
            return 0  # named when its own turn comes

    with ThreadPoolExecutor() as pool:
        top = max(pool.map(highest, deep), default=0)
    if not top:
        return Depth(16, "")
    bits = next(bits for bits in DEPTHS if top < 2**bits)
    return Depth(
        bits,
        f"{bits} bits of 16: the largest value in {len(deep)} images is {top} "
        "(--bits for another depth)",
    )


def with_gray(reading: Reading, gray: bool) -> Reading:
    """The same, as one channel if that is requested."""
    return dataclasses.replace(reading, gray=True) if gray else reading
