"""From the `data:` of a training configuration to pictures, bank and test split."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import numpy as np

from anojax.cli.prepare import prepare
from anojax.config import SynthConfig
from anojax.core import Synthesizer
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
    if config.data.ready is not None:
        return _ready(config)
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
    )


def _ready(config: TrainConfig) -> TrainingData:
    if config.eval_every is not None:
        raise SettingError(
            "a run of synthetic anomalies holds no real test split; "
            "leave eval_every out, or give data.input"
        )
    source = read_run(config.data.ready, method=config.method)
    words = f"{len(source)} ready anomalies in {config.data.ready}"
    return TrainingData(source, None, None, words)


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
