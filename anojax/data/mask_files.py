"""Masks that a user gives for images: one file for all, or a folder with one for each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from anojax.data.boxes import FractionBox, box_mask, parse_box
from anojax.data.fit import Fitted
from anojax.data.folders import find_images
from anojax.data.masks import Classes, read_mask
from anojax.data.pairing import Pairs, pair
from anojax.errors import DataError


@dataclass(frozen=True)
class MaskFiles:
    """Which mask an image has; made by `mask_files`."""

    kind: str
    """"region" or "foreground", for messages."""
    where: Path
    pairs: Pairs | None
    """``None``: `where` is one file for all images."""
    classes: Classes | None = None
    box: FractionBox | None = None
    """Instead of files: the same part of every image."""

    def of(self, image: Path) -> Path:
        """The mask's file.

        Raises:
          DataError: there is none.
        """
        if self.pairs is None:
            return self.where
        return self.pairs.one(image, self.kind, self.where)

    def read(self, image: Path, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 1"]:
        """The mask of an image of that shape: 0 or 1; see `masks.read_mask`."""
        if self.box is not None:
            return box_mask(self.box, shape)
        return read_mask(
            self.of(image), shape, kind=self.kind, classes=self.classes, image=image
        )

    def read_at(
        self, image: Path, shape: tuple[int, int], fit: Fitted
    ) -> UInt8[np.ndarray, "h w 1"]:
        """The same at the size of the work, by nearest neighbor.

        Raises:
          DataError: see `read`; or nothing is left at that size.
        """
        mask, size = fit.mask(self.read(image, shape)), fit.size
        if not mask.any():
            where = f"mask {self.of(image)}" if self.box is None else str(self.where)
            raise DataError(
                f"{self.kind} {where} is empty at {size[0]} x {size[1]} "
                "pixels; enlarge what it marks, or work at a larger --size"
            )
        return mask


def mask_files(
    where: str | Path,
    images: Sequence[Path],
    root: Path | None,
    kind: str,
    classes: Classes | None = None,
) -> MaskFiles:
    """Find the masks.

    Args:
      where: a file, a folder, or four fractions; see `boxes.parse_box`.
      images: that they are for.
      root: what the images' paths are compared below; see `pairing.pair`. By default
        the folder that holds all of them.
      kind: "region" or "foreground".
      classes: see `masks.parse_classes`.

    Raises:
      DataError: there is no such folder, it is empty, or it is not clear which mask
        belongs to an image.
    """
    if (box := parse_box(str(where))) is not None:
        return MaskFiles(kind, Path(where), None, classes, box)
    where = Path(where).expanduser()
    if where.is_file():
        return MaskFiles(kind, where, None, classes)
    found = find_images(where)
    if root is None:
        root = Path(os.path.commonpath([image.parent for image in images]))
    where = Path(where).absolute()
    if shared := sorted(set(found) & set(images)):
        raise DataError(
            f"{shared[0]} is both an image and its {kind} mask; put the masks in a "
            "folder of their own"
        )
    return MaskFiles(kind, where, pair(images, root, found, where), classes)
