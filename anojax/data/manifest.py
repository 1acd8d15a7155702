"""What a run wrote: one JSON line per image, in an order that does not depend on how
the work was split, and a log that lets a killed run continue.

While a run is under way its lines go to ``.anojax/progress.jsonl``, one per job in the
order of the jobs; `manifest.jsonl` appears, whole, when the last one is written, and
`finished.json` after everything else. A half-written run cannot be mistaken for a
finished one.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anojax.data.containment import read_regular
from anojax.data.files import (
    atomic_write,
    cannot_write,
    make_folder,
    sha256,
    sha256_of,
    temporary_name,
)
from anojax.data.lock import HIDDEN
from anojax.data.timings import timed_as
from anojax.data.visible import mean_change
from anojax.errors import RunError

MANIFEST, FINISHED, CONFIG = "manifest.jsonl", "finished.json", "config.yaml"
SHEET, REPORT = "sheet.png", "report.html"
LOG = "progress.jsonl"
BLOCKS = "blocks"
"""Hidden folder of the logs of several processes that make a run together."""
INPUTS = "inputs"
"""Folder of a run that keeps the arrays it was made from, where it was made from some."""


def is_bare(run: Path) -> bool:
    """Nothing is in the folder yet, but perhaps the arrays that a run is to be made of."""
    if not run.is_dir():
        return True
    return all(p.name == INPUTS or p.name.startswith(".") for p in run.iterdir())


@dataclass(frozen=True)
class Row:
    """One synthetic image. Paths are relative to the run, but for `source`."""

    source: str
    """The user's normal image (absolute path)."""
    normal: str
    """The same image as it was used: in the run, resized."""
    image: str
    mask: str | None
    """None when the draw came out empty."""
    method: str
    settings: dict[str, Any]
    """Hyper-parameters of the method, the controls that were requested, and, if the
    method learns, the checkpoint (sha256 of its parameters)."""
    seed: int
    example_id: int
    draw: int
    """Attempt number: above 0 when earlier draws came out empty."""
    anomalous: bool
    size: list[int]
    """Height and width of the image in pixels."""
    area: float
    """Fraction of the image under the mask."""
    box: list[int] | None
    """Around the mask in pixels: [x0, y0, x1, y1], x1 and y1 exclusive."""
    contrast: float
    """Mean absolute change under the mask, as a fraction of the full range."""
    sha256: str
    """Of the image's PNG file."""
    mask_sha256: str | None
    normal_sha256: str = ""
    """Of the normal image's PNG file."""
    inputs_sha256: dict[str, str] = field(default_factory=dict)
    """Of the files that the image was made from, by their paths: its `source`, and its
    masks of region and foreground where there are any."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """What was drawn for this image: controls from their ranges, and what the method
    tells of its own draws (opacity, source and so on)."""
    area_mm2: float | None = None
    """Of the mask; absent where no side of a pixel was given, as is the next."""
    box_mm: list[float] | None = None
    """As `box`, from the upper left corner of the image as it is written."""

    def values(self) -> dict[str, Any]:
        """What stands in the line."""
        values = dataclasses.asdict(self)
        absent = {n for n in ("area_mm2", "box_mm") if values[n] is None}
        return {name: value for name, value in values.items() if name not in absent}

    def line(self) -> str:
        return json.dumps(self.values())


def contrast(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray, bits: int = 16
) -> float:
    """Mean absolute change under the mask in [0, 1]; 0 for an empty mask.

    Args:
      before, after: images of one shape, `bits` deep.
      mask: where they are compared; above 0 counts.
      bits: of the pixels: 8 to 16.
    """
    return round(mean_change(before, after, mask, bits), 6)


_TYPES = {
    "source": str, "normal": str, "image": str, "mask": str | None, "method": str,
    "settings": dict, "seed": int, "example_id": int, "draw": int, "anomalous": bool,
    "size": list, "area": int | float, "box": list | None, "contrast": int | float,
    "sha256": str, "mask_sha256": str | None,
}  # fmt: skip


def parse_row(line: str | bytes) -> dict[str, Any]:
    """The values of a manifest's line.

    Raises:
      ValueError: not JSON, or not that of an image; in words.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(values, dict):
        raise ValueError("is no row of a manifest")
    for name, kind in _TYPES.items():
        if name not in values:
            raise ValueError(f"has no '{name}'")
        if not isinstance(values[name], kind):
            raise ValueError(f"has no usable '{name}'")
    numbers = [*values["size"], *(values["box"] or [0] * 4)]
    if len(numbers) != 6 or not all(type(n) is int for n in numbers):
        raise ValueError("has no usable size or box")
    return values


