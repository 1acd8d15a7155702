"""The folder of a run before it is written to: new, half done, finished, in the way."""

from pathlib import Path
from typing import Any

from anojax.config import compare, read_yaml, to_dict
from anojax.data.manifest import CONFIG, FINISHED, is_bare, planned_files
from anojax.errors import RunError
from anojax.synthesis.config import from_request


def state_of(run: Path, resolved: dict[str, Any], overwrite: bool) -> str:
    """Whether a run is ``new``, to ``resume``, ``finished``, or to ``replace``.

    Args:
      run: its folder.
      resolved: what is to be in its `config.yaml`.
      overwrite: a run with another configuration may be replaced.

    Raises:
      RunError: the folder holds something else, or a run with another configuration.
    """
    if run.exists() and not run.is_dir():
        raise RunError(f"--output {run} is a file; give a folder")
    if is_bare(run):
        return "new"
    if not (run / CONFIG).exists():
        raise RunError(
            f"{run} is not empty and holds no run of anojax; choose another --output"
        )
    if overwrite:
        return "replace"
    old = read_resolved(run)
    differences = [
        line for line in compare(old, resolved) if not line.startswith("hash")
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise RunError(
            f"{run} holds a run with another configuration "
            f"({'; '.join(differences[:3])}{more}); "
            "choose another --output, or replace it with --overwrite"
        )
    return "finished" if (run / FINISHED).exists() else "resume"


def read_resolved(run: Path) -> dict[str, Any]:
    """A run's `config.yaml`, its request as this version writes it.

    Raises:
      AnojaxError: the file is missing, broken, or no configuration of a run.
    """
    resolved = read_yaml(run / CONFIG)
    if "request" not in resolved:
        raise RunError(f"{run / CONFIG} has no request; it is not that of a run")
    return resolved | {"request": to_dict(from_request(resolved["request"]))}


def remove_run(run: Path) -> None:
    """Remove the files of a run, and the folders that this leaves empty."""
    folders = set()
    for name in planned_files(run):
        path = run / name
        path.unlink(missing_ok=True)
        path.with_name(f".{path.name}.tmp").unlink(missing_ok=True)
        folders.update(p for p in path.parents if run in p.parents)
    for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
