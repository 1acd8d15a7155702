"""From plain arguments to configurations; arrays become files that can be read again."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anojax import registry
from anojax.arrays import as_plane
from anojax.config import from_dict, nest, to_dict
from anojax.core import Synthesizer, settings
from anojax.data.boxes import is_box
from anojax.data.config import DataConfig
from anojax.data.dataset import Dataset
from anojax.data.files import atomic_write, encode_png, make_folder
from anojax.errors import DataError, RunError, SettingError
from anojax.synthesis.config import SynthConfig

Methods = str | Synthesizer | Sequence[str | Synthesizer]


def synth_config(
    input: Any, methods: Methods, options: Mapping[str, Any], files: Path
) -> SynthConfig:
    """The configuration of a run of synthesis.

    Args:
      input: a folder, arrays, or a `Dataset`.
      methods: names, or synthesizers with their settings.
      options: fields of `SynthConfig` and of `DataConfig`, by name.
      files: folder for the arrays.

    Raises:
      AnojaxError: an option that does not exist (with the nearest match), a value that
        does not fit, or a method that is not in the registry.
    """
    one = isinstance(methods, str | Synthesizer)
    chosen = [methods] if one else list(methods)
    names, given = [], {}
    for method in chosen:
        if isinstance(method, Synthesizer):
            known = method.name in registry.names()
            if not known or registry.get(method.name) is not type(method):
                raise SettingError(
                    f"a {type(method).__name__} is no method of the registry, and a run "
                    "could not be made again; use anojax.batch"
                )
            given[method.name] = settings(method)
            method = method.name
        names.append(method)
    if not names:
        raise SettingError("no method given; see anojax.names()")
    options = dict(options)
    if one and not isinstance(methods, Synthesizer) and "settings" in options:
        options["settings"] = _of_the_one(methods, options["settings"])
    values = with_data(nest(SynthConfig, options), input, files)
    values["methods"] = tuple(names)
    values["settings"] = dict(values.get("settings", {})) | given
    return from_dict(SynthConfig, values)


def _of_the_one(method: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a single method need not repeat its name."""
    if all(isinstance(value, Mapping) for value in given.values()):
        return given
    return {method: given}


def with_data(values: dict[str, Any], input: Any, files: Path) -> dict[str, Any]:
    """Nested values with the images in their place; arrays become files.

    Raises:
      DataError: an array that is no image.
    """
    data = dict(values.get("data", {}))
    if isinstance(input, Dataset):
        data = to_dict(input.config, differences=True) | data
    elif input is not None:
        data["input"] = _place(input, files, "images")
        if not isinstance(input, str | Path):
            # Nothing is to be guessed: these are the images, whatever lies beside them.
            data = {"layout": "plain"} | data
    for name in ("foreground", "region", "textures"):
        if name in data and data[name] is not None:
            data[name] = _place(data[name], files, name)
    plain = dataclasses.is_dataclass(values.get("data"))
    return values | {"data": values["data"] if plain else data}


def _place(what: Any, files: Path, name: str) -> str:
    """A path as it is; arrays as the folder in which they were written."""
    if isinstance(what, str | Path):
        return str(what)
    if name == "region" and is_box(what):
        return ",".join(map(str, what))
    if hasattr(what, "ndim"):
        whole = what.ndim == 2 or (what.ndim == 3 and what.shape[-1] in (1, 3))
        if whole and name == "images" and what.ndim == 3:
            raise DataError(
                f"one array of the shape {tuple(what.shape)} may be one image or many; "
                "give a list of images"
            )
        what = [what] if whole else list(what)
    if not isinstance(what, Iterable) or isinstance(what, Mapping):
        raise DataError(f"{name} are {type(what).__name__}; give a folder, or arrays")
    folder = make_folder(files / name)
    # One mask, or one texture, may be for all images.
    digits = max(3, len(str(len(what := list(what)))))
    if not what:
        raise DataError(f"{name} is an empty list; give at least one image")
    for number, one in enumerate(what):
        _write(folder / f"{number:0{digits}}.png", _bytes(one, name), folder)
    return str(folder)


def _bytes(one: Any, name: str) -> bytes:
    mask = name in ("foreground", "region")
    kind = getattr(one, "dtype", None)
    if kind == np.uint16 and not mask:
        array = np.asarray(one)
        return encode_png(array if array.ndim == 3 else array[..., None])
    plane = np.asarray(as_plane(one, name, mask=mask))
    return encode_png(np.rint(plane * np.float32(255)).astype(np.uint8))


def _write(path: Path, content: bytes, folder: Path) -> None:
    if path.exists() and path.read_bytes() != content:
        raise RunError(
            f"{folder} holds the images of another run; choose another output"
        )
    atomic_write(path, content)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, those of `new` over those of `old`."""
    out = dict(old)
    for name, value in new.items():
        inner = out.get(name)
        if isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = merged(inner, value)
        out[name] = value
    return out


def data_fields() -> set[str]:
    """Names that belong to the images."""
    return {field.name for field in dataclasses.fields(DataConfig)}
