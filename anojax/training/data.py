"""From the `data:` of a training configuration to images, bank and test split.

What the data decide about the method is decided here, too: how many types of defects or
categories there are is not to be told twice.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from anojax import task as tasks
from anojax.core import Synthesizer, with_settings
from anojax.data import categories, exemplars, folders
from anojax.data.boxes import parse_box
from anojax.data.categories import Categories
from anojax.data.dataset import Dataset, open_dataset
from anojax.data.files import sha256_of
from anojax.data.manifest import MANIFEST
from anojax.data.masks import parse_classes
from anojax.data.precomputed import read_run
from anojax.data.provenance import noted
from anojax.data.reading import Reading
from anojax.data.stream import InMemory, Source
from anojax.data.supply import bank_for
from anojax.data.testset import TestSet, read_test_set
from anojax.environment import workers
from anojax.errors import DataError, SettingError
from anojax.task import Task
from anojax.training.config import TrainConfig
from anojax.training.run import first_example
from anojax.types import Bank, Exemplar, Inputs

IN_MEMORY_BYTES = 2**31
INPUTS = "inputs.sha256"
"""File of a run that tells what its images held; a run that goes on compares it."""


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on, and is measured on."""

    source: Source
    bank: Bank | None
    test: TestSet | None
    words: str
    """The images in words, for the plan that is printed."""
    synth: Synthesizer
    """The method, with the settings that follow from the images."""
    files: dict[str, str] = field(default_factory=dict)
    """What the run's folder is to keep about them: name of the file -> content."""
    bits: int | None = None
    """Depth of the sensor, where the files have 16 bits and all images one depth."""


@dataclass(frozen=True)
class OnDemand:
    """Images that are decoded at every visit, because memory does not hold them."""

    load: Callable[[int], Inputs]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Inputs:
        return self.load(index)


