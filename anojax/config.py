"""Configuration: frozen dataclasses are the schema, YAML holds the differences.

Fields made with `anojax.core.hp` carry their help and their range, so that command
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

from anojax.core import check_setting, field_types, hp
from anojax.data.layouts import LAYOUTS
from anojax.data.opening import read_text
from anojax.errors import AnojaxError, SettingError, UnknownName, did_you_mean

T = TypeVar("T")

LAYOUT_CHOICES = ("auto", *LAYOUTS)


@dataclasses.dataclass(frozen=True)
class SynthConfig:
    """What `anojax synth` is asked for: everything that decides the pixels."""

    input: str = hp("", "folder of normal images, or of a data set")
    layout: str = hp("auto", "layout of the input", choices=LAYOUT_CHOICES)
    normal: tuple[str, ...] = hp(
        (), "which images below the input are normal, e.g. 'OK/*', instead of a layout"
    )
    bits: int | None = hp(
        None,
        "depth of the sensor, for files of 16 bits; that of the images when absent",
        low=8,
        high=16,
    )
    frames: str = hp(
        "one",
        "files of several frames: one refuses them, first takes the first",
        choices=("one", "first"),
    )
    mask_classes: str | int | None = hp(
        None,
        "which values of masks count, where masks are not binary: 1,2 or 128-255 or "
        "nonzero",
    )
    methods: tuple[str, ...] = hp((), "methods to use")
    size: tuple[int, ...] = (256, 256)
    """Height and width that the methods work at, in pixels, 16 to 4096."""
    seed: int = hp(0, "seed of the run", low=0, high=2**63 - 1)
    per_image: int = hp(1, "images per normal image, for each method", low=1)
    count: int | None = hp(
        None, "images per method, going round the normal images", low=1
    )
    textures: str | None = hp(
        None, "folder of texture images; procedural textures when absent"
    )
    foreground: str = hp(
        "auto", "where the object is: auto, none, or a folder of masks"
    )
    region: str | None = hp(
        None, "where a defect may go: a folder of masks, or one mask for all"
    )
    severity: float | None = hp(
        None, "opacity of the defect; 0 changes nothing", low=0.0, high=1.0
    )
    area: float | None = hp(
        None, "size of the defect, as a fraction of the foreground", low=1e-6, high=1.0
    )
    defects: int | None = hp(None, "number of defects per image", low=1)
    aspect: float | None = hp(
        None, "width of a defect divided by its height", low=0.01, high=100.0
    )
    angle_deg: float | None = hp(
        None,
        "rotation of the defect in degrees, counter-clockwise",
        low=-360.0,
        high=360.0,
    )
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Hyper-parameters by method, those that differ from the defaults."""
    checkpoint: str | None = hp(
        None, "training run whose method synthesizes with what it has learned"
    )
    category: str | None = hp(
        None, "what the images show, by name; the name of their folder when absent"
    )
    gray: bool = hp(False, "treat all images as single-channel")
    native: bool = hp(False, "write at each image's own resolution and bit depth")
    min_contrast: float = hp(
        1.0,
        "least mean change under a mask, in gray levels of 255; fainter images are "
        "drawn again, and left out in the end",
        low=0.0,
        high=255.0,
    )
    keep_empty: bool = hp(False, "keep draws without a defect instead of redrawing")
    format: str = hp("mvtec", "layout of the output", choices=("mvtec", "tfds"))

    def __post_init__(self):
        sides = self.size if isinstance(self.size, tuple) else (self.size,)
        if len(sides) != 2 or not all(
            type(side) is int and 16 <= side <= 4096 for side in sides
        ):
            raise SettingError(
                f"size is {self.size!r}; give height and width from 16 to 4096 pixels"
            )
        # It names a folder of the output.
        name = self.category
        if name is not None and (name in ("", ".", "..") or {"/", "\\"} & set(name)):
            raise SettingError(f"category is '{name}'; give a name, not a path")

    def controls(self) -> dict[str, float]:
        """The controls that are asked for, by their names in `anojax.Controls`."""
        angle = None if self.angle_deg is None else math.radians(self.angle_deg)
        asked = {
            "severity": self.severity,
            "area": self.area,
            "count": self.defects,
            "aspect": self.aspect,
            "angle": angle,
        }
        return {name: float(v) for name, v in asked.items() if v is not None}


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
            raise UnknownName(f"unknown key '{path}'{did_you_mean(key, fields)}")
        if dataclasses.is_dataclass(kinds[key]):
            made[key] = from_dict(kinds[key], value, where=path)
            continue
        made[key] = _tuples(value)
        if "help" in fields[key].metadata:
            check_setting(where or "configuration", fields[key], made[key])
    absent = [n for n, f in fields.items() if n not in made and _required(f)]
    if absent:
        raise SettingError(f"{where or 'the configuration'} lacks {', '.join(absent)}")
    return cls(**made)


def dump(config: Any, *, differences: bool = True) -> str:
    """A configuration as YAML."""
    return to_yaml(to_dict(config, differences=differences))


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain data as YAML: keys in the order given, short lists on one line."""
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
      AnojaxError: the file is missing, no regular file, larger than a configuration is,
        not UTF-8 or not YAML, has aliases, or holds no mapping.
    """
    text = read_text(path)
    try:
        values = yaml.load(text, Loader=_Plain)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, AnojaxError):
            raise
        raise AnojaxError(f"{path} is not valid YAML: {_first_line(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise AnojaxError(f"{path} must hold 'key: value' lines")
    return values


class _Plain(yaml.SafeLoader):
    """YAML without aliases: a few lines of them can stand for billions of values."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not read; write the value out", mark
            )
        return super().compose_node(parent, index)


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
    """Apply ``"optimizer.rate=1e-3"`` style assignments; later ones win."""
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

    A single value becomes a tuple of one where an open tuple is wanted, and a whole
    number becomes a float where a float is wanted, so that equal settings are equal.
    """
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
