"""A data set as methods and trainings see it: the images of one category at working
size, with what belongs to each (foreground, region, label) and the banks beside them.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anojax.data import folders, foregrounds, reading, textures
from anojax.data.categories import Categories
from anojax.data.config import DataConfig
from anojax.data.exemplars import read_exemplars
from anojax.data.files import Pixels
from anojax.data.fit import Fitted, fitted
from anojax.data.folders import Source
from anojax.data.mask_files import mask_files
from anojax.data.masks import Classes, parse_classes
from anojax.data.naming import file_name
from anojax.data.plan import Loaded
from anojax.data.reading import Reading
from anojax.data.supply import DRAWN
from anojax.errors import DataError
from anojax.types import Bank, Exemplar

BANK_IMAGES = 512
BANK_BYTES = 2**28


@dataclass(frozen=True)
class Dataset:
    """The normal images of one category, checked and ready to be read."""

    config: DataConfig
    source: Source
    images: tuple[Path, ...]
    """In natural order of their names."""
    every: tuple[Path, ...]
    """The same, and those that are not in the part that was requested."""
    foreground: str
    """Where the object is, in words."""
    depth: str
    """How many bits of a file are the sensor's, in words; empty for 8."""
    reading: Reading
    """How the files are read."""
    load: Callable[[int], Loaded] = dataclasses.field(repr=False)
    """Reads image number i at working size; raises `DataError` if it cannot be used."""
    bank: Callable[[str, int], Bank] = dataclasses.field(repr=False)
    """What a need ("texture", "normal", "exemplar") draws from, by channels."""
    first: Pixels = dataclasses.field(repr=False)
    """The first readable image, in its own resolution."""
    label: int | None
    """Number of the category, for methods that tell categories apart."""

    @property
    def category(self) -> str:
        return self.source.category

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images at working size."""
        return (*self.config.shape, self.first.shape[-1])

    @property
    def facts(self) -> dict[str, Any]:
        """By which a run knows its images again: their number, and a hash of names."""
        root = self.source.root
        names = "\n".join(path.relative_to(root).as_posix() for path in self.every)
        found = hashlib.sha256(names.encode()).hexdigest()[:16]
        return {"count": len(self.every), "names_sha256": found}

    def fill_banks(self, needs: Iterable[str]) -> dict[str, str]:
        """Read what methods with these needs draw from, before anything is written.

        Returns:
          By need, a hash of the files' pixels; nothing of procedural textures, which
          depend on no file.

        Raises:
          DataError: a texture or an exemplar cannot be read.
        """
        found = {}
        for need in sorted(set(needs) & set(DRAWN)):
            bank = self.bank(need, self.first.shape[-1])
            if need != "texture" or self.config.textures is not None:
                found[need] = _digest(bank)
        return found

    def check_all(self) -> None:
        """Read every image.

        Raises:
          DataError: about the first that cannot be used.
        """
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(self.load, range(len(self.images))):
                pass


def open_dataset(
    config: DataConfig,
    *,
    seed: int = 0,
    source: Source | None = None,
    known: Categories | None = None,
    fit: str = "stretch",
    part: Callable[[int], Sequence[int]] | None = None,
) -> Dataset:
    """Find the images of a category and what belongs to them.

    Args:
      config: which images.
      seed: of procedural textures.
      source: the category, where it is one of several that were found already.
      known: the categories that a method tells apart, if it does.
      fit: how images of other proportions come to the size; one of `fit.FITS`.
      part: which of so many images are used, and drawn from; all by default.

    Raises:
      DataError: a folder is missing or empty, it holds several categories, no image can
        be used, or the network does not know the category.
    """
    classes = parse_classes(config.mask_classes)
    if source is None:
        source = folders.discover(
            config.input, layout=config.layout, normal=config.normal, classes=classes
        )
        category = file_name(config.category or source.category)
        source = dataclasses.replace(source, category=category)
    label = None if known is None else known.label(source.category)
    every, size = tuple(source.paths), config.shape
    images = every if part is None else tuple(every[i] for i in part(len(every)))
    depth = reading.depth(every, config.bits, config.frames)
    how = _reading(config, known, depth.bits, classes)
    if config.textures is not None:
        folders.find_images(config.textures)
    region = None
    if config.region is not None:
        region = mask_files(config.region, images, source.root, "region", classes)
    foreground, decision = _foreground(config, source, how)

    def at_size(path: Path) -> tuple[Pixels, Fitted, np.ndarray, np.ndarray | None]:
        """An image's own pixels, its way to the size, the image there, and where the
        object is."""
        array = how.image(path)
        way = fitted(array.shape[:2], size, fit)
        small = how.small(path, array[way.source], way.filled)
        object_ = foreground(path, array, small, way)
        return array, way, way.image(small), object_

    def load(index: int) -> Loaded:
        path, where = images[index], None
        array, way, small, object_ = at_size(path)
        if region is not None:
            where = region.read_at(path, array.shape[:2], way)
        if where is not None and object_ is not None and not (where & object_).any():
            raise DataError(f"{path}: its region and its foreground do not overlap")
        return Loaded(small, object_, where, array.shape[:2])

    return Dataset(
        config=config,
        source=source,
        images=images,
        every=every,
        foreground=decision,
        depth=depth.sentence,
        reading=how,
        load=load,
        bank=_banks(config, how, images, at_size, seed),
        first=_first_usable(config, how, images, load),
        label=label,
    )


def _digest(bank: Bank) -> str:
    total = hashlib.sha256()
    # In the order of the fields: images, foregrounds, exemplars, labels.
    for array in jax.tree.leaves(bank):
        values = np.ascontiguousarray(array)
        total.update(f"{values.dtype} {values.shape}\n".encode())
        total.update(values.tobytes())
    return total.hexdigest()[:16]


def _reading(
    config: DataConfig, known: Categories | None, bits: int, classes: Classes | None
) -> Reading:
    """How files are read: as they are, gray if that is requested, or in color where
    the network learned gray categories beside colored ones."""
    in_color = known is not None and known.channels == 3
    gray = True if config.gray else False if in_color else None
    return Reading(gray, bits, config.frames, classes)


def _first_usable(config, how: Reading, images: tuple[Path, ...], load) -> Pixels:
    """The first image that can be used, as its file holds it."""
    reasons = []
    for index, path in enumerate(images):
        try:
            load(index)
            return how.image(path)
        except DataError as error:
            reasons.append(str(error))
    raise DataError(
        f"none of the {len(images)} images in {config.input} can be used: {reasons[0]}"
    )


def _foreground(config: DataConfig, source: Source, how: Reading):
    """The reader of foregrounds, and the decision in words."""
    decision = foregrounds.foregrounds(
        source.paths, config.foreground, root=source.root, reading=how
    )

    def read(path, array, small, way):
        if decision.masks is not None:
            return decision.masks.read_at(path, array.shape[:2], way)
        mask = decision(small)
        if mask is not None and not mask.any():
            raise DataError(
                f"no object was found in {path}; give masks with "
                "--foreground DIR, or use --foreground none"
            )
        # What is beside an image is no place for a defect.
        return way.inside() if mask is None else way.plane(mask)

    return read, decision.sentence


def _banks(config, how: Reading, images, at_size, seed) -> Callable[[str, int], Bank]:
    """The banks of textures, normal images and exemplars, each made when needed."""

    @cache
    def bank(need: str, channels: int) -> Bank:
        if need == "texture":
            return Bank(
                textures.texture_bank(
                    config.textures, size=config.shape, channels=channels, seed=seed
                )
            )
        if need == "exemplar":
            return _exemplar_bank(config, how, channels)
        return _normal_bank(config.shape, images, at_size, channels)

    return bank


def _exemplar_bank(config: DataConfig, how: Reading, channels: int) -> Bank:
    """The chosen exemplars of every type of defect, at working size."""
    if config.exemplars is None:
        raise DataError(
            "real defects with masks are needed; give their folder as data.exemplars"
        )
    found = read_exemplars(
        config.exemplars,
        config.shape,
        per_defect=config.exemplars_per_defect,
        gray=channels == 1,
        reading=how,
        bits=config.bits,
    )
    if found.images.shape[-1] != channels:
        raise DataError(
            f"exemplars in {config.exemplars} have {found.images.shape[-1]} channels, "
            f"the images have {channels}; treat all as gray, or sort them apart"
        )
    pairs = Exemplar(found.images, found.masks)
    return Bank(exemplars=pairs, labels=found.labels)


def _normal_bank(size, paths, at_size, channels: int) -> Bank:
    """Normal images spread evenly over all of them, as many as memory allows."""
    height, width = size
    room = BANK_BYTES // (height * width * (channels + 1))
    most = max(2, min(BANK_IMAGES, room))
    picks = np.linspace(0, len(paths) - 1, min(most, len(paths))).round()

    def load(index: int) -> Loaded | None:
        try:
            array, _, small, object_ = at_size(paths[index])
            return Loaded(small, object_) if array.shape[-1] == channels else None
        except DataError:
            return None  # reported when its own turn comes

    with ThreadPoolExecutor() as pool:
        loaded = [one for one in pool.map(load, sorted(set(map(int, picks)))) if one]
    if not loaded:
        raise DataError(f"no normal image with {channels} channels for the bank")
    images = np.stack([one.image for one in loaded])
    if loaded[0].foreground is None:
        return Bank(images)
    return Bank(images, np.stack([one.foreground for one in loaded]))
