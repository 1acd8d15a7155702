"""The training loop: what happens, in the order in which it happens.

The loop knows a Task, a stream of examples and a strategy over devices; it decides
when to log, to evaluate, to save, to sample and to stop, and never looks inside the state.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anojax.data.stream import Stream
from anojax.errors import AnojaxError, SettingError
from anojax.fields import check_fields, hp
from anojax.task import Task, TrainState
from anojax.training import checkpoint
from anojax.training.checkpoint import Checkpoints, Record
from anojax.training.contexts import Contexts
from anojax.training.flops import Cost
from anojax.training.metrics_log import MetricsLog
from anojax.training.parallel import Strategy, any_process, gathered
from anojax.training.start import Start
from anojax.types import Bank

Evaluate = Callable[[TrainState], dict[str, float]]
Sample = Callable[[TrainState], None]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Timetable:
    """When things happen, in steps (updates).

    >>> Timetable(steps=100, log_every=10).save_every
    1000
    """

    steps: int = hp(1000, "length of the whole run", low=1)
    log_every: int = hp(50, "interval between two lines of the log", low=1)
    save_every: int = hp(1000, "interval between two checkpoints", low=1)
    eval_every: int | None = hp(None, "interval between two evaluations", low=1)
    sample_every: int | None = hp(None, "interval between two sheets of samples", low=1)
    steps_per_call: int = hp(1, "updates in one compiled call", low=1)
    profile: tuple[int, int] | None = hp(None, "first and last step traced", low=0)

    def __post_init__(self):
        check_fields("timetable", self)
        for name in ("steps", "log_every", "save_every", "eval_every", "sample_every"):
            value = getattr(self, name)
            if value is not None and value % self.steps_per_call:
                raise SettingError(
                    f"{name} is {value}, no multiple of steps_per_call, "
                    f"{self.steps_per_call}; change one of them"
                )


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    state: TrainState
    """Host arrays."""
    step: int
    stopped_by: int | None
    """The signal that ended the run early; ``None`` when it is complete."""
    metrics: dict[str, float]
    """Of the last line of the log."""


def _silent(text: str) -> None:
    del text


@dataclass(frozen=True)
class Watch:
    """Who looks on while a run is under way; nobody changes what is learned."""

    evaluate: Evaluate | None = None
    """Called with the state as host arrays, every `eval_every` steps and at the end; its
    numbers are logged as ``eval/<name>``."""
    sample: Sample | None = None
    """Called in process 0 alone with the state as host arrays, without that of the
    optimizer, every `sample_every` steps and at the end."""
    note: Note = _silent
    """Told what is about to happen."""
    progress: bool = False
    """Draw a bar."""
    tensorboard: bool = False
    """Write event files too."""


def fit(
    task: Task,
    stream: Stream,
    strategy: Strategy,
    timetable: Timetable,
    start: Start,
    *,
    bank: Bank | None = None,
    log: MetricsLog | None = None,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
    cost: Cost | None = None,
    config: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Train until the timetable is done or a signal comes.

    Args:
      task: its `steps` must be those of the timetable.
      stream: of this process.
      strategy: over devices; the same that placed `start`.
      timetable: when to log, save and evaluate.
      start: from `starting_point`.
      bank: what examples draw from, for methods that need it.
      log: only process 0 has one.
      checkpoints: every process has them, or none; the caller closes them.
      watch: who looks on.
      cost: of one update, to log how busy the devices are.
      config: the resolved configuration, to be kept in checkpoints.
      folder: for the profile.

    Raises:
      AnojaxError: a metric is not finite (with its name and step).
    """
    watch = Watch() if watch is None else watch
    _check(task, stream, strategy, timetable, folder)
    run = _Run(task, strategy, timetable, stream.batch_size, start, log, watch)
    run.saver, run.config, run.cost = checkpoints, config or {}, cost
    step_fn = strategy.compile(task)
    key, bank = strategy.place_whole((start.key, bank))
    contexts = Contexts(task, stream, strategy, timetable.steps_per_call, key, bank)
    batches = stream.batches(start.position, timetable.steps_per_call)
    profiler = _Profiler(timetable.profile, folder)
    watch.note(f"compile the step and train to step {timetable.steps}")
    with _signals() as caught, _bar(timetable.steps, watch.progress) as advance:
        while run.step < timetable.steps and not run.must_stop(caught):
            profiler.at(run.step)
            if names := contexts.due(run.step):
                run.state = run.aside(contexts.measured, run.state, names)
            batch = strategy.place_batch(next(batches))
            run.state, metrics = step_fn(run.state, key, bank, batch)
            run.advance(metrics)
            advance(run.step)
        profiler.at(-1)
    return run.finish(caught)


