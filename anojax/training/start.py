"""Where a run begins: its own checkpoint, another's, another's networks, or anew."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anojax.errors import SettingError, did_you_mean
from anojax.task import Examples, Task, TrainState
from anojax.training import checkpoint
from anojax.training.parallel import Strategy
from anojax.types import PyTree


@dataclass(frozen=True)
class Start:
    """Where a run begins, decided by `starting_point`."""

    state: TrainState
    """Placed on the devices."""
    step: int
    position: int
    key: Any
    how: str
    """In words, for the reader."""


def starting_point(
    task: Task,
    strategy: Strategy,
    example: Examples,
    *,
    seed: int,
    folder: Path | None = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    parts: PyTree | None = None,
    batches: Callable[[], Iterator[Examples]] | None = None,
) -> Start:
    """Find the state to begin with. The first that applies wins:

    1. the run's own `folder` has a checkpoint: the same run goes on;
    2. `resume`: another run's checkpoint goes on here, with its step, data position,
       optimizer and key;
    3. `init_from`: parameters and statistics of another run, everything else anew;
    4. from scratch.

    In the last two cases `parts` come into the state, and the task may look at
    examples (`Task.begin`) before the first step.

    Args:
      task: what is trained.
      strategy: where the state goes.
      example: a batch of this process; only shapes matter.
      seed: of the run, in [0, 2**32).
      folder: of this run's checkpoints.
      resume: of another run's checkpoints.
      init_from: of another run's checkpoints.
      parts: variables of `Task.parts`, by name; ``None`` for those that `init` made.
      batches: makes a stream of whole batches, for tasks that look at examples first.

    Raises:
      AnojaxError: a part is missing, not known, or of another shape; or a checkpoint
        cannot be used.
    """
    key = run_key(seed)
    own = folder is not None and bool(checkpoint.steps(folder))
    source = folder if own else resume
    if source is not None:
        state, record = _read(task, strategy, example, source)
        how = f"{'continue this run' if own else f'resume {source}'} at {record.step}"
        key = jax.random.wrap_key_data(np.array(record.key, np.uint32))
        return Start(state, record.step, record.position, key, how)
    _check_parts(task, parts or {}, complete=init_from is None)
    state = strategy.init(task, key, example)
    how = f"begin from scratch with seed {seed}"
    looks = type(task).begin is not Task.begin
    if init_from is None and not task.parts() and not looks:
        return Start(state, 0, 0, key, how)
    state = strategy.fetch(state)
    if init_from is not None:
        state, step = _with_networks(state, init_from, task)
        how = f"begin with the networks of {init_from}, step {step}"
    state = _with_parts(state, parts or {})
    if looks:
        state = task.begin(state, key, batches())
    return Start(strategy.place_state(state), 0, 0, key, how)


def _with_networks(
    state: TrainState, folder: Path, task: Task
) -> tuple[TrainState, int]:
    """The state with another run's networks, and the step that they are of."""
    params, statistics, record = checkpoint.restore_networks(
        folder, state.params, state.statistics, method=task.name
    )
    # A copy: two leaves of a donated state must not share memory.
    ema = None if state.ema is None else jax.tree.map(np.copy, params)
    return state.replace(params=params, statistics=statistics, ema=ema), record.step


def _check_parts(task: Task, parts: PyTree, *, complete: bool) -> None:
    known = task.parts()
    for name in parts:
        if name not in known:
            raise SettingError(
                f"{task.name} takes no part '{name}'"
                f"{did_you_mean(name, known) or '; leave parts out'}"
            )
    if missing := [name for name in known if complete and name not in parts]:
        raise SettingError(
            f"{task.name}, stage {task.stage}, needs its part '{missing[0]}' "
            f"({known[missing[0]].source}); give its variables, or None for random ones"
        )


def _with_parts(state: TrainState, parts: PyTree) -> TrainState:
    """The state with networks from elsewhere among its statistics."""
    taken = {
        name: checkpoint.arrange(
            checkpoint.flatten(variables), state.statistics[name], path=f"parts.{name}"
        )
        for name, variables in parts.items()
        if variables is not None
    }
    return state.replace(statistics={**state.statistics, **taken})


def run_key(seed: int) -> jax.Array:
    """The key of a training run, whose images are those of `anojax synth`.

    Raises:
      SettingError: a seed outside its range.
    """
    if not 0 <= seed < 2**32:
        raise SettingError(f"seed is {seed}; give an integer from 0 to 2**32 - 1")
    return jax.random.key(np.uint32(seed))


def _read(task, strategy, example, folder):
    shape = jax.eval_shape(task.init, run_key(0), example)
    template = strategy.template(shape)
    host, record = checkpoint.restore(folder, template, method=task.name)
    return strategy.place_state(host), record
