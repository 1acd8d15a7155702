"""Reading back what a run wrote, whatever its format."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anojax.data.containment import inside, read_regular
from anojax.data.files import decode_png
from anojax.data.plan import Final
from anojax.data.shard import PLACE, read_pngs


class Stored(NamedTuple):
    """The PNG files of one line of the manifest."""

    image: bytes
    mask: bytes | None


def stored(run: Path, row: dict[str, Any]) -> Stored:
    """Image and mask as they lie in the run.

    Raises:
      RunError: a file is missing.
    """
    if in_shard(row["image"]):
        image, mask = read_pngs(run, row["image"])
        return Stored(image, mask if row["mask"] else None)
    mask = row["mask"]
    return Stored(_read(run, row["image"]), _read(run, mask) if mask else None)


def stored_normal(run: Path, row: dict[str, Any]) -> bytes:
    """The PNG file of a row's normal image as it lies in the run.

    Raises:
      RunError: it is missing.
    """
    if in_shard(row["normal"]):
        return read_pngs(run, row["normal"])[0]
    return _read(run, row["normal"])


def in_shard(name: str) -> bool:
    """Whether a manifest names a record of a TFDS data set, and not a file."""
    return PLACE.fullmatch(name) is not None


def file_of(name: str) -> str:
    """The file in which an image of a manifest is: its own, or the shard."""
    return name.rpartition("#")[0] if in_shard(name) else name


def example(run: Path, row: dict[str, Any]) -> Final:
    """Normal image, anomalous image and mask as arrays.

    Raises:
      AnojaxError: a file is missing or damaged.
    """
    image, mask = stored(run, row)
    normal, image = decode_png(stored_normal(run, row)), decode_png(image)
    if mask is None:
        return Final(normal, image, np.zeros((*image.shape[:2], 1), np.uint8))
    return Final(normal, image, decode_png(mask))


def _read(run: Path, name: str) -> bytes:
    return read_regular(inside(run, name))
