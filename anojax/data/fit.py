"""How an image of other proportions comes to the size of the work.

``stretch`` makes the whole image fill it, ``pad`` keeps its proportions and repeats its
edges beside it, ``crop`` keeps them and leaves out what protrudes. Image and masks take
the same way, and `Fitted.back` is the way back to the file's own pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

FITS = ("stretch", "pad", "crop")
VISIBLE = 0.03
"""Change of the proportions from which on it is said."""

Box = tuple[slice, slice]
Plane = UInt8[np.ndarray, "h w 1"]
Other = UInt8[np.ndarray, "H W 1"]
"""A mask of another size."""


@dataclass(frozen=True)
class Fitted:
    """Which part of a file is which part of the working image."""

    size: tuple[int, int]
    """Of the working image, height and width."""
    source: Box
    """Rows and columns of the file."""
    target: Box
    """Rows and columns of the working image that they fill."""

    @property
    def filled(self) -> tuple[int, int]:
        """Height and width of the target."""
        rows, columns = self.target
        return rows.stop - rows.start, columns.stop - columns.start

    @property
    def whole(self) -> bool:
        """Whether the image fills the working image."""
        return self.filled == self.size

    @property
    def file_pixels(self) -> tuple[float, float]:
        """Height and width of a working pixel, in pixels of the file."""
        rows, columns = self.source
        height, width = self.filled
        return (rows.stop - rows.start) / height, (columns.stop - columns.start) / width

    def image(self, small: np.ndarray) -> np.ndarray:
        """The target's pixels ``[h, w, C]``, with their edges repeated around them."""
        return small if self.whole else np.pad(small, self._around, mode="edge")

    def plane(self, small: Other) -> Plane:
        """A mask of the target, with nothing around it."""
        return small if self.whole else np.pad(small, self._around)

    def inside(self) -> Plane | None:
        """1 where the image is; ``None`` where it is everywhere."""
        return None if self.whole else self.plane(np.ones((*self.filled, 1), np.uint8))

    def mask(self, mask: Other) -> Plane:
        """A mask of the file at the size of the work, by nearest neighbor: 0 or 1."""
        part = Image.fromarray(mask[self.source][..., 0] * np.uint8(255))
        small = part.resize(self.filled[::-1], Image.Resampling.NEAREST)
        return self.plane((np.asarray(small) > 0).astype(np.uint8)[..., None])

    @property
    def _around(self) -> tuple[tuple[int, int], ...]:
        pairs = zip(self.target, self.size, strict=True)
        return (*((part.start, side - part.stop) for part, side in pairs), (0, 0))


def fitted(shape: tuple[int, int], size: tuple[int, int], how: str) -> Fitted:
    """The way of a file of that shape to the size of the work.

    Args:
      shape: height and width of the file.
      size: height and width of the work.
      how: one of `FITS`.

    >>> fitted((100, 200), (64, 64), "pad").target
    (slice(16, 48, None), slice(0, 64, None))
    >>> fitted((100, 200), (64, 64), "crop").source
    (slice(0, 100, None), slice(50, 150, None))
    """
    part, filled = shape, size
    if how == "pad":
        scale = min(size[0] / shape[0], size[1] / shape[1])
        filled = _scaled(shape, scale, size)
    elif how == "crop":
        scale = max(size[0] / shape[0], size[1] / shape[1])
        part = _scaled(size, 1 / scale, shape)
    return Fitted(size, _middle(shape, part), _middle(size, filled))


def _scaled(
    sides: tuple[int, int], scale: float, most: tuple[int, int]
) -> tuple[int, int]:
    height, width = (
        min(top, max(1, round(side * scale)))
        for side, top in zip(sides, most, strict=True)
    )
    return height, width


def _middle(whole: tuple[int, int], part: tuple[int, int]) -> Box:
    tops = [(side - length) // 2 for side, length in zip(whole, part, strict=True)]
    rows, columns = (
        slice(top, top + length) for top, length in zip(tops, part, strict=True)
    )
    return rows, columns


def distortion(shape: tuple[int, int], size: tuple[int, int]) -> float:
    """By how much stretching changes width / height: 0.25 is a quarter wider or
    narrower; 0 keeps the proportions.

    >>> distortion((100, 200), (64, 128))
    0.0
    """
    ratio = (size[1] / size[0]) / (shape[1] / shape[0])
    return max(ratio, 1 / ratio) - 1
