"""Configuration: frozen dataclasses are the schema, YAML holds the differences.

Fields made with `anojax.fields.hp` carry their help and their range, so that command
line, YAML and Python share one check and one message.
"""

import ast
import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from anojax.data.opening import read_text
from anojax.errors import AnojaxError, SettingError, UnknownName, did_you_mean
from anojax.fields import check_setting, field_types

T = TypeVar("T")

_WORDS = {"none": None, "null": None, "true": True, "false": False}


def to_dict(config: Any, *, differences: bool = False) -> dict[str, Any]:
    """A configuration as plain lists, dictionaries and numbers.

    Args:
      config: an instance of a frozen dataclass; nested dataclasses are followed.
      differences: leave out what equals its default.
    """
    out = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if differences and value == _default(field):
            continue
        out[field.name] = _plain(value, differences)
    return out


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build a configuration; what is absent keeps its default.

    Raises:
      UnknownName: a key that the dataclass lacks (with the nearest match).
      SettingError: a value of the wrong type or out of range.
    """
    kinds = field_types(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(values, Mapping):
        raise SettingError(
            f"{where or cls.__name__} is {values!r}; expected key: value"
        )
    made = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in fields:
            hint = did_you_mean(key, fields, where)
            raise UnknownName(f"unknown key '{path}'{hint}")
        if dataclasses.is_dataclass(kinds[key]):
            made[key] = from_dict(kinds[key], value, where=path)
            continue
        made[key] = _tuples(value)
        if typing.get_origin(kinds[key]) is dict:
            _check_block(path, value, kinds[key])
        if "help" in fields[key].metadata:
            check_setting(where or "configuration", fields[key], made[key], kinds[key])
    absent = [n for n, f in fields.items() if n not in made and _required(f)]
    if absent:
        raise SettingError(f"{where or 'the configuration'} lacks {', '.join(absent)}")
    return cls(**made)


def _check_block(path: str, value: Any, kind: Any) -> None:
    """Raise unless a value is a block, of words where the field's type says so."""
    if not isinstance(value, Mapping):
        raise SettingError(f"{path} is {value!r}; expected key: value")
    if typing.get_args(kind)[1] is str:
        for name, word in value.items():
            if not isinstance(word, str):
                raise SettingError(f"{path}.{name} is {word!r}; expected a word")


def nest(cls: type, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of their fields, brought to where the schema has them.

    A field of a nested dataclass needs no prefix, for no name stands twice.

    Raises:
      UnknownName: a name that neither the dataclass nor a nested one has.
    """
    kinds = field_types(cls)
    home = {
        field.name: outer
        for outer, kind in kinds.items()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
    }
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        if name in kinds:
            inner = dataclasses.is_dataclass(kinds[name]) and isinstance(value, Mapping)
            nested[name] = {**nested.get(name, {}), **value} if inner else value
        elif name in home:
            nested.setdefault(home[name], {})[name] = value
        else:
            hint = did_you_mean(name, [*kinds, *home])
            raise UnknownName(f"unknown key '{name}'{hint}")
    return nested


MOST_VALUES = 100_000
"""Of a configuration; those that people write have dozens."""


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain data as YAML: keys in the order given, short lists on one line.

    Example:
      >>> print(to_yaml({"method": "draem", "size": [64, 96]}))
      method: draem
      size: [64, 96]
    """
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
      AnojaxError: the file is missing, no regular file, larger than a configuration is,
        not UTF-8 or not YAML, has more than `MOST_VALUES`, or holds no mapping.
    """
    text = read_text(path)
    try:
        values = _construct(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, AnojaxError):
            raise
        raise AnojaxError(f"{path} is not valid YAML: {_first_line(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise AnojaxError(f"{path} must hold 'key: value' lines")
    return values


def _construct(text: str) -> Any:
    """The values of a YAML text; aliases are followed where they stay small, for a few
    lines of them can stand for billions of values."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values_of(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"its aliases stand for more than {MOST_VALUES} values",
                node.start_mark,
            )
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _values_of(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, aliases written out; without end for one that
    holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [one for pair in node.value for one in pair]
        known[id(node)] = 1 + sum(_values_of(one, known) for one in inner)
    return known[id(node)]


def _first_line(error: Exception) -> str:
    """What is wrong and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None and getattr(error, "problem", None):
        return f"line {mark.line + 1}: {error.problem}"
    return (str(error) or type(error).__name__).splitlines()[0]


def load(cls: type[T], path: Path, overrides: Sequence[str] = ()) -> T:
    """Read a configuration from YAML and apply dotted overrides to it."""
    return override(from_dict(cls, read_yaml(path)), overrides)


def override(config: T, assignments: Sequence[str]) -> T:
    """Apply ``"optimizer.rate=1e-3"`` style assignments; later ones win.

    Raises:
      UnknownName: a name that the configuration does not have.

    Example:
      >>> from anojax.data.config import DataConfig
      >>> override(DataConfig(), ["size=64,96"]).size
      (64, 96)
    """
    values = to_dict(config, differences=True)
    for assignment in assignments:
        path, value = split_assignment(assignment)
        *parents, last = path.split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UnknownName(f"'{path}': '{parent}' has no fields of its own")
        node[last] = value
    return from_dict(type(config), values)


def split_assignment(text: str) -> tuple[str, Any]:
    """``"area=0.1,0.2"`` -> ``("area", (0.1, 0.2))``.

    Raises:
      SettingError: there is no ``=``.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingError(f"'{text}' is no setting; write it as field=value")
    return name.strip(), parse_value(value)


def parse_value(text: str) -> Any:
    """A value from the command line: number, list of values, word, or none."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return _tuples(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        pass
    if "," in text:
        parts = text.strip("()[]").split(",")
        return tuple(parse_value(part) for part in parts if part.strip())
    return text


def fit(value: Any, kind: Any) -> Any:
    """Bring a parsed value to a field's type where nothing is lost.

    Lists, as YAML gives them, become the tuples that settings hold. A single value becomes a tuple of one where an open tuple is wanted, and a whole
    number becomes a float where a float is wanted, so that equal settings are equal.
    """
    value = _tuples(value)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        rest = [k for k in inner if k is not type(None)]
        return value if value is None or len(rest) != 1 else fit(value, rest[0])
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            value = value if isinstance(value, tuple) else (value,)
            return tuple(fit(v, inner[0]) for v in value)
        if isinstance(value, tuple) and len(value) == len(inner):
            return tuple(map(fit, value, inner))
        return value
    if kind is float and type(value) is int:
        return float(value)
    return value


def digest(values: Mapping[str, Any]) -> str:
    """A short hash that is equal for equal configurations."""
    text = json.dumps(_plain(values, False), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def compare(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list:
    """What differs, as ``"size: 256 -> 512"`` lines."""
    lines = []
    for key in [*old, *(k for k in new if k not in old)]:
        path, a, b = f"{where}{key}", old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += compare(a, b, f"{path}.")
        elif a != b:
            lines.append(f"{path}: {a} -> {b}")
    return lines


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _required(field: dataclasses.Field) -> bool:
    return _default(field) is dataclasses.MISSING


def _plain(value: Any, differences: bool) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value, differences=differences)
    if isinstance(value, Mapping):
        return {k: _plain(v, differences) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v, differences) for v in value]
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return tuple(map(_tuples, value))
    return value
