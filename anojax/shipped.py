"""The configurations that come with anojax, by their names."""

from importlib import resources
from pathlib import Path

from anojax.errors import AnojaxError, UnknownName, did_you_mean


def configs() -> dict[str, str]:
    """The training configurations that come with anojax: name -> first line of it.

    >>> "draem" in configs()
    True
    """
    found = sorted(_folder().glob("*.yaml"))
    return {path.stem: _first_line(path) for path in found}


def find_config(name: str | Path) -> Path:
    """The file of a configuration: a file of the user's, or one that comes along.

    Args:
      name: a path, or a name of `configs`.

    Raises:
      AnojaxError: there is neither (with the nearest match).
    """
    path = Path(name).expanduser()
    if path.exists() and not path.is_dir():
        return path  # what is no regular file is refused when it is read
    if path.suffix or len(path.parts) > 1:
        raise AnojaxError(f"cannot read {path}: there is no such file")
    known = configs()
    if str(name) not in known:
        raise UnknownName(
            f"no configuration '{name}'{did_you_mean(str(name), known)}; 'anojax "
            "configs' lists them, and a file is given by its path"
        )
    return _folder() / f"{name}.yaml"


def _folder() -> Path:
    """In an installed package beside the code, in a clone at its root."""
    inside = Path(str(resources.files("anojax"))) / "configs" / "train"
    return inside if inside.is_dir() else inside.parents[2] / "configs" / "train"


def _first_line(path: Path) -> str:
    """What the comment at the top says, as far as its first line goes."""
    first = path.read_text().splitlines()[0]
    return first.lstrip("# ").strip()
