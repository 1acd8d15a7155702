"""The extent of a mask, in pixels and in mm."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8


def box(mask: UInt8[np.ndarray, "h w 1"]) -> list[int] | None:
    """The box around a mask, ``[x0, y0, x1, y1]`` with exclusive ends."""
    if not mask.any():
        return None
    xs, ys = np.flatnonzero(mask[..., 0].any(0)), np.flatnonzero(mask[..., 0].any(1))
    return [int(v) for v in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1)]


class Physical(NamedTuple):
    """A mask in mm; ``None`` where it is empty or nothing is known."""

    area_mm2: float | None
    box_mm: list[float] | None
    """``[x0, y0, x1, y1]`` from the upper left corner of the image."""


def physical(
    mask: UInt8[np.ndarray, "h w 1"], height_mm: float, width_mm: float
) -> Physical:
    """Area and box of a mask whose pixels have these sides.

    >>> mask = np.zeros((4, 4, 1), np.uint8)
    >>> mask[1:3, :3] = 255
    >>> physical(mask, 0.5, 0.1)
    Physical(area_mm2=0.3, box_mm=[0.0, 0.5, 0.3, 1.5])
    """
    around = box(mask)
    if around is None:
        return Physical(None, None)
    sides = (width_mm, height_mm, width_mm, height_mm)
    lengths = [_digits(n * side) for n, side in zip(around, sides, strict=True)]
    return Physical(_digits(int((mask > 0).sum()) * height_mm * width_mm), lengths)


def _digits(value: float) -> float:
    """Six of them, as of a length that was measured well."""
    return float(f"{value:.6g}")
