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
from anojax.training.arrays import arrange, flatten
from anojax.training.checkpoint import FROZEN
from anojax.training.parallel import Strategy
from anojax.training.warm_start import with_networks
from anojax.types import PyTree

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, within its own."""


@dataclass(frozen=True)
class Beginning:
    """What a new run begins with, if not with random networks."""

    resume: Path | None = None
    """Run folder whose checkpoint goes on here."""
    init_from: Path | None = None
    """Run folder whose networks are the beginning."""
    components: PyTree | None = None
    """Variables of `Task.components`, by name; ``None`` for random ones."""


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
    beginning: Beginning | None = None,
    batches: Callable[[], Iterator[Examples]] | None = None,
) -> Start:
    """Find the state to begin with. The first that applies wins:

    1. the run's own `folder` has a checkpoint: the same run goes on;
    2. `resume`: another run's checkpoint goes on here, with its step, data position,
       optimizer and key;
    3. `init_from`: networks of another run, everything else anew;
    4. from scratch.

    In the last two cases `components` come into the state, and the task may look at
    examples (`Task.begin`) before the first step.

    Args:
      task: what is trained.
      strategy: where the state goes.
      example: a batch of this process; only shapes matter.
      seed: of the run, in [0, 2**32).
      folder: of this run's checkpoints.
      beginning: other runs and components to begin with.
      batches: makes a stream of whole batches, for tasks that look at examples first.

    Raises:
      AnojaxError: a component is missing, not known, or of another shape; or a
        checkpoint cannot be used.
    """
    given = Beginning() if beginning is None else beginning
    resume, init_from = (
        None if run is None else Path(run) / CHECKPOINTS
        for run in (given.resume, given.init_from)
    )
    components, key = given.components or {}, run_key(seed)
    own = folder is not None and bool(checkpoint.steps(folder))
    source = folder if own else resume
    if source is not None:
        state, record = _read(task, strategy, example, source)
        how = f"{'continue this run' if own else f'resume {source}'} at {record.step}"
        key = jax.random.wrap_key_data(np.array(record.key, np.uint32))
        return Start(state, record.step, record.position, key, how)
    _check_components(task, components, complete=init_from is None)
    state = strategy.init(task, key, example)
    how = f"begin from scratch with seed {seed}"
    looks = type(task).begin is not Task.begin
    if init_from is None and not task.components() and not looks:
        return Start(state, 0, 0, key, how)
    state = strategy.fetch(state)
    if init_from is not None:
        state, record = with_networks(state, init_from, task)
        how = f"begin with the networks of {init_from}, step {record.step}"
    state = _with_components(state, components)
    if looks:
        state = task.begin(state, key, batches())
    return Start(strategy.place_state(state), 0, 0, key, how)


def _check_components(task: Task, given: PyTree, *, complete: bool) -> None:
    known = task.components()
    for name in given:
        if name not in known:
            raise SettingError(
                f"{task.name} takes no component '{name}'"
                f"{did_you_mean(name, known) or '; leave components out'}"
            )
    if missing := [name for name in known if complete and name not in given]:
        raise SettingError(
            f"{task.name}, stage {task.stage}, needs its component '{missing[0]}' "
            f"({known[missing[0]].source}); give its variables, or None for random ones"
        )


def _with_components(state: TrainState, given: PyTree) -> TrainState:
    """The state with networks from elsewhere among its frozen ones."""
    taken = {
        name: arrange(flatten(variables), state.frozen[name], path=f"components.{name}")
        for name, variables in given.items()
        if variables is not None
    }
    return state.replace(frozen={**state.frozen, **taken})


def run_key(seed: int) -> jax.Array:
    """The key of a training run, whose images are those of `anojax synth`.

    Raises:
      SettingError: a seed outside its range.
    """
    if not 0 <= seed < 2**32:
        raise SettingError(f"seed is {seed}; give an integer from 0 to 2**32 - 1")
    return jax.random.key(np.uint32(seed))


def _read(task, strategy, example, folder):
    shapes = jax.eval_shape(task.init, run_key(0), example)
    template = strategy.template(shapes)
    host, record = checkpoint.restore(
        folder, template.replace(frozen={}), method=task.name
    )
    if jax.tree.leaves(shapes.frozen):
        frozen, _ = checkpoint.restore(
            Path(folder).parent / FROZEN, template.frozen, method=task.name
        )
        host = host.replace(frozen=frozen)
    return strategy.place_state(host), record
