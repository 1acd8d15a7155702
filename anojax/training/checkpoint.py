"""Checkpoints: one unreplicated copy of the state, with everything needed to go on.

A checkpoint folder ``DIR/<step>`` holds the arrays under flat names
(``params/Conv_0/kernel``) and a record: method, step, position in the data, key, and
the shape of every array, so that a misfit is found and named before anything is
loaded. The names depend neither on devices nor on processes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as preserve

from anojax.errors import CheckpointError
from anojax.training.arrays import (
    Flat,
    Shapes,
    check_shapes,
    flatten,
    shapes_of,
    unflatten,
)
from anojax.training.parallel import wait_for_all
from anojax.types import PyTree

SYNTHESIZER = "synthesizer"
"""Beside the Detector's variables: the Synthesizer's parameters."""
FROZEN = "frozen"
"""Folder of a run, beside its checkpoints, with the networks that nothing changes."""


@dataclass(frozen=True)
class Record:
    """What a checkpoint says about itself."""

    method: str
    step: int
    position: int
    """Examples seen, of all processes together."""
    key: tuple[int, ...]
    """Raw data of the run's key."""
    shapes: Shapes
    """Name of every array -> shape and dtype."""
    config: dict[str, Any]
    """The resolved configuration of the run."""
    metrics: dict[str, float] | None = None
    """Of the evaluation at this step, if there was one."""
    stage: str = ""
    """Which training of the method; empty where a run is older than this field."""
    hashes: dict[str, str] | None = None
    """Name of every array -> sha256 of its bytes; ``None`` where a run is older than
    this field, or its arrays lie on several hosts."""
    own_hash: str = ""
    """Of everything else in this record."""


@dataclass(frozen=True)
class Keep:
    """Which checkpoints of a run stay."""

    last: int = 1
    """How many of the newest."""
    best: str | None = None
    """Name of an evaluated metric whose best checkpoint stays as well."""
    lowest: bool = False
    """The smallest value of `best` is the best."""


