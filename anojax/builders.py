"""From settings to objects: a Synthesizer by its name, a Task with its configuration.

Values come from YAML, from the command line or from Python; what is lost by none of
them is brought to the field's type here, once.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from anojax import registry
from anojax.config import fit, from_dict
from anojax.core import Synthesizer, with_settings
from anojax.errors import SettingError, UnknownName, did_you_mean
from anojax.fields import field_types
from anojax.task import Task

_ELSEWHERE = {"synth": "settings", "steps": "length"}


def make_synthesizer(name: str, settings: Mapping[str, Any]) -> Synthesizer:
    """A method by its name, with some of its settings changed.

    Raises:
      UnknownName: no such method or setting (with the nearest match).
      SettingError: a value that does not fit.

    >>> make_synthesizer("cutpaste", {"jitter": 0}).jitter
    0.0
    """
    method = registry.get(name)
    kinds = field_types(method)
    chosen = {k: fit(v, kinds.get(k)) for k, v in settings.items()}
    return with_settings(method(), **chosen)


def make_task(
    task_class: type[Task], synth: Synthesizer, steps: int, values: Mapping[str, Any]
) -> Task:
    """A task with the values of a configuration's ``task:``, nested ones included.

    Args:
      task_class: what to train.
      synth: makes its anomalies.
      steps: updates in all.
      values: by field; what is absent keeps the task's own default.

    Raises:
      UnknownName: a key that the task lacks.
      SettingError: a value that does not fit, or a key that is set elsewhere.
    """
    kinds, made = field_types(task_class), {}
    defaults = {f.name: f.default for f in dataclasses.fields(task_class)}
    for name, value in values.items():
        if name in _ELSEWHERE:
            raise SettingError(
                f"task.{name} is set by '{_ELSEWHERE[name]}' of the configuration"
            )
        if name not in kinds:
            hint = did_you_mean(name, kinds, "task")
            raise UnknownName(f"unknown key 'task.{name}'{hint}")
        if dataclasses.is_dataclass(kinds[name]):
            made[name] = _changed(defaults[name], value, f"task.{name}")
        else:
            made[name] = fit(value, kinds[name])
    return task_class(synth=synth, steps=steps, **made)


def _changed(base: Any, values: Any, where: str) -> Any:
    """A dataclass with some values changed; the others stay the task's, not the class's."""
    if not isinstance(values, Mapping):
        raise SettingError(f"{where} is {values!r}; expected key: value")
    kinds = field_types(type(base))
    given = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(kinds.get(key)):
            inner = _changed(getattr(base, key), value, f"{where}.{key}")
            given[key] = dataclasses.asdict(inner)
        else:
            given[key] = fit(value, kinds.get(key))
    return from_dict(type(base), {**dataclasses.asdict(base), **given}, where=where)
