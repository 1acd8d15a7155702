"""Arguments that several commands share, derived from the configuration's fields."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anojax.errors import SettingError, UnknownName, did_you_mean


class Parser(argparse.ArgumentParser):
    """argparse, with errors as exceptions and an epilogue made only when shown."""

    def __init__(self, *args, lazy_epilog: Callable[[], str] | None = None, **options):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviation that works today is ambiguous tomorrow.
        super().__init__(*args, allow_abbrev=False, **options)
        self.lazy_epilog = lazy_epilog

    def format_help(self) -> str:
        if self.lazy_epilog is not None:
            self.epilog = self.lazy_epilog()
        return super().format_help()

    def parse_known_args(self, args=None, namespace=None):
        # The command itself complains, for it knows what it could have been.
        namespace, unknown = super().parse_known_args(args, namespace)
        if hasattr(namespace, "overrides"):
            # argparse takes them in one row only; they may stand between the options.
            late = [word for word in unknown if "=" in word and word[0] != "-"]
            namespace.overrides = [*namespace.overrides, *late]
            unknown = [word for word in unknown if word not in late]
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str):
        hint = ""
        if message.startswith("unrecognized arguments: -"):
            given = message.split(": ", 1)[1].split()[0].partition("=")[0]
            hint = did_you_mean(given, self._option_string_actions)
        elif "invalid choice" in message:
            message = message.replace("argument COMMAND: ", "command: ")
        raise SettingError(f"{message}{hint}; see '{self.prog} --help'")


def add_common(parser: argparse.ArgumentParser) -> None:
    """--json, which every command has."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON and nothing else"
    )


def add_synthesis(parser: argparse.ArgumentParser) -> None:
    """What decides the pixels: the fields of `SynthConfig`, and `--config`."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="YAML file with any of these; flags win")
    add("--method", metavar="M[,M...]", help="methods to use (see 'anojax list')")
    add(
        "--mix",
        metavar="M=W[,M=W...]",
        help="methods by weight: each image is made by one of them, not by all; "
        "--count and --per-image are then numbers of images in all",
    )
    add("--input", metavar="DIR", help=_help("input"))
    add(
        "--size",
        metavar="N|HxW",
        help="what the methods work at: side or height x width (default 256)",
    )
    add("--mm-per-pixel", metavar="MM", help=_help("mm_per_pixel"))
    add("--fit", metavar="stretch|pad|crop", help=_help("fit"))
    for name in ("seed", "per_image", "count"):
        add(_flag(name), metavar="N", help=_help(name))
    add("--layout", metavar="NAME", help=_help("layout"))
    add(
        "--normal",
        action="append",
        metavar="GLOB",
        help=_help("normal") + " (repeatable)",
    )
    add("--bits", metavar="N", help=_help("bits"))
    add("--frames", metavar="one|first", help=_help("frames"))
    add("--mask-classes", metavar="V[,V...]", help=_help("mask_classes"))
    for name in ("textures", "region"):
        add(_flag(name), metavar="DIR", help=_help(name))
    add("--foreground", metavar="auto|none|DIR", help=_help("foreground"))
    for name in ("severity", "area", "aspect", "angle_deg"):
        add(_flag(name), metavar="X|X:Y", help=f"{_help(name)}; X:Y draws from a range")
    add(
        "--defects", metavar="N|N:M", help=f"{_help('defects')}; N:M draws from a range"
    )
    for name in ("train_share", "normal_share"):
        add(_flag(name), metavar="X", help=_help(name))
    add("--min-contrast", metavar="LEVELS", help=_help("min_contrast"))
    add("--checkpoint", metavar="RUN[,RUN]", help=_help("checkpoint"))
    add(
        "--component",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="weights of a pretrained network, or 'random' (repeatable)",
    )
    add("--category", metavar="NAME", help=_help("category"))
    add(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a setting of all methods that have it, or METHOD.FIELD=VALUE of one; "
        "'anojax show METHOD' lists them (repeatable)",
    )
    for name in ("gray", "native", "keep_empty"):
        add(_flag(name), action="store_true", default=None, help=_help(name))


def add_execution(parser: argparse.ArgumentParser) -> None:
    """How the work is done; none of it changes a pixel."""
    add = parser.add_argument
    add("--batch-size", type=int, metavar="N", help="images at a time (by the memory)")
    add("--devices", type=int, metavar="N", help="how many devices to use (all)")
    add("--quiet", action="store_true", help="print errors only")


def printer(args: argparse.Namespace) -> Callable[[str], None]:
    """What tells the user what is about to happen, unless nothing is to be printed."""
    if args.json or args.quiet:
        return lambda text: None
    return lambda text: print(text, flush=True)


def synthesis_config(args: argparse.Namespace, *, need_method: bool = True) -> Any:
    """The configuration that the arguments ask for, checked.

    Raises:
      AnojaxError: unknown method, setting or key, value out of range, both of
        `--count` and `--per-image`, or no method or input.
    """
    from anojax.config import fit, from_dict, nest, parse_value, read_yaml, to_dict
    from anojax.data.config import DataConfig
    from anojax.fields import field_types
    from anojax.synthesis.config import RANGED, SynthConfig, from_request

    values: dict[str, Any] = {"data": {}}
    if args.config:
        file = read_yaml(Path(args.config))
        if "request" in file:  # the config.yaml of a run
            file = to_dict(from_request(file["request"]), differences=True)
        values |= nest(SynthConfig, file)
    kinds = field_types(SynthConfig) | field_types(DataConfig)
    words = {"input", "textures", "foreground", "region", "layout", "format"}
    words |= {"checkpoint", "category", "mask_classes", "frames", "mix", "fit"}
    given = {}
    for name in kinds:
        value = getattr(args, name, None)
        if value is None or name == "size":
            continue
        if name == "normal":
            value = tuple(value)
        elif name in RANGED and ":" in value:
            value = tuple(map(parse_value, value.split(":")))
        elif isinstance(value, str) and name not in words:
            value = fit(parse_value(value), kinds[name])
        given[name] = value
    if args.count is not None and args.per_image is not None:
        raise SettingError("give either --count or --per-image, not both")
    if (formats := getattr(args, "format", None)) is not None:
        layouts, further = parse_formats(formats)
        given |= {"format": layouts, "annotations": further}
    if args.method is not None:
        given = {"mix": {}} | given  # those of a file are about other methods
        given["methods"] = tuple(m for m in args.method.split(",") if m)
    elif getattr(args, "mix", None) is not None:
        given["methods"] = ()  # those that have weights
    if args.size is not None:
        given["size"] = parse_size(args.size)
    given = nest(SynthConfig, given)
    if not isinstance(values["data"], dict):
        raise SettingError(f"data is {values['data']!r}; expected key: value")
    data = values["data"] | given.pop("data", {})
    config = from_dict(SynthConfig, values | given | {"data": data})
    if not config.methods and need_method:
        raise SettingError("no method given; add --method NAME (see 'anojax list')")
    if not config.data.input:
        raise SettingError("no images given; add --input DIR")
    if len(set(config.methods)) != len(config.methods):
        raise SettingError(f"--method {','.join(config.methods)} repeats a method")
    chosen = dict(config.components)
    for assignment in args.component:
        name, _, where = assignment.partition("=")
        if not name or not where:
            raise SettingError(f"--component is '{assignment}'; write NAME=FILE")
        chosen[name] = where
    config = dataclasses.replace(config, components=chosen)
    settings = method_settings(config.methods, config.settings, args.set)
    return dataclasses.replace(config, settings=settings)


def parse_formats(text: str) -> tuple[str, tuple[str, ...]]:
    """``"mvtec,coco"`` -> the layout, and what is written beside it.

    Raises:
      SettingError: two layouts, or a format twice.
    """
    names = [name for name in text.split(",") if name]
    layouts = [name for name in names if name in ("mvtec", "tfds")]
    if len(layouts) > 1 or len(set(names)) != len(names):
        raise SettingError(
            f"--format {text}: give mvtec or tfds once, and coco or yolo beside mvtec"
        )
    further = tuple(name for name in names if name not in layouts)
    return (layouts or ["mvtec"])[0], further


def parse_size(text: str) -> tuple[int, int]:
    """``"256"`` -> (256, 256); ``"240x320"`` -> height 240, width 320.

    Raises:
      SettingError: the text is no size.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdigit() for part in parts):
        raise SettingError(f"--size is '{text}'; write a side (256) or HxW (240x320)")
    return int(parts[0]), int(parts[-1])


