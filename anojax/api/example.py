"""One synthetic example, and a look at it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from anojax.arrays import as_plane
from anojax.data.files import Pixels
from anojax.errors import DataError
from anojax.report import sheet
from anojax.types import Synthesis


@dataclass(frozen=True, eq=False)
class Example:
    """A normal image and the anomaly that a method made of it."""

    method: str
    normal: Pixels = field(repr=False)
    """``[H, W, C]`` uint8, or uint16 where the files have more bits."""
    image: Pixels = field(repr=False)
    """The anomalous image, like `normal`."""
    mask: UInt8[np.ndarray, "h w 1"] = field(repr=False)
    """255 on the defect, 0 elsewhere."""
    source: str = ""
    """The file of the normal image."""
    example_id: int = 0
    """What the anomaly depends on, beside inputs, settings and seed."""

    def _repr_png_(self) -> bytes:
        return sheet.as_bytes(show(self))


def show(
    examples: Any, normal: Any = None, *, titles: Iterable[str] = (), tile: int = 144
) -> Image.Image:
    """Draw normal image, anomalous image, outline of the mask and difference.

    Args:
      examples: an `Example` or several, or a `Synthesis` of one image or of a batch.
      normal: the normal image or images, with a `Synthesis`.
      titles: above each example; the methods' names when absent.
      tile: longest side of a view in pixels.

    Returns:
      An image, which a notebook displays.

    Raises:
      DataError: there is nothing to show, or no normal image.

    >>> import anojax, numpy as np
    >>> image = np.full((32, 32, 3), 128, np.uint8)
    >>> out = anojax.get("cutpaste")().apply({}, 0, image)
    >>> anojax.show(out, image).size
    (246, 636)
    """
    if isinstance(examples, Synthesis):
        if normal is None:
            raise DataError("a Synthesis has no normal image; give it as well")
        found = _of_synthesis(examples, normal)
    elif isinstance(examples, Example):
        found = [examples]
    else:
        found = list(examples)
    if not found:
        raise DataError("there is no example to show")
    names = [*titles] or [one.method for one in found]
    drawn = [
        sheet.Example(str(name), one.normal, one.image, one.mask)
        for name, one in zip(names, found, strict=True)
    ]
    return sheet.contact_sheet(drawn, tile=tile)


def _of_synthesis(made: Synthesis, normal: Any) -> list[Example]:
    if made.image is None:
        raise DataError("a method in feature space has no image to show")
    lead = made.image.ndim - 3
    normals, images, masks = (
        _uint8(as_plane(value, what, lead=lead))
        for value, what in (
            (normal, "normal"),
            (made.image, "image"),
            (made.mask, "mask"),
        )
    )
    if not lead:
        return [Example("", normals, images, masks)]
    return [Example("", *one) for one in zip(normals, images, masks, strict=True)]


def _uint8(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return values
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