def read_rows(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of a finished run's manifest.

    Raises:
      RunError: there is no manifest, or a line of it is broken.
    """
    path = Path(run) / MANIFEST
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield parse_row(line)
                except ValueError as error:
                    raise RunError(f"{path} line {number} {error}") from error
    except OSError as error:
        raise RunError(
            f"cannot read {path} ({error.strerror}); give the folder of a finished run"
        ) from error


def logged_rows(run: Path) -> Iterator[dict[str, Any]]:
    """What manifest or log say about images, as far as they can be read."""
    for path in (run / MANIFEST, run / HIDDEN / LOG):
        if not path.is_file() or path.is_symlink():
            continue
        with path.open("rb") as lines:
            for line in lines:
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(values, dict):
                    yield values


class Progress:
    """The log of a run under way: line i tells what became of job i."""

    def __init__(self, run: Path):
        self.run = run
        self.path = run / HIDDEN / LOG

    def resume(
        self,
        boundary: Callable[[int], int] = int,
        whole: Callable[[Iterator[dict[str, Any]]], int] | None = None,
    ) -> int:
        """How many jobs are done; lines beyond that are cut off.

        Args:
          boundary: the largest number of jobs up to the given one at which the output
            is whole; a line torn by a kill never counts.
          whole: looks at the lines, which are JSON objects, and says how many of them,
            from the first on, tell the truth; all of them when absent.
        """
        make_folder(self.path.parent)
        if not self.path.exists():
            return 0
        # Counted by `_lines` while `whole` looks at them.
        self._ends = [0]
        if whole is None:
            done = sum(1 for _ in self._lines())
        else:
            done = min(whole(self._lines()), len(self._ends) - 1)
        done = boundary(done)
        os.truncate(self.path, self._ends[done])
        return done

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The log up to its first damaged line, as a power cut leaves one."""
        with self.path.open("rb") as lines:
            for line in lines:
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError):
                    return
                if not line.endswith(b"\n") or not isinstance(values, dict):
                    return
                self._ends.append(self._ends[-1] + len(line))
                yield values

    @timed_as("manifest")
    def append(self, lines: list[str]) -> None:
        """Record finished jobs, in order; one write, so that a shard counts whole."""
        try:
            with self.path.open("a") as log:
                log.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def finish(self) -> tuple[int, list[dict[str, Any]]]:
        """Write the manifest; returns how many images and what was left out."""
        written, left_out = 0, []
        target = self.run / MANIFEST
        temporary = temporary_name(target)
        try:
            with temporary.open("w") as manifest, self.path.open() as log:
                for line in log:
                    if "reason" in (values := json.loads(line)):
                        left_out.append(values)
                    else:
                        manifest.write(line)
                        written += 1
            os.replace(temporary, target)
        except OSError as error:
            raise cannot_write(target, error) from error
        return written, left_out


def left_out_line(
    source: str,
    method: str,
    example_id: int,
    reason: str,
    inputs_sha256: dict[str, str] | None = None,
) -> str:
    """The log's line of a job that gives no image."""
    values = dict(source=source, method=method, example_id=example_id, reason=reason)
    if inputs_sha256:
        values["inputs_sha256"] = inputs_sha256
    return json.dumps(values)


def mark_finished(run: Path, facts: dict[str, Any], files: Iterable[str] = ()) -> None:
    """Say that the run is complete; the log is of no use any more.

    Args:
      run: its folder.
      facts: what there is to say about it.
      files: those whose content no line of the manifest tells, by their names.
    """
    hashes = {name: sha256_of(run / name) for name in files}
    values = facts | {"files": hashes}
    values |= {"sha256": digest_of(values)}
    atomic_write(run / FINISHED, json.dumps(values, indent=1) + "\n")
    tidy(run)


def digest_of(facts: dict[str, Any]) -> str:
    """What `finished.json` says about the rest of itself."""
    rest = {name: value for name, value in facts.items() if name != "sha256"}
    return sha256(json.dumps(rest, sort_keys=True).encode())


def tidy(run: Path) -> None:
    """Remove the log of a finished run."""
    (run / HIDDEN / LOG).unlink(missing_ok=True)


def finished(run: Path) -> dict[str, Any] | None:
    """What a finished run says about itself; None while it is not finished.

    Raises:
      RunError: the file is damaged.
    """
    path = Path(run) / FINISHED
    if not os.path.lexists(path):
        return None
    try:
        facts = json.loads(read_regular(path))
        if "pictures" in facts:  # the word of version 0.1.0
            facts["images"] = facts.pop("pictures")
        counts = [facts[k] for k in ("images", "redrawn", "empty", "left_out")]
        usable = all(type(n) is int for n in counts)
        usable &= isinstance(facts.get("left_out_reasons", {}), dict)
        usable &= isinstance(facts.get("files", {}), dict)
    except (ValueError, TypeError, KeyError, RecursionError):
        usable = False
    # Runs of earlier versions say nothing about themselves.
    if not usable or facts.get("sha256") not in (None, digest_of(facts)):
        raise RunError(f"{path} is damaged")
    return facts
