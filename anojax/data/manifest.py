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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from anojax.data.files import atomic_write, cannot_write, make_folder, temporary_name
from anojax.data.stages import stage
from anojax.data.visible import mean_change
from anojax.errors import RunError

MANIFEST, FINISHED, CONFIG = "manifest.jsonl", "finished.json", "config.yaml"
SHEET, REPORT = "sheet.png", "report.html"
HIDDEN = ".anojax"
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
    """Hyper-parameters of the method, the controls that were asked for, and, if the
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

    def line(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def box(mask: UInt8[np.ndarray, "h w 1"]) -> list[int] | None:
    """The box around a mask, ``[x0, y0, x1, y1]`` with exclusive ends."""
    if not mask.any():
        return None
    xs, ys = np.flatnonzero(mask[..., 0].any(0)), np.flatnonzero(mask[..., 0].any(1))
    return [int(v) for v in (xs[0], ys[0], xs[-1] + 1, ys[-1] + 1)]


def contrast(
    before: np.ndarray, after: np.ndarray, mask: np.ndarray, bits: int = 16
) -> float:
    """Mean absolute change under the mask in [0, 1]; 0 for an empty mask."""
    return round(mean_change(before, after, mask, bits), 6)


def read_rows(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of a finished run's manifest.

    Raises:
      RunError: there is no manifest, or a line of it is broken.
    """
    path = Path(run) / MANIFEST
    try:
        with path.open() as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise RunError(f"{path} line {number} is not JSON") from error
    except OSError as error:
        raise RunError(
            f"cannot read {path} ({error.strerror}); give the folder of a finished run"
        ) from error


class Progress:
    """The log of a run under way: line i tells what became of job i."""

    def __init__(self, run: Path):
        self.run = run
        self.path = run / HIDDEN / "progress.jsonl"

    def resume(self, boundary: Callable[[int], int] = int) -> int:
        """How many jobs are done; lines beyond that are cut off.

        Args:
          boundary: the largest number of jobs up to the given one at which the output
            is whole; a line torn by a kill never counts.
        """
        make_folder(self.path.parent)
        if not self.path.exists():
            return 0
        ends = [0]
        with self.path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    ends.append(ends[-1] + len(line))
        done = boundary(len(ends) - 1)
        os.truncate(self.path, ends[done])
        return done

    @stage("manifest")
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


def left_out_line(source: str, method: str, example_id: int, reason: str) -> str:
    """The log's line of a job that gives no image."""
    values = dict(source=source, method=method, example_id=example_id, reason=reason)
    return json.dumps(values)


def mark_finished(run: Path, facts: dict[str, Any]) -> None:
    """Say that the run is complete; the log is of no use any more."""
    atomic_write(run / FINISHED, json.dumps(facts, indent=1) + "\n")
    tidy(run)


def tidy(run: Path) -> None:
    """Remove the log of a finished run."""
    (run / HIDDEN / "progress.jsonl").unlink(missing_ok=True)


def plan_files(run: Path, names: Iterable[str]) -> None:
    """Note which files the run may write: `--overwrite` removes these and no others."""
    path = run / HIDDEN / "files.txt"
    if path.exists():
        return
    make_folder(path.parent)
    temporary = temporary_name(path)
    try:
        with temporary.open("w") as lines:
            lines.writelines(f"{name}\n" for name in names)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def planned_files(run: Path) -> list[str]:
    """The files that a run may have written, relative to it."""
    notes = run / HIDDEN / "files.txt"
    names = notes.read_text().splitlines() if notes.exists() else []
    hidden = [f"{HIDDEN}/progress.jsonl", f"{HIDDEN}/files.txt"]
    # config.yaml is last: until it is gone the folder counts as a run.
    return [*dict.fromkeys(names), MANIFEST, SHEET, REPORT, FINISHED, *hidden, CONFIG]


def finished(run: Path) -> dict[str, Any] | None:
    """What a finished run says about itself; None while it is not finished."""
    path = Path(run) / FINISHED
    return json.loads(path.read_text()) if path.exists() else None