def method_settings(
    methods: tuple[str, ...], given: dict[str, dict], assignments: list[str]
) -> dict[str, dict[str, Any]]:
    """Hyper-parameters by method: those of a file, then those of `--set`.

    Raises:
      UnknownName: a method that is not used, or a field that no method has.
      SettingError: a value that does not fit its field.
    """
    from anojax import registry
    from anojax.builders import make_synthesizer
    from anojax.config import split_assignment
    from anojax.fields import field_types

    kinds = {name: field_types(registry.get(name)) for name in methods}
    chosen: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for name, fields in given.items():
        if name not in chosen:
            raise UnknownName(f"settings for '{name}'{did_you_mean(name, methods)}")
        chosen[name] |= fields
    for assignment in assignments:
        field, value = split_assignment(assignment)
        method, dot, name = field.rpartition(".")
        if dot and method not in kinds:
            raise UnknownName(
                f"--set {assignment}: no method '{method}' in this run"
                f"{did_you_mean(method, methods)}"
            )
        targets = [method] if dot else [m for m in methods if name in kinds[m]]
        known = {f for m in ([method] if dot else methods) for f in kinds[m]}
        if name not in known:
            owner = method if dot else " or ".join(methods)
            raise UnknownName(
                f"{owner} has no setting '{name}'{did_you_mean(name, known)}"
            )
        for target in targets:
            chosen[target][name] = value
    for name, fields in chosen.items():
        make_synthesizer(name, fields)
    return {name: fields for name, fields in chosen.items() if fields}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(name: str) -> str:
    from anojax.data.config import DataConfig
    from anojax.synthesis.config import SynthConfig

    fields = (*dataclasses.fields(SynthConfig), *dataclasses.fields(DataConfig))
    field = next(f for f in fields if f.name == name)
    return describe_field(field).replace("%", "%%")


def describe_field(field: dataclasses.Field) -> str:
    """Help of a setting with its range and default, in one line."""
    meta = field.metadata
    low, high, choices = (meta.get(k) for k in ("low", "high", "choices"))
    notes = []
    if choices:
        notes.append(" | ".join(map(str, choices)))
    elif low is not None and high is not None and high < 2**62:
        notes.append(f"{low:g} to {high:g}")
    elif low is not None:
        notes.append(f"at least {low:g}")
    if field.default not in (None, "", False, ()):
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        notes.append(f"default {default}")
    return meta["help"] + (f" ({'; '.join(notes)})" if notes else "")
