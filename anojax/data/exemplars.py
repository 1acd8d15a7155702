"""Real defects to learn from: the first few images of every type, with their masks.

The choice is a split: images that are not chosen stay unseen, so that they can tell
what the method has learned. The list of chosen files is kept with the run.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from anojax.data.layouts import GOOD, TestImage, listing, natural, tested
from anojax.data.masks import Classes
from anojax.data.opening import read_json
from anojax.data.reading import AS_STORED, Reading, depth
from anojax.data.testfolder import check_masks, expected_pairs, find_source
from anojax.data.testset import read_test_image
from anojax.errors import DataError
from anojax.types import Exemplar, Inputs

FILE = "exemplars.json"
UNNAMED = "defect"
"""The type of images that lie in ``images`` itself."""


@dataclass(frozen=True, eq=False)
class Exemplars:
    """The chosen images of all types, of one size: a source for training."""

    images: UInt8[np.ndarray, "n h w c"]
    masks: UInt8[np.ndarray, "n h w 1"]
    """0 or 1."""
    labels: Int32[np.ndarray, " n"]
    """Class of each image's defect: 1 is the first of `defects`."""
    files: tuple[TestImage, ...]
    """The files."""
    folder: Path

    @property
    def defects(self) -> tuple[str, ...]:
        """The types, in natural order of their names."""
        return tuple(dict.fromkeys(one.defect for one in self.files))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Inputs:
        """The defect's image, also as an exemplar with its mask, and its class."""
        image = self.images[index]
        return Inputs(
            image=image,
            exemplar=Exemplar(image, self.masks[index]),
            label=self.labels[index],
        )

    def listed(self) -> str:
        """JSON of the files that were chosen, for the run's folder."""
        rows = [
            {
                "picture": str(one.path),
                "mask": str(one.mask),
                "defect": one.defect,
                "label": int(label),
                "sha256": digest(one.path),
            }
            for one, label in zip(self.files, self.labels, strict=True)
        ]
        return json.dumps({"folder": str(self.folder), "exemplars": rows}, indent=1)


def read_exemplars(
    folder: str | Path,
    shape: tuple[int, int],
    *,
    per_defect: int = 5,
    gray: bool = False,
    reading: Reading = AS_STORED,
    bits: int | None = None,
) -> Exemplars:
    """Choose and read real defects: images bilinear, masks nearest.

    Args:
      folder: of a category in any layout of `folders.LAYOUTS`, or of ``test/<defect>``
        and ``ground_truth/<defect>``, or of ``images`` and ``masks``, with a folder of
        the same name in each for every type, or none where there is one type.
      shape: height and width.
      per_defect: how many of each type, the first in natural order of their names.
      gray: treat all as single-channel.
      reading: how files are read.
      bits: depth of the sensor; that of the chosen images when absent.

    Raises:
      DataError: no defects, an image without its mask or a mask without its image,
        fewer than `per_defect` of a type, an empty mask, or gray beside color.
    """
    folder = Path(folder).expanduser().resolve()
    chosen = choose(find_exemplars(folder, reading.classes), per_defect, folder)
    found = depth([one.path for one in chosen], bits, reading.frames)
    reading = dataclasses.replace(reading, bits=found.bits)
    read = [read_test_image(one, shape, gray, reading) for one in chosen]
    for one, (image, mask) in zip(chosen, read, strict=True):
        if not mask.any():
            raise DataError(
                f"mask {one.mask} marks no defect at {shape[0]} x {shape[1]} pixels; "
                "remove it with its image, or work at a larger size"
            )
        if image.shape != read[0][0].shape:
            raise DataError(
                f"{one.path} has {image.shape[-1]} channels, the first exemplar has "
                f"{read[0][0].shape[-1]}; treat all as gray, or sort them apart"
            )
    images, masks = zip(*read, strict=True)
    names = list(dict.fromkeys(one.defect for one in chosen))
    return Exemplars(
        images=np.stack(images),
        masks=np.stack(masks)[..., None].astype(np.uint8),
        labels=np.array([names.index(one.defect) + 1 for one in chosen], np.int32),
        files=chosen,
        folder=folder,
    )


def find_exemplars(
    folder: Path, classes: Classes | None = None
) -> tuple[TestImage, ...]:
    """All real defects that a folder holds; see `read_exemplars`.

    Raises:
      DataError: it holds none.
    """
    plain = not (folder / "test").is_dir() and (folder / "images").is_dir()
    if plain and (folder / "masks").is_dir():
        every, masks = _side_by_side(folder / "images", folder / "masks")
        where = {"images": "images", "truth": "masks"}
        normal = set()
    else:
        source = find_source(folder, classes)
        every, masks, where = source.test, expected_pairs(source), {}
        normal = {one.path.parent.name for one in every if one.defect == GOOD}
    found = tuple(one for one in every if one.defect != GOOD)
    if not found:
        raise DataError(
            f"{folder} holds no defects; expected images under test/<defect> with "
            "masks under ground_truth/<defect>, or under images with masks under masks"
        )
    check_masks(found, masks, folder, normal=normal, **where)
    return found


def _side_by_side(images: Path, masks: Path):
    """Images with their masks; see `data.pairing`."""
    every = listing(masks)
    named = []
    for path in listing(images):
        inner = path.relative_to(images).parts
        named.append((path, inner[0] if len(inner) > 1 else UNNAMED))
    return tested(named, images, every, masks)[0], tuple(every)


def choose(
    found: Sequence[TestImage], per_defect: int, folder: Path
) -> tuple[TestImage, ...]:
    """The first of every type, types and images in natural order of their names.

    Raises:
      DataError: there are fewer of a type.
    """

    def order(one):
        return natural(Path(one.defect)), natural(one.path)

    chosen = []
    for defect, group in groupby(sorted(found, key=order), lambda one: one.defect):
        every = list(group)
        if len(every) < per_defect:
            raise DataError(
                f"exemplars_per_defect is {per_defect}, but {folder} has {len(every)} "
                f"of '{defect}'; ask for at most {len(every)}, or add more"
            )
        chosen += every[:per_defect]
    return tuple(chosen)


def listed_in(run: Path) -> dict[str, str]:
    """What a run has learned from: hash of the file -> where it was; maybe nothing.

    Raises:
      DataError: the run's list is damaged.
    """
    if not (run / FILE).is_file():
        return {}
    try:
        rows = read_json(run / FILE, "exemplars")["exemplars"]
        return {row["sha256"]: row["picture"] for row in rows}
    except (KeyError, TypeError):
        raise DataError(f"{run / FILE} is damaged; train the run again") from None


def digest(path: Path) -> str:
    """Hash of a file's content, by which a copy elsewhere is known again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