class _Run:
    """The changing part of a run: step, log window, what is due."""

    def __init__(self, task, strategy, timetable, batch_size, start, log, watch):
        self.task, self.strategy, self.timetable = task, strategy, timetable
        self.batch_size, self.log, self.watch = batch_size, log, watch
        self.state, self.step, self.key = start.state, start.step, start.key
        self.position = start.position
        self.window: list[dict[str, np.ndarray]] = []
        self.pending: tuple[int, Any] | None = None
        self.last: dict[str, float] = {}
        self.clock: float | None = None  # None until the first call has compiled
        self.timed = 0
        self.frozen: Any = None  # host copy, made when it is first looked at

    def advance(self, metrics) -> None:
        """Account for one call; then log, evaluate, save and sample if it is time."""
        k = self.timetable.steps_per_call
        previous, self.pending = self.pending, (self.step, metrics)
        self.step += k
        self.position += k * self.batch_size
        self.timed += k
        # One call late, so that the device already works on the next one.
        self.collect(previous)
        if self.clock is None:
            jax.block_until_ready(metrics)
            self.clock, self.timed = time.perf_counter(), 0
        every = ("log_every", "eval_every", "save_every", "sample_every")
        due = {name: self.due(name) for name in every}
        if not any(due.values()):
            return
        self.drain()
        if due["log_every"]:
            self.write_log()
        began = time.perf_counter()
        scores = self.score() if due["eval_every"] else None
        if due["save_every"] or scores is not None:
            self.save(scores)
        if due["sample_every"]:
            self.draw_sheet()
        self.clock += time.perf_counter() - began

    def due(self, what: str) -> bool:
        every, last = getattr(self.timetable, what), self.step >= self.timetable.steps
        watch = self.watch
        needed = {"eval_every": watch.evaluate, "sample_every": watch.sample}
        if needed.get(what, self) is None:
            return False
        return last or (every is not None and self.step % every == 0)

    def collect(self, call) -> None:
        if call is None:
            return
        first, metrics = call
        values = self.strategy.fetch_metrics(metrics)
        for offset in range(self.timetable.steps_per_call):
            for name, value in values.items():
                if not np.isfinite(value[offset]):
                    raise AnojaxError(
                        f"{name} is {float(value[offset])} at step "
                        f"{first + offset + 1}; try a lower learning rate, or "
                        "float32; the last checkpoint is from before"
                    )
        self.window.append(values)

    def drain(self) -> None:
        self.collect(self.pending)
        self.pending = None

    def write_log(self) -> None:
        if not self.window:
            return
        names = self.window[0]
        row = {
            n: float(np.mean(np.concatenate([w[n] for w in self.window])))
            for n in names
        }
        self.window = []
        now = time.perf_counter()
        if self.timed:  # the call that compiles is not timed
            per_s = self.timed / (now - self.clock)
            row["samples_per_s"] = per_s * self.batch_size
            row |= {} if self.cost is None else self.cost.rates(per_s)
        self.clock, self.timed = now, 0
        self.last = row
        if self.log is not None:
            self.log.write(self.step, row)

    def score(self) -> dict[str, float]:
        self.watch.note(f"evaluate at step {self.step}")
        scores = self.watch.evaluate(self.fetched(self.state))
        scores = {name: float(value) for name, value in scores.items()}
        best = None if self.saver is None else self.saver.best
        if best is not None and best not in scores:
            raise SettingError(
                f"keep_best is '{best}'; the evaluation gives {', '.join(scores)}"
            )
        named = {f"eval/{name}": value for name, value in scores.items()}
        self.last |= named
        if self.log is not None:
            self.log.write(self.step, named)
        return {n: v for n, v in scores.items() if math.isfinite(v)}

    def save(self, scores: dict[str, float] | None) -> None:
        if self.saver is None:
            return
        # What nothing changes stands beside the checkpoints, once for the run.
        state = self.strategy.fetch(self.state.replace(frozen={}))
        data = np.asarray(jax.random.key_data(self.key)).tolist()
        record = Record(
            method=self.task.name,
            step=self.step,
            position=self.position,
            key=tuple(data),
            shapes=checkpoint.shapes_of(state),
            config=self.config,
            metrics=scores,
            stage=self.task.stage,
        )
        self.saver.save(record, state)

    def draw_sheet(self) -> None:
        self.watch.note(f"sample at step {self.step}")
        # Every process helps to fetch; the others wait for the first in the next step.
        state = gathered(self.fetched(self.state.replace(opt_state=())))
        if jax.process_index() == 0:
            self.watch.sample(state)

    def fetched(self, state: TrainState) -> TrainState:
        """Host arrays; those that nothing changes are fetched once."""
        if self.frozen is None:
            self.frozen = self.strategy.fetch(state.frozen)
        host = self.strategy.fetch(state.replace(frozen={}))
        return host.replace(frozen=self.frozen)

    def aside(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do what belongs to no update; the clock stands still meanwhile."""
        began = time.perf_counter()
        done = work(*args)
        if self.clock is not None:
            jax.block_until_ready(done)
            self.clock += time.perf_counter() - began
        return done

    def must_stop(self, caught: list[int]) -> bool:
        # Hosts must agree; they meet when all of them log.
        if jax.process_count() > 1 and self.step % self.timetable.log_every:
            return False
        return any_process(bool(caught))

    def finish(self, caught: list[int]) -> Outcome:
        self.drain()
        self.write_log()
        complete = self.step >= self.timetable.steps
        self.save(None)  # does nothing where this step is saved already
        stopped_by = None if complete else (caught or [signal.SIGTERM])[0]
        state = self.fetched(self.state)
        return Outcome(state, self.step, stopped_by, self.last)


def _check(task, stream, strategy, timetable, folder) -> None:
    strategy.check_batch(stream.batch_size)
    if task.steps != timetable.steps:
        raise SettingError(
            f"the task expects {task.steps} steps, the timetable has {timetable.steps}; "
            "make them equal"
        )
    if timetable.profile is not None and folder is None:
        raise SettingError("profile needs a run folder to write to")


class _Profiler:
    """Traces the steps of a window."""

    def __init__(self, window: tuple[int, int] | None, folder: Path | None):
        self.window, self.folder, self.running = window, folder, False

    def at(self, step: int) -> None:
        """Start or stop before `step` (0 is the first)."""
        if self.window is None:
            return
        inside = self.window[0] <= step <= self.window[1]
        if inside and not self.running:
            jax.profiler.start_trace(str(self.folder / "profile"))
        if self.running and not inside:
            jax.profiler.stop_trace()
        self.running = inside


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C; a second Ctrl-C interrupts at once."""
    caught: list[int] = []

    def handle(number, frame):
        del frame
        if number in caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield caught
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    if not shown:
        yield lambda step: None
        return
    from rich.progress import MofNCompleteColumn, Progress

    from anojax.progress import Remaining

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with Progress(*columns, Remaining()) as bar:
        task = bar.add_task("train", total=total)
        yield lambda step: bar.update(task, completed=step)
