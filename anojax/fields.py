"""Fields of frozen dataclasses that know their meaning, their type and their range.

Settings of methods, tasks and configurations are such fields: help texts, range checks
and the catalog are derived from them.
"""

import dataclasses
import types
import typing
from collections.abc import Iterable
from functools import cache
from typing import Any, get_args, get_origin

from anojax.errors import SettingError, UnknownName, did_you_mean


def hp(
    default: Any,
    help: str,
    *,
    low: int | float | None = None,
    high: int | float | None = None,
    choices: tuple | None = None,
) -> Any:
    """A hyper-parameter: a dataclass field with its meaning and its range.

    Command-line help, range checks and the catalog are derived from this.

    Args:
      default: its value where none is given.
      help: what it means, a noun phrase with its unit.
      low: smallest value, inclusive; of every element of a tuple.
      high: largest value, inclusive.
      choices: the values there are.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Blur:
    ...     radius_px: int = hp(3, "radius in px", low=1)
    ...     def __post_init__(self):
    ...         check_fields("blur", self)
    >>> Blur(radius_px=0)
    Traceback (most recent call last):
    anojax.errors.SettingError: blur: radius_px is 0; it must be at least 1
    """
    return dataclasses.field(
        default=default,
        metadata={"help": help, "low": low, "high": high, "choices": choices},
    )


def field_types(cls: type) -> dict[str, Any]:
    """The declared type of every field of a dataclass, resolved.

    >>> import dataclasses
    >>> field_types(dataclasses.make_dataclass("Blur", [("radius_px", "int")]))
    {'radius_px': <class 'int'>}
    """
    return dict(_field_types(cls))


@cache
def _field_types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def check_names(owner: str, cls: type, given: Iterable[str]) -> None:
    """Raise `UnknownName` for what is no field of a dataclass, with the nearest match.

    For its ``__new__``: a misspelt name would else be a bare `TypeError` of Python.

    Args:
      owner: whose settings they are, for the message.
      cls: the dataclass.
      given: names of keyword arguments.

    Raises:
      UnknownName: a name that the dataclass does not have.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    for name in given:
        if name not in known:
            raise UnknownName(
                f"{owner} has no setting '{name}'{did_you_mean(name, known)}"
            )


def check_fields(owner: str, instance: Any, *, but: tuple[str, ...] = ()) -> None:
    """Check every field of a dataclass, for its ``__post_init__``.

    Args:
      owner: whose settings they are, for the message.
      instance: of the dataclass.
      but: names of fields that are not checked here.

    Raises:
      SettingError: about the first value of another type or out of its range.
    """
    kinds = _field_types(type(instance))
    for field in dataclasses.fields(instance):
        if field.name not in but:
            value = getattr(instance, field.name)
            check_setting(owner, field, value, kinds[field.name])


def check_setting(owner: str, field: dataclasses.Field, value: Any, kind: Any) -> None:
    """Check one value against its field.

    Args:
      owner: whose setting it is, for the message.
      field: made with `hp`, or plain.
      value: to be checked.
      kind: the field's type, resolved (`field_types`).

    Raises:
      SettingError: it is of another type or out of its range.
    """
    meta, where = field.metadata, f"{owner}: {field.name} is {value!r}"
    if not _fits(value, kind):
        raise SettingError(f"{where}; expected {describe(kind)}")
    if value is None:
        return
    choices, low, high = (meta.get(k) for k in ("choices", "low", "high"))
    if choices is not None and value not in choices:
        listed = ", ".join(str(c) for c in choices)
        raise SettingError(f"{where}; choose one of {listed}")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, str | bool | tuple):
            continue
        if low is not None and not number >= low:
            raise SettingError(f"{where}; it must be at least {low}")
        if high is not None and not number <= high:
            raise SettingError(f"{where}; it must be at most {high}")
    is_range = isinstance(value, tuple) and len(value) == 2
    if is_range and all(isinstance(v, int | float) for v in value):
        # Two numbers of an open tuple are no range.
        closed = get_origin(kind) is tuple and Ellipsis not in get_args(kind)
        if value[0] > value[1] and closed:
            raise SettingError(f"{where}; the first number must not exceed the second")


def _fits(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, k) for k in get_args(kind))
    if kind is type(None):
        return value is None
    if origin is tuple:
        inner = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(v, inner[0]) for v in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def describe(kind: Any) -> str:
    """A type in words: ``two numbers``, ``a whole number or nothing``."""
    origin = get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(k) for k in get_args(kind))
    if origin is tuple:
        inner = get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"a list ({describe(inner[0])} each)"
        return f"{len(inner)} values ({', '.join(describe(k) for k in inner)})"
    words = {
        float: "a number",
        int: "a whole number",
        bool: "true or false",
        str: "a word",
        type(None): "nothing",
    }
    return words.get(kind, str(kind))
