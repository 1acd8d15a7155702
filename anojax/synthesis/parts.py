"""The normal images of a run in parts: some to train with, some that stay clean among
the test images, and those that defects are made from. No image is in two parts."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from anojax.data.plan import unique_stems
from anojax.errors import SettingError
from anojax.synthesis.config import SynthConfig


class Parts(NamedTuple):
    """Places of images in natural order of their names; each part is in order too."""

    train: Sequence[int]
    clean: Sequence[int]
    sources: Sequence[int]
    """Those that defects are made from."""


def split(count: int, config: SynthConfig) -> Parts:
    """Which image is in which part: by the seed and the place of its name alone.

    The images are ordered by a hash of both. The first are for training, the next stay
    clean, and from the others defects are made.

    Args:
      count: of the images.
      config: `train_share` of all images, `normal_share` of those that are left.

    Raises:
      SettingError: a part that is requested, or the sources, would be empty.

    >>> [len(part) for part in split(8, SynthConfig(train_share=0.5, normal_share=0.5))]
    [4, 2, 2]
    """

    def drawn(place: int) -> bytes:
        # A hash and no generator: the same on every machine and in every version.
        return hashlib.sha256(f"{config.seed} part {place}".encode()).digest()

    order = sorted(range(count), key=drawn)
    train = math.floor(config.train_share * count + 0.5)
    clean = math.floor(config.normal_share * (count - train) + 0.5)
    rest = count - train - clean
    asked = (config.train_share > 0) <= (train > 0)
    if not asked or (config.normal_share > 0) > (clean > 0) or rest < 1:
        raise SettingError(
            f"of {count} normal images train_share {config.train_share:g} and "
            f"normal_share {config.normal_share:g} give {train} to train/good, {clean} "
            f"to test/good and {rest} to make defects from; none of these may be 0 "
            "where it is requested: change the shares, or give more images"
        )
    ends = order[:train], order[train : train + clean], order[train + clean :]
    return Parts(*map(sorted, ends))


def sources_folder(config: SynthConfig) -> str:
    """Where the images that defects are made from stand, below the category: not
    among the training images where those are a part of their own."""
    return "normal" if config.train_share else "train/good"


def clean_files(parts: Parts, images: Sequence[Path], category: str) -> dict[str, Path]:
    """The images of the run that no defect is made from: name in the run -> source.

    >>> parts = Parts([0], [2], [1])
    >>> clean_files(parts, [Path("a.png"), Path("b.png"), Path("c.png")], "tile")
    {'tile/train/good/a.png': PosixPath('a.png'), 'tile/test/good/c.png': PosixPath('c.png')}
    """
    found = {}
    for folder, places in (("train", parts.train), ("test", parts.clean)):
        paths = [images[place] for place in places]
        for stem, path in zip(unique_stems(paths), paths, strict=True):
            found[f"{category}/{folder}/good/{stem}.png"] = path
    return found
