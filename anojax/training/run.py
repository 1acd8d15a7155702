"""A whole training run in one call: what `anojax train` and notebooks use."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from anojax.data.stream import Source, Stream
from anojax.data.testset import TestSet
from anojax.errors import SettingError
from anojax.evaluation.scoring import in_parts, scored
from anojax.task import Examples, Task, TrainState
from anojax.training.checkpoint import (
    FROZEN,
    Checkpoints,
    Keep,
    save_frozen,
    save_variables,
)
from anojax.training.flops import Cost, update_cost
from anojax.training.loop import Evaluate, Outcome, Timetable, Watch, fit
from anojax.training.metrics_log import MetricsLog
from anojax.training.parallel import Pmap, Strategy
from anojax.training.start import CHECKPOINTS, Beginning, starting_point
from anojax.types import Bank, Inputs, PyTree

MODEL = "model"


def train(
    task: Task,
    source: Source,
    *,
    batch_size: int,
    seed: int = 0,
    timetable: Timetable | None = None,
    strategy: Strategy | None = None,
    bank: Bank | None = None,
    folder: Path | None = None,
    beginning: Beginning | None = None,
    keep: Keep | None = None,
    watch: Watch | None = None,
    config: dict[str, Any] | None = None,
) -> Outcome:
    """Train a task on normal images.

    Args:
      task: what to train; `task.steps` updates unless `timetable` says otherwise.
      source: the normal images; see `anojax.data.stream.InMemory`.
      batch_size: of all devices and processes together.
      seed: of images, networks and order, in [0, 2**32).
      timetable: when to log, evaluate, save and sample.
      strategy: over devices; `Pmap()` by default.
      bank: what examples draw from, where methods need a texture or another image.
      folder: of the run: log, checkpoints, frozen networks and the finished model. A run
        that is there already goes on. Nothing is written when absent.
      beginning: what the run begins with; random networks by default.
      keep: which checkpoints stay; the newest by default.
      watch: who looks on: an evaluation, sheets of samples, a progress bar.
      config: resolved configuration, kept in checkpoints and model.

    Returns:
      The last state, as host arrays, and what was measured at the end.

    Raises:
      AnojaxError: a setting that does not fit, a checkpoint that cannot be used, or a
        metric that is not finite.
    """
    strategy = Pmap() if strategy is None else strategy
    timetable = Timetable(steps=task.steps) if timetable is None else timetable
    beginning = Beginning() if beginning is None else beginning
    watch = Watch() if watch is None else watch
    strategy.check_batch(batch_size)
    first = jax.process_index() == 0
    stream = Stream(
        source,
        batch_size,
        seed=seed,
        process=jax.process_index(),
        processes=jax.process_count(),
    )
    example = jax.tree.map(lambda x: x[0], next(stream.batches()))
    start = starting_point(
        task,
        strategy,
        example.replace(bank=bank),
        seed=seed,
        folder=None if folder is None else Path(folder) / CHECKPOINTS,
        beginning=beginning,
        batches=lambda: _whole_batches(source, batch_size, seed, bank),
    )
    watch.note(start.how)
    cost = one_update(task, source, batch_size, strategy, bank) if first else None
    watch.note(f"one update: {cost}")
    log = checkpoints = None
    if folder is not None:
        save_frozen(
            Path(folder) / FROZEN,
            strategy.fetch(start.state.frozen),
            method=task.name,
            config=config or {},
        )
        if first:
            log = MetricsLog(folder, step=start.step, tensorboard=watch.tensorboard)
        checkpoints = Checkpoints(Path(folder) / CHECKPOINTS, keep or Keep())
    try:
        outcome = fit(
            task,
            stream,
            strategy,
            timetable,
            start,
            bank=bank,
            log=log,
            checkpoints=checkpoints,
            watch=replace(watch, progress=watch.progress and first),
            cost=cost,
            config=config,
            folder=None if folder is None else Path(folder),
        )
    finally:  # what was saved must be whole, also when a metric is not finite
        for open_file in (log, checkpoints):
            if open_file is not None:
                open_file.close()
    if folder is not None and outcome.stopped_by is None:
        watch.note("fit the detector to the normal images and write the model")
        save_variables(
            Path(folder) / MODEL,
            finished_variables(task, outcome, source),
            method=task.name,
            config=config or {},
            params=synthesizer_params(task, outcome.state),
            step=outcome.step,
        )
    return outcome


def one_update(
    task: Task,
    source: Source,
    batch_size: int,
    strategy: Strategy,
    bank: Bank | None = None,
) -> Cost:
    """What an update takes; nothing is compiled."""
    example = first_example(source, bank)
    return update_cost(task, example, batch_size, strategy.devices)


def first_example(source: Source, bank: Bank | None = None) -> Examples:
    """A batch of the first image alone, for its shapes."""
    found = source[0]
    inputs, precomputed = found if isinstance(found, tuple) else (found, None)
    one = Examples(inputs, np.uint32(0), precomputed=precomputed)
    return jax.tree.map(lambda x: np.asarray(x)[None], one).replace(bank=bank)


def _whole_batches(
    source: Source, batch_size: int, seed: int, bank: Bank | None
) -> Iterator[Examples]:
    """The batches of training, undivided."""
    for group in Stream(source, batch_size, seed=seed).batches():
        yield jax.tree.map(lambda x: x[0], group).replace(bank=bank)


def finished_variables(task: Task, outcome: Outcome, source: Source) -> PyTree:
    """What the task's Detector needs, calibrated on the images."""
    variables, detector = task.variables(outcome.state), task.detector()
    if detector is None:
        return variables
    return jax.device_get(detector.calibrate(variables, images(source)))


def synthesizer_params(task: Task, state: TrainState) -> PyTree:
    """What the task's Synthesizer has learned: averaged, where there is an average."""
    averaged = state.averaged
    return task.params(state.replace(params=averaged))


def detection_scores(task: Task, source: Source, test: TestSet) -> Evaluate:
    """An evaluation of the task's Detector on real defects, for `train`.

    Raises:
      SettingError: the task has no Detector.
    """
    detector = task.detector()
    if detector is None:
        raise SettingError(f"{task.name} has no detector; leave eval_every out")

    def evaluate(state):
        variables = detector.calibrate(task.variables(state), images(source))
        shape = test.images.shape[1:3]
        parts = in_parts(test)
        with scored(detector, variables, parts, test.defects, shape) as found:
            return found.result().rows[0].measures

    return evaluate


def images(
    source: Source, batch_size: int = 32
) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
    """The normal images in their order, in batches; the last may be smaller."""
    for begin in range(0, len(source), batch_size):
        numbers = range(begin, min(begin + batch_size, len(source)))
        yield np.stack([_inputs(source[i]).image for i in numbers])


def _inputs(found: Any) -> Inputs:
    return found[0] if isinstance(found, tuple) else found
