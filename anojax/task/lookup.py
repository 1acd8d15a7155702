"""Which trainings a method has: the Tasks that its module defines or imports."""

import inspect
import sys

from anojax import registry
from anojax.errors import UnknownName, did_you_mean
from anojax.task.base import Task


def get(name: str, stage: str | None = None) -> type[Task]:
    """A Task class of a method: its only one, its first, or the one of a stage.

    Raises:
      UnknownName: there is no such method, nothing of it is trained, or not in such a
        stage.
    """
    own = stages(name)
    if not own:
        able = ", ".join(n for n in registry.names() if stages(n)) or "none"
        raise UnknownName(
            f"method '{name}' has nothing to train; methods that have: {able}"
        )
    if stage is None:
        return next(iter(own.values()))
    if stage not in own:
        raise UnknownName(
            f"{name} has no stage '{stage}'{did_you_mean(stage, own)}; it has "
            f"{', '.join(own)}"
        )
    return own[stage]


def stages(name: str) -> dict[str, type[Task]]:
    """The trainings of a method by their stage: those that its file defines, in their
    order, then those that it imports."""
    module = sys.modules[registry.get(name).__module__]
    found = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Task)
        and not inspect.isabstract(value)
        and not key.startswith("_")
    ]
    found.sort(key=lambda task: task.__module__ != module.__name__)
    return {task.stage: task for task in found}
