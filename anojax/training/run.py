"""A whole training run in one call: what `anojax train` and notebooks use."""

from collections.abc import Callable, Iterator
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
from anojax.training.checkpoint import Checkpoints, save_variables
from anojax.training.flops import Cost, update_cost
from anojax.training.loop import Evaluate, Outcome, Sample, Schedule, fit
from anojax.training.metrics_log import MetricsLog
from anojax.training.parallel import Pmap, Strategy
from anojax.training.start import starting_point
from anojax.types import Bank, Inputs, PyTree

CHECKPOINTS, MODEL = "checkpoints", "model"


def train(
    task: Task,
    source: Source,
    *,
    batch_size: int,
    seed: int = 0,
    schedule: Schedule | None = None,
    strategy: Strategy | None = None,
    folder: Path | None = None,
    bank: Bank | None = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    parts: PyTree | None = None,
    keep_last: int = 1,
    keep_best: str | None = None,
    lowest: bool = False,
    evaluate: Evaluate | None = None,
    sample: Sample | None = None,
    tensorboard: bool = False,
    config: dict[str, Any] | None = None,
    progress: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train a task on normal images.

    Args:
      task: what to train; `task.steps` updates unless `schedule` says otherwise.
      source: the normal images; see `anojax.data.stream.InMemory`.
      batch_size: of all devices and processes together.
      seed: of images, networks and order, in [0, 2**32).
      schedule: when to log, evaluate, save and sample.
      strategy: over devices; `Pmap()` by default.
      folder: of the run: log, checkpoints and the finished model. A run that is there
        already goes on. Nothing is written when absent.
      bank: where methods that need a texture or another image draw it from.
      resume: run folder whose checkpoint goes on here.
      init_from: run folder whose networks are the beginning.
      parts: variables of networks that come trained from elsewhere (`Task.parts`);
        ``None`` for random ones.
      keep_last: how many of the newest checkpoints are kept.
      keep_best: name of an evaluated metric; its best checkpoint is kept too.
      lowest: the smallest value of `keep_best` is the best.
      evaluate: state as host arrays -> named numbers.
      sample: looks at a state (host arrays, without that of the optimizer), for
        instance at what it paints (`synthesizer_params`); in process 0 alone.
      tensorboard: write event files too.
      config: resolved configuration, kept in checkpoints and model.
      progress: draw a progress bar.
      note: told what is about to happen.

    Raises:
      AnojaxError: a setting that does not fit, a checkpoint that cannot be used, or a
        metric that is not finite.
    """
    strategy = Pmap() if strategy is None else strategy
    schedule = Schedule(steps=task.steps) if schedule is None else schedule
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
        resume=None if resume is None else Path(resume) / CHECKPOINTS,
        init_from=None if init_from is None else Path(init_from) / CHECKPOINTS,
        parts=parts,
        batches=lambda: _whole_batches(source, batch_size, seed, bank),
    )
    note(start.how)
    cost = one_update(task, source, batch_size, strategy, bank) if first else None
    note(f"one update: {cost}")
    log = checkpoints = None
    if folder is not None:
        if first:
            log = MetricsLog(folder, step=start.step, tensorboard=tensorboard)
        checkpoints = Checkpoints(
            Path(folder) / CHECKPOINTS,
            keep_last=keep_last,
            best=keep_best,
            lowest=lowest,
        )
    try:
        outcome = fit(
            task,
            stream,
            strategy,
            schedule,
            start,
            bank=bank,
            log=log,
            checkpoints=checkpoints,
            evaluate=evaluate,
            sample=sample,
            cost=cost,
            config=config,
            folder=None if folder is None else Path(folder),
            progress=progress and first,
            note=note,
        )
    finally:  # what was saved must be whole, also when a metric is not finite
        for open_file in (log, checkpoints):
            if open_file is not None:
                open_file.close()
    if folder is not None and outcome.stopped_by is None:
        note("fit the detector to the normal images and write the model")
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
    inputs, ready = found if isinstance(found, tuple) else (found, None)
    one = Examples(inputs, np.uint32(0), ready=ready)
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
