"""The folder of a run before it is written to: new, half done, finished, in the way."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anojax.config import compare, read_yaml, to_dict
from anojax.data.coco import coco_file
from anojax.data.containment import inside
from anojax.data.files import cannot_write, temporary_name
from anojax.data.lock import HIDDEN, locked
from anojax.data.manifest import (
    BLOCKS,
    CONFIG,
    FINISHED,
    INPUTS,
    MANIFEST,
    REPORT,
    SHEET,
    finished,
    is_bare,
    logged_rows,
)
from anojax.data.shard import METADATA, PLACE
from anojax.data.yolo import data_file
from anojax.errors import AnojaxError, RunError
from anojax.synthesis.config import from_request

LATER = ("hash", "banks")
"""Keys of a configuration that follow from the others, or are known later."""
_OWN = (MANIFEST, SHEET, REPORT, FINISHED)
_NOTES = ("progress.jsonl", "lock", "files.txt")


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
    if not (run / CONFIG).is_file():
        raise RunError(
            f"{run} is not empty and holds no run of anojax; choose another --output"
        )
    if overwrite:
        return "replace"
    old = read_resolved(run)
    ended = os.path.lexists(run / FINISHED)
    # A finished run of an earlier version stays one; half a run cannot go on by
    # another rule.
    later = {*LATER, "mask_rule"} if ended and "mask_rule" not in old else {*LATER}
    differences = compare(
        {k: v for k, v in old.items() if k not in later},
        {k: v for k, v in resolved.items() if k not in later},
    )
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise RunError(
            f"{run} holds a run with another configuration "
            f"({'; '.join(differences[:3])}{more}); "
            "choose another --output, or replace it with --overwrite"
        )
    return "finished" if ended else "resume"


def read_resolved(run: Path) -> dict[str, Any]:
    """A run's `config.yaml`, its request as this version writes it.

    Raises:
      AnojaxError: the file is missing, broken, or no configuration of a run.
    """
    resolved = read_yaml(run / CONFIG)
    if not isinstance(resolved.get("request"), dict):
        raise RunError(f"{run / CONFIG} has no request; it is not that of a run")
    return resolved | {"request": to_dict(from_request(resolved["request"]))}


def check_apart(run: Path, resolved: dict[str, Any]) -> None:
    """Raise unless everything that a request reads lies outside of a run.

    Raises:
      RunError: replacing the run would remove its own input.
    """
    request, whole = resolved["request"], run.resolve()
    places = [(f"data.{k}", v) for k, v in request["data"].items()]
    runs = (request["checkpoint"] or "").split(",")
    for name, value in places + [("checkpoint", one) for one in runs]:
        if isinstance(value, str) and os.path.isabs(value):
            place = Path(value).resolve()
            # Arrays that the run itself keeps move over to the new one.
            if place.is_relative_to(whole) and place.parent != whole / INPUTS:
                raise RunError(
                    f"{value} ({name}) lies in {run}, which --overwrite would replace; "
                    "choose another --output"
                )


def beside(run: Path) -> Path:
    """Where the run that replaces this one is built."""
    return run.with_name(f".{run.name}.anojax-new")


def replace_run(run: Path, new: Path) -> None:
    """Put a finished run in the place of another; what is not of the old one is kept.

    Both are renamed, so that there is a whole run at any time; `settle` completes what
    a kill in between has left.
    """
    aside = _aside(run)
    try:
        os.rename(run, aside)
        os.rename(new, run)
    except OSError as error:
        raise cannot_write(run, error) from error
    _carry_over(aside, run)


def settle(run: Path) -> None:
    """Complete a replacement that was interrupted."""
    aside, new = _aside(run), beside(run)
    if not aside.is_dir():
        return
    # Whoever is about to replace the run holds the old one, wherever it is.
    with locked(aside):
        if not run.exists():
            done = new if (new / FINISHED).is_file() else aside
            os.rename(done, run)
        if aside.is_dir():
            _carry_over(aside, run)


def remove_run(run: Path) -> None:
    """Remove the files of a run, and the folders that this leaves empty.

    Nothing is removed that the run has not written, or through a link.
    """
    folders = {run / HIDDEN}
    for folder in _planned_folders(run):
        folders.update((folder, *(p for p in folder.parents if run in p.parents)))
    # Listed at once: the manifest is among them.
    for path in [*own_files(run)]:
        if path.is_file() and not path.is_symlink():
            path.unlink()
        folders.update(p for p in path.parents if run in p.parents)
    for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def own_files(run: Path) -> Iterator[Path]:
    """The files that a run has written, and their temporary forms.

    Of a run that is not finished: all images in its folders, of which some may not be
    in its log yet.
    """
    folders = set()
    for name in _names(run):
        try:
            path = inside(run, name)
        except RunError:
            continue  # a name that leads out of the run is none of its files
        yield path
        yield temporary_name(path)
        if path.parent != run:
            folders.add(path.parent)
    if not os.path.lexists(run / FINISHED):
        folders |= _planned_folders(run)
        for folder in folders:
            if folder.is_dir() and not folder.is_symlink():
                for path in folder.iterdir():
                    name = path.name
                    if name.endswith((".png", ".tmp")) or "record-" in name:
                        yield path
                    elif name.endswith(".txt") and folder.parent.name == "labels":
                        yield path
        yield from _planned_files(run)
    yield from (run / HIDDEN / BLOCKS).glob("*.jsonl")
    for name in (*(f"{HIDDEN}/{note}" for note in _NOTES), CONFIG):
        yield run / name
        yield temporary_name(run / name)


def _names(run: Path) -> Iterator[str]:
    yield from _OWN
    try:
        yield from (finished(run) or {}).get("files", {})
    except RunError:
        pass  # then its log tells of the files
    for row in logged_rows(run):
        for key in ("image", "mask", "normal"):
            name = row.get(key)
            if not isinstance(name, str):
                continue
            record = PLACE.fullmatch(name)
            if record is None:
                yield name
                continue
            yield record[1]
            folder = record[1].rpartition("/")[0]
            yield from (f"{folder}/{each}" for each in METADATA)


def _planned_files(run: Path) -> Iterator[Path]:
    """The files of further formats that a run may have written before its end."""
    try:
        resolved = read_resolved(run)
        further = resolved["request"]["annotations"]
        for name, file_of in (("coco", coco_file), ("yolo", data_file)):
            if name in further:
                path = inside(run, file_of(resolved["category"]))
                yield from (path, temporary_name(path))
    except (AnojaxError, KeyError, TypeError, AttributeError):
        return  # then only what its log names is known


def _planned_folders(run: Path) -> set[Path]:
    """Where a run in MVTec AD layout has its images, by its configuration."""
    try:
        resolved = read_resolved(run)
        category, methods = resolved["category"], resolved["request"]["methods"]
        names = [f"{category}/train/good"]
        further = resolved["request"]["annotations"]
        kinds = ["test", "ground_truth"]
        if resolved["request"]["train_share"] or resolved["request"]["normal_share"]:
            names += [f"{category}/test/good", f"{category}/normal"]
        kinds += ["yolo/images", "yolo/labels"] if "yolo" in further else []
        for method in methods:
            names += [f"{category}/{kind}/{method}" for kind in kinds]
        return {inside(run, name) for name in names}
    except (AnojaxError, KeyError, TypeError):
        return set()  # then only what its log names is known


def _aside(run: Path) -> Path:
    return run.with_name(f".{run.name}.anojax-old")


def _carry_over(aside: Path, run: Path) -> None:
    """Move what is not of the old run to the same place in the new one."""
    remove_run(aside)
    if not aside.is_dir():
        return
    for folder, below, names in os.walk(aside):
        links = [name for name in below if (Path(folder) / name).is_symlink()]
        for name in names + links:
            path = Path(folder) / name
            target = run / path.relative_to(aside)
            if not os.path.lexists(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, target)
    for folder, _, _ in os.walk(aside, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            continue  # it keeps what has no room in the new run
