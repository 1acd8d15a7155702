"""Networks of another run as the beginning of this one (`init_from`)."""

from pathlib import Path

import jax
import numpy as np

from anojax.errors import CheckpointError
from anojax.task import Task, TrainState
from anojax.training import checkpoint
from anojax.training.arrays import Flat, check_shapes, flatten, shapes_of
from anojax.training.checkpoint import FROZEN, Record


def with_networks(
    state: TrainState, folder: Path, task: Task
) -> tuple[TrainState, Record]:
    """The state with another run's networks; optimizers, step and contexts stay new.

    From a run of the same stage comes everything: averaged parameters where there are
    any, else the last ones, statistics and frozen networks. From another stage of the
    method comes what `Task.inherits` names.

    Args:
      state: as `init` made it, host arrays.
      folder: of the other run's checkpoints; the newest is read.
      task: what is to be trained.

    Raises:
      CheckpointError: there is no checkpoint, or it is of another method, of a stage
        that is no beginning, or of other shapes.
    """
    flat, record = checkpoint.restore_flat(folder, method=task.name)
    if (beside := Path(folder).parent / FROZEN).is_dir():
        frozen, _ = checkpoint.restore_flat(beside, method=task.name)
        flat |= {f"{FROZEN}/{name}": array for name, array in frozen.items()}
    if record.stage in ("", task.stage):
        found = _all(state, flat, folder)
    else:
        found = _inherited(state, flat, task, record, folder)
    return _averaged_anew(_filled(state, found), found), record


def _all(state: TrainState, flat: Flat, folder: Path) -> Flat:
    """All networks, by their names in `state`."""
    given = {}
    for name, array in flat.items():
        group, _, rest = name.partition("/")
        # The average, where there is one, takes the place of the last value.
        if group == "params" and f"ema/{rest}" in flat:
            continue
        if group in ("params", "ema", "statistics", FROZEN):
            given[name] = array
    names = {_own(name): name for name in given}
    ours = flatten(state.replace(opt_state=(), ema=None, context={}, step=()))
    wanted = {names.get(name, name): leaf for name, leaf in ours.items()}
    check_shapes(folder, shapes_of(given), shapes_of(wanted))
    return {own: given[name] for own, name in names.items()}


def _own(name: str) -> str:
    group, _, rest = name.partition("/")
    return f"params/{rest}" if group == "ema" else name


def _inherited(
    state: TrainState, flat: Flat, task: Task, record: Record, folder: Path
) -> Flat:
    """What the task takes from another stage, by names in `state`."""
    if not (mapping := task.inherits(record.stage)):
        raise CheckpointError(
            f"{folder} is of {task.name}, stage {record.stage}, which is no beginning "
            f"for the stage {task.stage}; give init_from a run of that stage"
        )
    ours, found = flatten(state), {}
    for here, there in mapping.items():
        pairs = {n: there + n[len(here) :] for n in ours if _under(n, here)}
        taken = {name: flat[other] for name, other in pairs.items() if other in flat}
        if not taken:
            raise CheckpointError(
                f"{folder} has no {there}, with which {here} of {task.name}, stage "
                f"{task.stage}, begins; was it trained with other settings?"
            )
        wanted = {pairs[name]: ours[name] for name in taken}
        stored = {pairs[name]: array for name, array in taken.items()}
        check_shapes(folder, shapes_of(stored), shapes_of(wanted))
        found |= taken
    return found


def _under(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")


def _filled(state: TrainState, found: Flat) -> TrainState:
    leaves = [found.get(name, leaf) for name, leaf in flatten(state).items()]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def _averaged_anew(state: TrainState, found: Flat) -> TrainState:
    """Averages begin as the parameters do, unless they were found themselves."""
    if state.ema is None:
        return state
    now = flatten(state)
    # A copy: two leaves of a donated state must not share memory.
    begun = {
        name: np.copy(now[f"params/{name.removeprefix('ema/')}"])
        for name in now
        if name.startswith("ema/") and name not in found
    }
    return _filled(state, begun)
