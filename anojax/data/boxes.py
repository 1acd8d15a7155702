"""A part of every image, given as fractions of its width and height."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from anojax.errors import SettingError

FractionBox = tuple[float, float, float, float]
"""Left, top, right and bottom, from 0 to 1."""


def parse_box(text: str) -> FractionBox | None:
    """``"0.1,0.2,0.9,0.8"`` -> left, top, right, bottom; ``None`` where the text is no
    list of numbers, but a path.

    Raises:
      SettingError: other than four numbers, outside 0 to 1, or in the wrong order.

    >>> parse_box("0.1,0.2,0.9,0.8")
    (0.1, 0.2, 0.9, 0.8)
    """
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        return None
    if len(numbers) == 1:
        return None  # the name of a folder
    if len(numbers) != 4:
        raise SettingError(
            f"region is {text}; give left, top, right and bottom as fractions, for "
            "instance 0.1,0.2,0.9,0.8"
        )
    left, top, right, bottom = numbers
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise SettingError(
            f"region is {text}; left, top, right and bottom are fractions from 0 to 1, "
            "left below right and top below bottom"
        )
    return left, top, right, bottom


def is_box(what: Any) -> bool:
    """Whether these are numbers, and neither arrays nor a path."""
    if not isinstance(what, tuple | list) or not what:
        return False
    return all(isinstance(one, int | float) for one in what)


def box_mask(box: FractionBox, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 1"]:
    """1 inside of the box and 0 around it; a pixel at least.

    >>> box_mask((0.0, 0.5, 0.5, 1.0), (4, 4))[..., 0].sum(axis=1).tolist()
    [0, 0, 2, 2]
    """
    mask = np.zeros((*shape, 1), np.uint8)
    left, top, right, bottom = box
    rows, columns = (
        slice(min(round(low * side), side - 1), max(round(high * side), 1))
        for low, high, side in ((top, bottom, shape[0]), (left, right, shape[1]))
    )
    mask[rows, columns] = 1
    if not mask.any():  # thinner than a pixel
        mask[rows.start, columns.start] = 1
    return mask
