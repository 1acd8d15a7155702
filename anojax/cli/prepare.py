"""From a request to a plan: every mistake is found here, before any device works."""

import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import anojax
from anojax import registry
from anojax.cli.learned import Parameters, check_channels, with_parameters
from anojax.config import SynthConfig, digest, to_dict
from anojax.core import Synthesizer, settings, with_settings
from anojax.data import folders, foregrounds, reading, textures
from anojax.data.categories import Categories
from anojax.data.files import Pixels
from anojax.data.mask_files import MaskFiles, mask_files
from anojax.data.masks import Classes, parse_classes
from anojax.data.pipeline import Loaded, Plan
from anojax.data.reading import Reading
from anojax.data.visible import RULE
from anojax.data.write import MvtecSink, Output, Sink
from anojax.errors import DataError, SettingError
from anojax.types import Bank, Controls, Inputs

BANK_IMAGES = 512
BANK_BYTES = 2**28


@dataclass(frozen=True)
class Prepared:
    """A request with everything that follows from it."""

    config: SynthConfig
    methods: tuple[Synthesizer, ...]
    """As they are set; those of the plan may have learned parameters."""
    plan: Plan
    source: folders.Source
    foreground: str
    """The decision in words, for the plan that is printed."""
    read: Callable[[Path], Pixels]
    """Reads a file's own pixels, in the channels that are asked for."""
    first: Pixels
    """The first readable image, in its own resolution."""
    parameters: Parameters | None
    """Of the method that learns, if there is one."""
    resolved: dict[str, Any]
    """What goes into config.yaml."""
    depth: str = ""
    """How many bits of a file are the sensor's, in words; empty for 8."""

    @property
    def category(self) -> str:
        return self.source.category

    @property
    def settings(self) -> tuple[dict[str, Any], ...]:
        """Hyper-parameters, controls and checkpoint of each method, for the manifest."""
        controls = self.config.controls()
        return tuple(
            settings(synth) | controls | self._learned(synth) for synth in self.methods
        )

    def _learned(self, synth: Synthesizer) -> dict[str, Any]:
        if self.parameters is None or self.parameters.method != synth.name:
            return {}
        facts = {"checkpoint": self.parameters.sha256}
        if "label" in synth.needs:
            facts |= {"category": self.category, "label": self.plan.label}
        return facts


def prepare(
    config: SynthConfig,
    parameters: Parameters | None = None,
    *,
    known: Categories | None = None,
) -> Prepared:
    """Check a request against the methods and the images.

    Args:
      config: the request.
      parameters: of the method that learns; see `load_parameters`.
      known: the categories that a method tells apart; those of `parameters`, if there
        are any.

    Raises:
      AnojaxError: a method cannot support a control, a folder is missing or empty, no
        image can be read, severity 0 would leave every image unchanged, the
        parameters do not fit, or a network does not know the images' category.
    """
    known = known if parameters is None else parameters.categories
    methods = make_methods(config)
    classes = parse_classes(config.mask_classes)
    source = folders.discover(
        config.input, layout=config.layout, normal=config.normal, classes=classes
    )
    if config.category is not None:
        source = dataclasses.replace(source, category=config.category)
    label = _label(methods, source.category, known)
    images = tuple(source.paths)
    depth = reading.depth(images, config.bits, config.frames)
    how = _reading(config, None if label is None else known, depth.bits, classes)
    read = how.image
    if config.textures is not None:
        folders.find_images(config.textures)
    region = None
    if config.region is not None:
        region = mask_files(config.region, images, source.root, "region", classes)
    foreground, decision = _foreground(config, source, how)

    def load_any(index: int) -> Loaded:
        return _load(config, how, images[index], foreground, region)

    first = _first_usable(config, read, images, load_any)

    def load(index: int) -> Loaded:
        loaded = load_any(index)
        check_channels(parameters, loaded.image, first, images[index])
        return loaded

    shape = (*config.size, first.shape[-1])
    plan = Plan(
        methods=tuple(with_parameters(s, parameters, shape) for s in methods),
        images=images,
        seed=config.seed,
        load=load,
        bank=_banks(config, how, images, foreground),
        controls=Controls(**config.controls()),
        per_image=config.per_image,
        count=config.count,
        keep_empty=config.keep_empty,
        label=label,
        native=(lambda i: read(images[i])) if config.native else None,
        min_contrast=config.min_contrast,
        bits=depth.bits,
    )
    resolved = _resolved(config, methods, source, parameters)
    return Prepared(
        config, methods, plan, source, decision, read, first, parameters, resolved,
        depth.sentence,
    )  # fmt: skip


def make_methods(config: SynthConfig) -> tuple[Synthesizer, ...]:
    """The methods with their settings, checked against the controls asked for."""
    if config.severity == 0 and not config.keep_empty:
        raise SettingError(
            "severity 0 leaves every image unchanged; raise --severity, or add "
            "--keep-empty to write unchanged images"
        )
    region = None if config.region is None else 0
    controls = Controls(**config.controls())
    # Images, banks and labels are there when the work begins.
    asked = Inputs(image=0, source=0, label=0, region=region, controls=controls)
    methods = []
    for name in config.methods:
        fields = config.settings.get(name, {})
        synth = with_settings(registry.get(name)(), **fields)
        synth.check(asked)
        if config.native and synth.card.level == "full_image":
            raise SettingError(
                f"{name} makes whole images at the working size, which have no own "
                "resolution; leave --native out"
            )
        methods.append(synth)
    return tuple(methods)


def make_output(job: Prepared, run: Path) -> Output:
    """Where the images go, and what becomes of them on the way."""
    return Output(run, job.category, job.plan, job.settings)