def check_fits(task: Task, data: TrainingData) -> None:
    """Follow shapes through the networks, so that images that they cannot take are
    found before anything is written.

    Raises:
      AnojaxError: the task refuses its settings or the images' size or channels.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    jax.eval_shape(task.init, key, first_example(data.source, data.bank))


def read_data(config: TrainConfig, synth: Synthesizer) -> TrainingData:
    """Find and read the images: of one category, or of all categories of a data set
    for a method that tells them apart (it has the setting ``classes``).

    With several categories each is read as if it were alone, with its own foregrounds;
    folders of masks hold a folder for each. Where some have gray images and others
    colored ones, all are read as color.

    Raises:
      AnojaxError: there are none, one cannot be used, they differ in their channels,
        an evaluation is requested and there is no test split with defects, or the
        settings ask for another number of categories than there are.
    """
    wanted = tasks.get(config.method, config.stage).learns_from_exemplars
    drawn = "exemplar" in synth.needs and not wanted
    if (wanted or drawn) != (config.data.exemplars is not None):
        raise SettingError(
            f"{config.method} learns from real defects; add 'data.exemplars: DIR'"
            if wanted or drawn
            else f"{config.method} does not learn from real defects; leave "
            "data.exemplars out"
        )
    if wanted:
        return _exemplars(config, synth)
    if config.data.precomputed is not None:
        return _precomputed(config, synth)
    if not config.data.input:
        raise SettingError("the configuration names no images; add 'data.input: DIR'")
    sources = _sources(config, synth)
    known = _categories(config, synth, sources)
    if known is not None:
        synth = with_settings(synth, classes=len(known.names))
    region = None if config.data.region is None else 0
    synth.check(
        Inputs(0, source=0, exemplar=Exemplar(0, 0), label=0, text=0, region=region)
    )
    sets = [_open(config, known, one, len(sources) > 1) for one in sources]
    channels = sets[0].first.shape[-1]
    test = None
    if config.eval_every is not None:
        if len(sets) > 1:
            raise SettingError(
                "a detector is measured on one category; leave eval_every out, or give "
                "one category as data.input"
            )
        gray = config.data.gray
        how = dataclasses.replace(_reading(config), bits=sets[0].reading.bits)
        test = read_test_set(
            sets[0].source.test, config.data.shape, gray=gray, reading=how
        )
    height, width = config.data.shape
    count = sum(len(one.images) for one in sets)
    words = f"{count} in {config.data.input}, {height} x {width}"
    if known is not None:
        words += f", of {', '.join(one.category for one in sets)}"
    if "texture" in synth.needs:
        words += f"; textures: {config.data.textures or 'procedural'}"
    depths = {one.reading.bits for one in sets if one.depth}
    said = [one.depth for one in sets if one.depth][:1]
    words = "; ".join(
        [words, *said, *(note for one in sets for note in one.source.notes)]
    )
    source, files = _source(sets, height * width, channels)
    kept = {} if known is None else {categories.FILE: known.listed()}
    if drawn:
        kept[exemplars.FILE] = _read_exemplars(config).listed()
    return TrainingData(
        source=source,
        bank=_bank(synth, sets, channels),
        test=test,
        words=words,
        synth=synth,
        files=kept | {INPUTS: _content(files, sets[0].fill_banks(synth.needs))},
        bits=depths.pop() if len(depths) == 1 else None,
    )


def _sources(config: TrainConfig, synth: Synthesizer) -> tuple[folders.Source, ...]:
    """The category to learn, or all of them where the method can tell them apart."""
    data = config.data
    chosen = {"normal": data.normal, "classes": parse_classes(data.mask_classes)}
    if not _tells_apart(synth):
        found = (folders.discover(data.input, data.layout, **chosen),)
    else:
        found = folders.discover_all(data.input, data.layout, **chosen)
    if data.category is None:
        return found
    if len(found) > 1:
        raise SettingError(
            f"data.category is '{data.category}', but {data.input} holds "
            f"{len(found)} categories; leave it out, or give one as data.input"
        )
    return (dataclasses.replace(found[0], category=data.category),)


def _reading(config: TrainConfig) -> Reading:
    """How images and masks are read that no data set reads; without the depth."""
    data = config.data
    return Reading(frames=data.frames, classes=parse_classes(data.mask_classes))


def _tells_apart(synth: Synthesizer) -> bool:
    if "classes" not in {f.name for f in dataclasses.fields(synth)}:
        return False
    return "label" in with_settings(synth, classes=1).needs


def _categories(
    config: TrainConfig, synth: Synthesizer, sources: Sequence[folders.Source]
) -> Categories | None:
    """What the network is to tell apart: all that a run knows with which this one
    begins, else all that there are; ``None``: nothing."""
    if not _tells_apart(synth):
        return None
    requested, found = (
        config.settings.get("classes"),
        _known_to_components(config, synth),
    )
    where = "the run that it begins with"
    if found is None:
        if len(sources) == 1 and requested is None:
            return None
        where = config.data.input
        names = tuple(one.category for one in sources)
        found = Categories(names, _channels(config, sources))
    if requested not in (None, len(found.names)):
        raise SettingError(
            f"settings.classes is {requested}, but {where} has {len(found.names)} "
            f"categories ({', '.join(found.names)}); leave the setting out, or make it "
            f"{len(found.names)}"
        )
    return found


def _known_to_components(config: TrainConfig, synth: Synthesizer) -> Categories | None:
    known = tasks.get(config.method, config.stage)(synth=synth).components()
    runs = [
        n for n, one in known.items() if one.kind == "run" and n in config.components
    ]
    found = (
        categories.listed_in(Path(config.components[n]).expanduser()) for n in runs
    )
    return next((one for one in found if one is not None), None)


def _channels(config: TrainConfig, sources: Sequence[folders.Source]) -> int:
    """Of the images when all are of one kind: color, where a category has it."""
    if config.data.gray:
        return 1
    how = _reading(config)
    first = (how.image(one.paths[0]) for one in sources)
    return max(array.shape[-1] for array in first)


def _open(
    config: TrainConfig, known: Categories | None, source: folders.Source, several: bool
) -> Dataset:
    """The images of one category."""
    data = config.data
    if several:
        own = {
            n: _own_masks(getattr(data, n), source) for n in ("foreground", "region")
        }
        data = dataclasses.replace(data, input=str(source.root), **own)
    return open_dataset(data, seed=config.seed, source=source, known=known)


def _own_masks(where: str | None, source: folders.Source) -> str | None:
    """A category's folder of masks; what is no folder is for all of them."""
    if where in (None, "auto", "none") or parse_box(where) is not None:
        return where
    if Path(where).expanduser().is_file():
        return where
    own = Path(where).expanduser() / source.category
    if not own.is_dir():
        raise DataError(
            f"there is no folder {own}; with several categories, the masks of each are "
            "in a folder of its name"
        )
    return str(own)


def _bank(synth: Synthesizer, sets: Sequence[Dataset], channels: int) -> Bank | None:
    if "normal" in synth.needs and len(sets) > 1:
        raise SettingError(
            f"{synth.name} takes from other normal images, which is not there for "
            "several categories; give one as data.input"
        )
    return bank_for(synth.needs, sets[0].bank, channels)


