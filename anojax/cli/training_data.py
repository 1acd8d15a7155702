"""From the `data:` of a training configuration to pictures, bank and test split.

What the data decide about the method is decided here, too: how many types of defects
there are is not to be told twice.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import jax
import numpy as np

from anojax import task as tasks
from anojax.cli.prepare import prepare
from anojax.config import SynthConfig
from anojax.core import Synthesizer, with_settings
from anojax.data import exemplars
from anojax.data.pipeline import Plan
from anojax.data.ready import read_run
from anojax.data.stream import InMemory, Source
from anojax.data.testset import TestSet, read_test_set
from anojax.errors import DataError, SettingError
from anojax.training.config import TrainConfig
from anojax.types import Bank, Inputs

IN_MEMORY_BYTES = 2**31


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on, and is measured on."""

    source: Source
    bank: Bank | None
    test: TestSet | None
    words: str
    """The pictures in words, for the plan that is printed."""
    synth: Synthesizer
    """The method, with the settings that follow from the pictures."""
    files: dict[str, str] = field(default_factory=dict)
    """What the run's folder is to keep about them: name of the file -> content."""


@dataclass(frozen=True)
class OnDemand:
    """Pictures that are decoded at every visit, because memory does not hold them."""

    load: Callable[[int], Inputs]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Inputs:
        return self.load(index)


def read_data(config: TrainConfig, synth: Synthesizer) -> TrainingData:
    """Find and read the pictures.

    Raises:
      AnojaxError: there are none, one cannot be used, they differ in their channels,
        or an evaluation is asked for and there is no test split with defects.
    """
    wanted = tasks.get(config.method, config.stage).learns_from_exemplars
    if wanted != (config.data.exemplars is not None):
        raise SettingError(
            f"{config.method} learns from real defects; add 'data.exemplars: DIR'"
            if wanted
            else f"{config.method} does not learn from real defects; leave "
            "data.exemplars out"
        )
    if wanted:
        return _exemplars(config, synth)
    if config.data.ready is not None:
        return _ready(config, synth)
    if not config.data.input:
        raise SettingError("the configuration names no pictures; add 'data.input: DIR'")
    same = {f.name for f in dataclasses.fields(SynthConfig)}
    values = {
        f.name: getattr(config.data, f.name)
        for f in dataclasses.fields(config.data)
        if f.name in same
    } | {"size": config.data.shape}
    settings = {config.method: config.settings}
    job = prepare(
        SynthConfig(
            methods=(config.method,), seed=config.seed, settings=settings, **values
        )
    )
    need = next((n for n in synth.needs if n in ("texture", "normal")), None)
    channels = job.first.shape[-1]
    test = None
    if config.eval_every is not None:
        gray = config.data.gray
        test = read_test_set(job.source.test, config.data.shape, gray=gray)
    height, width = config.data.shape
    return TrainingData(
        source=_source(job.plan, height * width, channels),
        bank=None if need is None else job.plan.bank(need, channels),
        test=test,
        words=f"{len(job.plan.pictures)} in {config.data.input}, {height} x {width}",
        synth=synth,
    )


def _ready(config: TrainConfig, synth: Synthesizer) -> TrainingData:
    if config.eval_every is not None:
        raise SettingError(
            "a run of synthetic anomalies holds no real test split; "
            "leave eval_every out, or give data.input"
        )
    source = read_run(config.data.ready, method=config.method)
    words = f"{len(source)} ready anomalies in {config.data.ready}"
    return TrainingData(source, None, None, words, synth)


def _exemplars(config: TrainConfig, synth: Synthesizer) -> TrainingData:
    """Real defects alone; whoever also needs normal pictures is not here yet."""
    asked = config.data
    others = ("input", "textures", "region", "ready")
    if given := [name for name in others if getattr(asked, name)]:
        raise SettingError(
            f"{config.method} learns from exemplars alone; leave data.{given[0]} out"
        )
    if config.eval_every is not None:
        raise SettingError(
            "exemplars are no test split; leave eval_every out, and measure what was "
            "synthesized afterwards"
        )
    found = exemplars.read_exemplars(
        asked.exemplars,
        asked.shape,
        per_defect=asked.exemplars_per_defect,
        gray=asked.gray,
    )
    kinds, (height, width) = found.defects, asked.shape
    return TrainingData(
        source=found,
        bank=None,
        test=None,
        words=f"{len(found)} exemplars of {len(kinds)} types ({', '.join(kinds)}) in "
        f"{asked.exemplars}, {height} x {width}",
        synth=_for_types(synth, kinds, config),
        files={exemplars.FILE: found.listed()},
    )


def _for_types(synth: Synthesizer, kinds: tuple[str, ...], config) -> Synthesizer:
    """The method for as many types of defects, if it has a setting for it."""
    if "defects" not in {f.name for f in dataclasses.fields(synth)}:
        return synth
    asked = config.settings.get("defects", len(kinds))
    if asked != len(kinds):
        raise SettingError(
            f"settings.defects is {asked}, but {config.data.exemplars} has "
            f"{len(kinds)} types of defects ({', '.join(kinds)}); leave the setting "
            f"out, or make it {len(kinds)}"
        )
    return with_settings(synth, defects=len(kinds))


def _source(plan: Plan, pixels: int, channels: int) -> Source:
    """The plan's pictures: decoded once where memory allows, else when asked for."""

    def load(index: int) -> Inputs:
        one = plan.load(index)
        if one.image.shape[-1] != channels:
            raise DataError(
                f"{plan.pictures[index]} has {one.image.shape[-1]} channels, the first "
                f"picture has {channels}; add 'data.gray: true' or sort them apart"
            )
        return Inputs(one.image, one.foreground, one.region)

    count = len(plan.pictures)
    if count * pixels * (channels + 2) > IN_MEMORY_BYTES:
        return OnDemand(load, count)
    with ThreadPoolExecutor() as pool:
        every = list(pool.map(load, range(count)))
    return InMemory(jax.tree.map(lambda *x: np.stack(x), *every))
