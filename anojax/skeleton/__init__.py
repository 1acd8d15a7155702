"""The first version of a new method: files that run and pass the tests as they are."""

import re
from pathlib import Path
from typing import get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from anojax import registry
from anojax.core import Paradigm
from anojax.errors import SettingError, UnknownName, did_you_mean


def place_of(name: str, paradigm: str | None, family: str | None) -> tuple[str, str]:
    """Paradigm and family of a method: those of the survey, unless given.

    >>> place_of("intra", None, None)
    ('handcrafted', 'inpainting')

    Raises:
      SettingError: the name is in no survey and one of the two is missing.
      UnknownName: there is no such paradigm, or it has no such family.
    """
    for its_paradigm, families in registry.SURVEY.items():
        for its_family, names in families.items():
            if name in names:
                paradigm, family = paradigm or its_paradigm, family or its_family
    if paradigm is None or family is None:
        raise SettingError(
            f"'{name}' is not in the survey; give --paradigm and --family: its place "
            "beside the others (see 'anojax list')"
        )
    if paradigm not in get_args(Paradigm):
        known = ", ".join(get_args(Paradigm))
        raise UnknownName(f"no paradigm '{paradigm}'; choose one of {known}")
    families = registry.SURVEY[paradigm]
    if family not in families:
        raise UnknownName(
            f"{paradigm} has no family '{family}'{did_you_mean(family, families)}; it "
            f"has {', '.join(families)}"
        )
    return paradigm, family


def write(
    name: str,
    root: Path,
    *,
    paradigm: str | None = None,
    family: str | None = None,
    trains: bool = False,
) -> list[Path]:
    """Write the files of a new method into a clone of the repository.

    Args:
      name: in the registry, for instance ``"my_scratches"``.
      root: of the clone.
      paradigm, family: where it stands; by default where the survey has it.
      trains: whether it has a training: a Task, a Detector and a configuration.

    Returns:
      The files, in the order in which one would look at them.

    Raises:
      SettingError: the name is no name for a module, is taken, or `root` is no clone.
      UnknownName: there is no such paradigm or family.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SettingError(
            f"'{name}' cannot name a module; use lower-case letters, digits and _"
        )
    if name in registry.names():
        raise SettingError(f"there is a method '{name}'; choose another name")
    methods, tests = root / "anojax" / "methods", root / "tests" / "methods"
    if not (methods.is_dir() and tests.is_dir()):
        raise SettingError(
            f"{root} is no clone of anojax; run this at the top of one, or give --root"
        )
    paradigm, family = place_of(name, paradigm, family)
    values = {"name": name, "paradigm": paradigm, "family": family, "trains": trains}
    values["cls"] = "".join(word.capitalize() for word in name.split("_"))
    files = {
        methods / paradigm / f"{name}.py": "method.py",
        tests / f"test_{name}.py": "test.py",
    }
    if trains:
        files[root / "configs" / "train" / f"{name}.yaml"] = "config.yaml"
    if there := [str(file) for file in files if file.exists()]:
        raise SettingError(f"{', '.join(there)} exists; remove it, or use another name")
    package = methods / paradigm / "__init__.py"
    if not package.exists():
        package.parent.mkdir(exist_ok=True)
        package.write_text(f'"""The methods of the paradigm {paradigm}."""\n')
    for file, template in files.items():
        text = _templates().get_template(f"{template}.jinja").render(values)
        file.write_text(text)
    return list(files)


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("anojax.skeleton"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
