"""Reading back what a run wrote, whatever its format."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anojax.data.files import Pixels, decode_png
from anojax.data.pipeline import Final
from anojax.errors import RunError

# The place of a record; a "#" elsewhere is part of a file's name.
_RECORD = re.compile(r"\.array_record-\d+-of-\d+#\d+\Z")


class Stored(NamedTuple):
    """The PNG files of one line of the manifest."""

    image: bytes
    mask: bytes | None


def stored(run: Path, row: dict[str, Any]) -> Stored:
    """Image and mask as they lie in the run.

    Raises:
      RunError: a file is missing.
    """
    if _RECORD.search(row["image"]):
        from anojax.data.shard import read_pngs

        image, mask = read_pngs(run, row["image"])
        return Stored(image, mask if row["mask"] else None)
    mask = row["mask"]
    return Stored(_read(run / row["image"]), _read(run / mask) if mask else None)


def stored_normal(run: Path, row: dict[str, Any]) -> Pixels:
    """The normal image of a row as it lies in the run."""
    if _RECORD.search(row["normal"]):
        from anojax.data.shard import read_pngs

        return decode_png(read_pngs(run, row["normal"])[0])
    return decode_png(_read(run / row["normal"]))


def example(run: Path, row: dict[str, Any]) -> Final:
    """Normal image, anomalous image and mask as arrays."""
    image, mask = stored(run, row)
    image = decode_png(image)
    if mask is None:
        return Final(
            stored_normal(run, row), image, np.zeros((*image.shape[:2], 1), np.uint8)
        )
    return Final(stored_normal(run, row), image, decode_png(mask))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