def _precomputed(config: TrainConfig, synth: Synthesizer) -> TrainingData:
    if config.eval_every is not None:
        raise SettingError(
            "a run of synthetic anomalies holds no real test split; "
            "leave eval_every out, or give data.input"
        )
    source = read_run(config.data.precomputed, method=config.method)
    words = f"{len(source)} precomputed anomalies in {config.data.precomputed}"
    content = _content([Path(config.data.precomputed).expanduser() / MANIFEST], {})
    return TrainingData(source, None, None, words, synth, {INPUTS: content})


def _exemplars(config: TrainConfig, synth: Synthesizer) -> TrainingData:
    """Real defects alone; who needs them beside normal images draws them from a bank."""
    requested = config.data
    others = ("input", "textures", "region", "precomputed")
    if given := [name for name in others if getattr(requested, name)]:
        raise SettingError(
            f"{config.method} learns from exemplars alone; leave data.{given[0]} out"
        )
    if config.eval_every is not None:
        raise SettingError(
            "exemplars are no test split; leave eval_every out, and measure what was "
            "synthesized afterwards"
        )
    with noted() as files:
        found = _read_exemplars(config)
    kinds, (height, width) = found.defects, requested.shape
    return TrainingData(
        source=found,
        bank=None,
        test=None,
        words=f"{len(found)} exemplars of {len(kinds)} types ({', '.join(kinds)}) in "
        f"{requested.exemplars}, {height} x {width}",
        synth=_for_types(synth, kinds, config),
        files={exemplars.FILE: found.listed(), INPUTS: _content(files, {})},
    )


def _read_exemplars(config: TrainConfig) -> exemplars.Exemplars:
    requested = config.data
    return exemplars.read_exemplars(
        requested.exemplars,
        requested.shape,
        per_defect=requested.exemplars_per_defect,
        gray=requested.gray,
        reading=_reading(config),
        bits=requested.bits,
    )


def _for_types(synth: Synthesizer, kinds: tuple[str, ...], config) -> Synthesizer:
    """The method for as many types of defects, if it has a setting for it."""
    if "defects" not in {f.name for f in dataclasses.fields(synth)}:
        return synth
    requested = config.settings.get("defects", len(kinds))
    if requested != len(kinds):
        raise SettingError(
            f"settings.defects is {requested}, but {config.data.exemplars} has "
            f"{len(kinds)} types of defects ({', '.join(kinds)}); leave the setting "
            f"out, or make it {len(kinds)}"
        )
    return with_settings(synth, defects=len(kinds))


def _content(files: Iterable[Path], banks: dict[str, str]) -> str:
    """What the images were made from, as ``sha256sum --check`` reads it; and, as
    comments, the banks."""
    with ThreadPoolExecutor(workers()) as pool:
        paths = sorted(files)
        hashes = pool.map(sha256_of, paths)
        lines = [f"{h}  {path}" for h, path in zip(hashes, paths, strict=True)]
    return "\n".join([*(f"# {k} {h}" for k, h in banks.items()), *lines, ""])


def _source(
    sets: Sequence[Dataset], pixels: int, channels: int
) -> tuple[Source, Iterable[Path]]:
    """All images: decoded once where memory allows, else when requested; and the files
    that they come from, without masks where they are decoded on request."""
    opened: dict[Path, None] = {}
    places = [(one, i) for one in sets for i in range(len(one.images))]
    # One structure for all: where one category has foregrounds, others are all object.
    masked = len(sets) > 1 and any(s.load(0).foreground is not None for s in sets)

    def load(index: int) -> Inputs:
        mine, number = places[index]
        with noted() as files:
            one = mine.load(number)
        opened.update(files)
        if one.image.shape[-1] != channels:
            raise DataError(
                f"{mine.images[number]} has {one.image.shape[-1]} channels, the first "
                f"image has {channels}; add 'data.gray: true' or sort them apart"
            )
        foreground = one.foreground
        if foreground is None and masked:
            foreground = np.ones((*one.image.shape[:2], 1), np.uint8)
        label = None if mine.label is None else np.int32(mine.label)
        return Inputs(one.image, foreground, one.region, label=label)

    count = len(places)
    if count * pixels * (channels + 2) > IN_MEMORY_BYTES:
        return OnDemand(load, count), [path for one in sets for path in one.images]
    with ThreadPoolExecutor() as pool:
        every = list(pool.map(load, range(count)))
    return InMemory(jax.tree.map(lambda *x: np.stack(x), *every)), opened
