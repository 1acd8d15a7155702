"""Networks that a training run starts with: pretrained backbones, and what another
training run of the same method learned."""

from dataclasses import dataclass
from pathlib import Path

from anojax import task as tasks
from anojax.errors import CheckpointError, DataError, SettingError
from anojax.task import Component, Task
from anojax.training.checkpoint import load_params, unflatten
from anojax.training.trained import load_run
from anojax.types import PyTree
from anojax.weights.load import pretrained

PRETRAINED, RANDOM = "pretrained", "random"


@dataclass(frozen=True, eq=False)
class Given:
    """A component as it was found."""

    variables: PyTree | None
    """Nested dictionaries of arrays; ``None``: the task's own random ones."""
    origin: str
    """Where they come from, in words."""


def read_components(task: Task, requested: dict[str, str]) -> dict[str, Given]:
    """Read what the configuration names for the components of a task.

    Args:
      task: says which components it takes.
      requested: by name: for a backbone ``pretrained`` (the default: the published file in
        the weights folder), ``random``, or a file; for a run its folder.

    Raises:
      SettingError: a component is named that the task does not take, or one is missing.
      DataError: a weights file is missing, damaged or of another network.
      CheckpointError: a run is of another method or stage, or learned nothing of use.
    """
    known = task.components()
    for name in requested:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "leave components out"
            raise SettingError(
                f"components.{name} is no component of {task.name}, stage {task.stage}; "
                f"{takes}"
            )
    return {name: _read(task, name, one, requested) for name, one in known.items()}


def _read(task: Task, name: str, one: Component, requested: dict[str, str]) -> Given:
    if one.kind == "backbone":
        return backbone(name, one.source, requested.get(name, PRETRAINED))
    if name not in requested:
        raise SettingError(
            f"{task.name}, stage {task.stage}, starts with what the stage "
            f"{one.source} learned; train that first, then add components.{name}=RUN"
        )
    return _run(task, one.source, requested[name])


def backbone(name: str, network: str, where: str) -> Given:
    """A network with weights from elsewhere.

    Args:
      name: of the component, for messages.
      network: a key of the weights' catalog.
      where: ``pretrained``, ``random``, or a file.

    Raises:
      DataError: the file is missing, damaged or of another network.
    """
    if where == RANDOM:
        return Given(None, f"{network} with random weights, not pretrained")
    try:
        found = pretrained(network, path=None if where == PRETRAINED else where)
    except DataError as error:
        raise DataError(
            f"{error}; or do with random features: components.{name}={RANDOM}"
        ) from error
    return Given(found.variables, found.origin)


def _run(task: Task, stage: str, where: str) -> Given:
    run = load_run(Path(where))
    found = tasks.get(run.config.method, run.config.stage)
    if (run.config.method, found.stage) != (task.name, stage):
        raise CheckpointError(
            f"{run.folder} is a run of {run.config.method}, stage {found.stage}, not "
            f"of {task.name}, stage {stage}"
        )
    flat, record = load_params(run.model, method=task.name)
    return Given(unflatten(flat), f"of {run.folder}, step {record.step}")