class Checkpoints:
    """Writes the checkpoints of one run, in the background.

    Args:
      folder: of the run's checkpoints; made when missing.
      keep: which of them stay.
    """

    def __init__(self, folder: Path, keep: Keep = Keep()):
        best = keep.best
        policies: list[preserve.PreservationPolicy] = [preserve.LatestN(keep.last)]
        if best is not None:
            policies.append(
                preserve.BestN(
                    get_metric_fn=lambda metrics: metrics[best],
                    reverse=keep.lowest,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self.best = best
        self.folder = Path(folder)
        self.manager = ocp.CheckpointManager(
            Path(folder).absolute(),
            item_names=("state", "record"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=preserve.AnyPreservationPolicy(policies),
                # Without it metrics are not written, and forgotten after a restart.
                best_fn=None if best is None else lambda metrics: metrics[best],
                best_mode="min" if keep.lowest else "max",
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, record: Record, state: PyTree) -> None:
        """Begin to write; returns when `state` may change again.

        Args:
          record: its step names the checkpoint; an existing one is left as it is.
          state: host arrays, the same in every process, or global arrays.
        """
        if record.step in self.manager.all_steps():
            return
        flat = {k: _as_array(x) for k, x in flatten(state).items()}
        record = replace(record, hashes=_hashes(flat), own_hash="")
        record = replace(record, own_hash=_record_hash(vars(record)))
        scored = record.metrics is not None and self.best in record.metrics
        with _writing(self.folder):
            self.manager.save(
                record.step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(flat),
                    record=ocp.args.JsonSave(vars(record)),
                ),
                metrics=record.metrics if scored else None,
                force=True,
            )

    def close(self) -> None:
        """Wait until everything is on disk.

        Raises:
          CheckpointError: it could not be written, as when the disk is full.
        """
        with _writing(self.folder):
            self.manager.wait_until_finished()
            self.manager.close()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """The system's refusals as one sentence, whatever type Orbax makes of them."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(
            f"a checkpoint in {folder} cannot be written ({reason}); make room or "
            "choose another --output (the same command goes on from the last whole one)"
        ) from error


def _hashes(flat: Flat) -> dict[str, str] | None:
    """sha256 of every array, where this process has them whole."""
    if not all(getattr(x, "is_fully_addressable", True) for x in flat.values()):
        return None
    return {name: _hash(x) for name, x in flat.items()}


def _hash(array: Any) -> str:
    # Views as bytes: half-precision types of JAX have no buffer of their own.
    values = np.ascontiguousarray(jax.device_get(array))
    return hashlib.sha256(values.reshape(-1).view(np.uint8)).hexdigest()


def _record_hash(values: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in values.items() if name != "own_hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def steps(folder: Path) -> list[int]:
    """The finished checkpoints in a folder, oldest first."""
    if not Path(folder).is_dir():
        return []
    return sorted(int(p.name) for p in Path(folder).iterdir() if _finished(p))


def read_record(folder: Path, step: int | None = None) -> Record:
    """The record of a checkpoint; of the newest when no step is given.

    Raises:
      CheckpointError: there is none, or only half-written ones.
    """
    path = _find(folder, step)
    values = _read_item(path, "record")
    if not isinstance(values, dict) or not isinstance(values.get("shapes"), dict):
        raise _damaged(path, "its record is none")
    if values.get("own_hash") and values["own_hash"] != _record_hash(values):
        raise _damaged(path, "its record is not what was written")
    shapes = {k: (tuple(s), d) for k, (s, d) in values["shapes"].items()}
    return Record(**values | {"shapes": shapes, "key": tuple(values["key"])})


def restore(
    folder: Path, template: PyTree, *, method: str, step: int | None = None
) -> tuple[PyTree, Record]:
    """Read a whole state.

    Args:
      folder: of checkpoints.
      template: a tree of what is expected; leaves with a `sharding` come back as
        arrays with it, others as host arrays.
      method: the checkpoint must be of this method.
      step: which one; the newest by default.

    Raises:
      CheckpointError: missing, half-written, of another method or of another shape.
    """
    record = read_record(folder, step)
    path = _find(folder, step)
    wanted = flatten(template)
    _check_fit(path, record, method, wanted)
    flat = _read_arrays(path, wanted, record.hashes)
    leaves = [flat[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(template), leaves), record


def restore_flat(
    folder: Path, *, method: str, step: int | None = None
) -> tuple[Flat, Record]:
    """Read all arrays of a checkpoint by name, without a template."""
    record, path = read_record(folder, step), _find(folder, step)
    _check_fit(path, record, method, None)
    wanted = {
        k: jax.ShapeDtypeStruct(s, np.dtype(d)) for k, (s, d) in record.shapes.items()
    }
    return _read_arrays(path, wanted, record.hashes), record


def save_variables(
    folder: Path,
    variables: PyTree,
    *,
    method: str,
    config: Mapping[str, Any],
    params: PyTree = None,
    step: int = 0,
) -> None:
    """Write what Detector and Synthesizer need after training; replaces the folder.

    Args:
      folder: for instance ``RUN/model``.
      variables: of the Detector, nested dictionaries of arrays; frozen networks are left
        out (`save_frozen`).
      method: whose they are.
      config: the resolved configuration of the run, to build the Detector again.
      params: of the Synthesizer, if it learns.
      step: how many updates it took.
    """
    if jax.process_index() == 0:
        shutil.rmtree(folder, ignore_errors=True)
    wait_for_all("the old model is gone")
    everything = {name: tree for name, tree in variables.items() if name != FROZEN}
    if params is not None:
        everything[SYNTHESIZER] = params
    record = Record(method, step, 0, (), shapes_of(everything), dict(config))
    writer = Checkpoints(folder)
    writer.save(record, everything)
    writer.close()


def save_frozen(
    folder: Path, frozen: PyTree, *, method: str, config: Mapping[str, Any]
) -> None:
    """Write the networks that nothing changes, once for a run; a finished copy stays.

    Args:
      folder: ``RUN/frozen``.
      frozen: `TrainState.frozen`, host arrays, or global arrays.
      method: whose they are.
      config: the resolved configuration of the run.
    """
    if not jax.tree.leaves(frozen) or steps(folder):
        return
    record = Record(method, 0, 0, (), shapes_of(frozen), dict(config))
    writer = Checkpoints(folder)
    writer.save(record, frozen)
    writer.close()


def load_variables(folder: Path, *, method: str | None = None) -> tuple[PyTree, Record]:
    """Read the Detector's part of what `save_variables` wrote, as nested dictionaries
    of host arrays; with the frozen networks of the run, which stand beside it."""
    method = read_record(folder).method if method is None else method
    flat, record = restore_flat(folder, method=method)
    kept = {k: x for k, x in flat.items() if not k.startswith(f"{SYNTHESIZER}/")}
    variables, beside = unflatten(kept), Path(folder).parent / FROZEN
    if beside.is_dir():
        variables[FROZEN] = unflatten(restore_flat(beside, method=method)[0])
    return variables, record


def load_params(folder: Path, *, method: str) -> tuple[Flat, Record]:
    """Read the Synthesizer's part of what `save_variables` wrote, by name.

    Raises:
      CheckpointError: missing, half-written, of another method, or without that part.
    """
    flat, record = restore_flat(folder, method=method)
    begin = f"{SYNTHESIZER}/"
    found = {k.removeprefix(begin): x for k, x in flat.items() if k.startswith(begin)}
    if not found:
        raise CheckpointError(
            f"{folder} holds no parameters of the synthesizer of '{method}'; give the "
            "run that trains it"
        )
    return found, record


def _finished(path: Path) -> bool:
    # Orbax writes this file last and renames the folder from a temporary name.
    return path.name.isdigit() and (path / "_CHECKPOINT_METADATA").exists()


def _find(folder: Path, step: int | None) -> Path:
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise CheckpointError(
            f"no checkpoint folder {folder}; give the folder of a training run"
        )
    have = steps(folder)
    if not have:
        begun = [p.name for p in folder.iterdir() if p.is_dir()]
        state = f"only the unfinished {begun[0]}" if begun else "no checkpoint"
        raise CheckpointError(
            f"{folder} holds {state}; train until the first one is saved"
        )
    if step is not None and step not in have:
        raise CheckpointError(
            f"{folder} has no finished step {step}; it has {', '.join(map(str, have))}"
        )
    return folder / str(have[-1] if step is None else step)


def _read_item(path: Path, item: str) -> dict[str, Any]:
    return _restore(path, **{item: ocp.args.JsonRestore()})[item]


def _read_arrays(path: Path, wanted: Flat, hashes: dict[str, str] | None) -> Flat:
    flat = _restore(
        path,
        state=ocp.args.StandardRestore({k: _target(x) for k, x in wanted.items()}),
    )["state"]
    for name, array in flat.items():
        whole = getattr(array, "is_fully_addressable", True)
        if hashes is not None and whole and hashes.get(name) != _hash(array):
            raise _damaged(path, f"{name} is not what was written")
    return flat


def _restore(path: Path, **args) -> Any:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        try:
            return reader.restore(path, args=ocp.args.Composite(**args))
        except Exception as error:
            # Damage comes as nearly every type of exception, depending on its place.
            reason = str(error).strip().splitlines()[0][:100] if str(error) else ""
            raise _damaged(path, f"{type(error).__name__}: {reason}") from error


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {path} cannot be read, it is probably half-written or damaged; "
        f"use another step ({reason})"
    )


def _check_fit(path: Path, record: Record, method: str, wanted: Flat | None) -> None:
    if record.method != method:
        raise CheckpointError(
            f"checkpoint {path} is of method '{record.method}', not '{method}'; "
            "give a checkpoint of the same method"
        )
    if wanted is not None:
        ours = {k: (tuple(x.shape), str(x.dtype)) for k, x in wanted.items()}
        check_shapes(path, record.shapes, ours)


def _as_array(x: Any) -> Any:
    return x if isinstance(x, jax.Array) else np.asarray(x)


def _target(x: Any) -> Any:
    if getattr(x, "sharding", None) is not None:
        return x
    # No memory: only type, shape and dtype are looked at.
    return np.broadcast_to(np.zeros((), x.dtype), x.shape)