def make_sink(job: Prepared, run: Path) -> Sink:
    """The writer for the format that is asked for."""
    output = make_output(job, run)
    if job.config.format == "mvtec":
        return MvtecSink(output)
    from anojax.data.shard import TfdsSink

    size = (None, None) if job.config.native else job.config.size
    dtype = job.first.dtype if job.config.native else np.dtype(np.uint8)
    channels = job.first.shape[-1]
    return TfdsSink(output, size=size, channels=channels, dtype=dtype.type)


def fill_banks(job: Prepared) -> None:
    """Read what the methods draw from before anything is written.

    Raises:
      DataError: a texture cannot be read.
    """
    for synth in job.plan.methods:
        for need in set(synth.needs) & {"texture", "normal"}:
            job.plan.bank(need, job.first.shape[-1])


def check_all(job: Prepared) -> None:
    """Read every image; for `--strict`.

    Raises:
      DataError: about the first that cannot be used.
    """
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(job.plan.load, range(len(job.plan.images))):
            pass


def _resolved(
    config: SynthConfig,
    methods: tuple[Synthesizer, ...],
    source: folders.Source,
    parameters: Parameters | None,
) -> dict[str, Any]:
    """The request with every default spelled out, the versions, and a hash of both."""
    from anojax.cli.env import versions

    names = [path.relative_to(source.root).as_posix() for path in source.paths]
    request = to_dict(config)
    # Absolute paths: the run can be verified from any working folder.
    for name in ("input", "textures", "region", "foreground", "checkpoint"):
        if request[name] not in (None, "auto", "none"):
            request[name] = str(Path(request[name]).expanduser().resolve())
    request["settings"] = {s.name: _lists(settings(s)) for s in methods}
    resolved = {
        "request": request,
        "category": source.category,
        "mask_rule": RULE,
        "pictures": {
            "count": len(names),
            "names_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        },
        "versions": {"anojax": anojax.__version__, **versions()},
    }
    if parameters is not None:
        resolved["checkpoint"] = parameters.facts
    return resolved | {"hash": digest(resolved)}


def _lists(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as YAML gives them back."""

    def plain(value):
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return {name: plain(value) for name, value in values.items()}


def _label(
    methods: tuple[Synthesizer, ...], category: str, known: Categories | None
) -> int | None:
    """The number of the images' category, where a method wants to know it.

    Raises:
      DataError: there is no list of categories, or this one is not on it.
    """
    asking = next((synth.name for synth in methods if "label" in synth.needs), None)
    if asking is None:
        return None
    if known is None:
        raise DataError(
            f"{asking} tells categories apart with these settings, and nothing says "
            "which it knows; train it on a data set of several, or leave the setting "
            "classes out"
        )
    return known.label(category)


def _reading(
    config: SynthConfig,
    known: Categories | None,
    bits: int,
    classes: Classes | None,
) -> Reading:
    """How files are read: as they are, gray if that is asked for, or in color where
    the network learned gray categories beside colored ones."""
    in_color = known is not None and known.channels == 3
    gray = True if config.gray else False if in_color else None
    return Reading(gray, bits, config.frames, classes)


def _first_usable(config, read, images: tuple[Path, ...], load) -> Pixels:
    """The first image that can be used, as its file holds it."""
    reasons = []
    for index, path in enumerate(images):
        try:
            load(index)
            return read(path)
        except DataError as error:
            reasons.append(str(error))
    raise DataError(
        f"none of the {len(images)} images in {config.input} can be used: {reasons[0]}"
    )


def _load(
    config, how: Reading, path: Path, foreground, region: MaskFiles | None
) -> Loaded:
    array = how.image(path)
    small, where = how.small(path, array, config.size), None
    if region is not None:
        where = region.read_at(path, array.shape[:2], config.size)
    object_ = foreground(path, array, small)
    if where is not None and object_ is not None and not (where & object_).any():
        raise DataError(f"{path}: its region and its foreground do not overlap")
    return Loaded(small, object_, where)


def _foreground(config, source, how: Reading):
    """The reader of foregrounds, and the decision in words."""
    decision = foregrounds.foregrounds(
        source.paths, config.foreground, root=source.root, reading=how
    )

    def read(path, array, small):
        if decision.masks is not None:
            return decision.masks.read_at(path, array.shape[:2], config.size)
        mask = decision(small)
        if mask is not None and not mask.any():
            raise DataError(
                f"no object was found in {path}; give masks with "
                "--foreground DIR, or use --foreground none"
            )
        return mask

    return read, decision.sentence


def _banks(config, how: Reading, images, foreground) -> Callable[[str, int], Bank]:
    """The banks of textures and of normal images, each made when first needed."""

    @cache
    def bank(need: str, channels: int) -> Bank:
        if need == "texture":
            return Bank(
                textures.texture_bank(
                    config.textures,
                    size=config.size,
                    channels=channels,
                    seed=config.seed,
                )
            )
        return _normal_bank(config, how, images, foreground, channels)

    return bank


def _normal_bank(config, how: Reading, paths, foreground, channels: int) -> Bank:
    """Normal images spread evenly over all of them, as many as memory allows."""
    height, width = config.size
    room = BANK_BYTES // (height * width * (channels + 1))
    most = max(2, min(BANK_IMAGES, room))
    picks = np.linspace(0, len(paths) - 1, min(most, len(paths))).round()

    def load(index: int) -> Loaded | None:
        path = paths[index]
        try:
            array = how.image(path)
            if array.shape[-1] != channels:
                return None
            small = how.small(path, array, config.size)
            return Loaded(small, foreground(path, array, small))
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
