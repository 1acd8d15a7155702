"""A run made again from its manifest and its configuration, and compared."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anojax.config import compare
from anojax.data.files import decode_png, sha256
from anojax.data.manifest import CONFIG, FINISHED, read_rows
from anojax.data.pipeline import synthesize as make_images
from anojax.data.readback import stored, stored_normal
from anojax.environment import start_devices, workers
from anojax.errors import AnojaxError, RunError, SettingError
from anojax.synthesis.config import from_request
from anojax.synthesis.folder import read_resolved
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import Prepared, prepare
from anojax.synthesis.run import default_batch, output_of


@dataclass(frozen=True)
class Comparison:
    """What came of making a run again."""

    compared: int
    """Lines of the manifest."""
    problems: list[dict[str, Any]]
    """Of each that differs: line, image, problem; in order."""


def verify_run(
    folder: Path,
    *,
    row: int | None = None,
    input: str | None = None,
    checkpoint: str | None = None,
    batch_size: int | None = None,
    devices: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Make the images of a finished run again and compare them with its files.

    Args:
      folder: of the run.
      row: only this line of the manifest; the first is 1.
      input: where the normal images are now, if they were moved.
      checkpoint: where the training run is now, if it was moved.
      batch_size: images at a time.
      devices: how many to use; all by default.
      note: told what is about to happen.

    Raises:
      RunError: the folder holds no finished run, or the images or the training run are
        others than those it was made with.
    """
    moved = {"input": input, "checkpoint": checkpoint}
    job, notes = _job(folder, moved, devices)
    rows = _Rows(folder, job.plan, row)
    what = "every image" if row is None else f"line {row}"
    note(f"comparing {what} of {folder} with images made again")
    for line in notes:
        note(f"note: {line}")
    found = start_devices(devices)
    output = output_of(job, folder)
    results = make_images(
        job.plan,
        rows.jobs(),
        batch_size=batch_size or default_batch(job, found),
        devices=found,
        readers=workers(),
    )
    problems, pending = [], deque()
    with ThreadPoolExecutor(workers()) as pool:
        for made in results:
            line, one = rows.taken.pop(made.job.index)
            pending.append(pool.submit(_compare, folder, output, made, line, one))
            while len(pending) > 64 * workers():
                problems += pending.popleft().result()
        for future in pending:
            problems += future.result()
    problems += rows.unmatched
    problems.sort(key=lambda problem: problem["line"])
    return Comparison(rows.count, problems)


def _job(
    folder: Path, moved: dict[str, str | None], devices: int | None
) -> tuple[Prepared, list[str]]:
    """The run's request, prepared again; and what differs without being wrong."""
    if not (folder / CONFIG).exists():
        raise RunError(f"{folder} is no run of anojax: it has no {CONFIG}")
    if not (folder / FINISHED).exists():
        raise RunError(
            f"the run in {folder} is not finished; give its command again to finish it"
        )
    resolved = read_resolved(folder)
    config = from_request(resolved["request"])
    if moved["checkpoint"] is not None:
        if config.checkpoint is None:
            raise SettingError(f"{folder} was made without a checkpoint; leave it out")
        config = dataclasses.replace(config, checkpoint=moved["checkpoint"])
    places = {}
    if moved["input"] is not None:
        places["input"] = moved["input"]
    if config.data.category is None:
        # Also where the folder of the images has another name now.
        places["category"] = resolved.get("category")
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, **places)
    )
    job = prepare(*load_parameters(config, devices))
    plan = dataclasses.replace(job.plan, mask_rule=resolved.get("mask_rule"))
    job = dataclasses.replace(job, plan=plan)
    changed = compare(resolved["pictures"], job.resolved["pictures"])
    if changed:
        raise RunError(
            f"the images in {config.data.input} are not those of the run "
            f"({'; '.join(changed)}); give the right folder with --input"
        )
    other = compare(resolved.get("checkpoint", {}), job.resolved.get("checkpoint", {}))
    if other:
        raise RunError(
            f"the training run in {config.checkpoint} is not the one that made this "
            f"({'; '.join(other)}); give the right one with --checkpoint"
        )
    return job, compare(resolved["versions"], job.resolved["versions"])


class _Rows:
    """The manifest beside the plan: which line belongs to which job."""

    def __init__(self, folder: Path, plan, only: int | None):
        self.folder, self.plan, self.only = folder, plan, only
        self.taken: dict[int, tuple[int, dict[str, Any]]] = {}
        self.unmatched: list[dict[str, Any]] = []
        self.count = 0
        if only is not None and not 1 <= only <= (lines := self._lines()):
            raise SettingError(f"--row is {only}; the manifest has lines 1 to {lines}")

    def _lines(self) -> int:
        return sum(1 for _ in read_rows(self.folder))

    def jobs(self) -> Iterator:
        """The jobs of all lines, with the draw that is recorded; both are in order."""
        names = [synth.name for synth in self.plan.methods]
        plan_jobs = self.plan.jobs()
        for line, row in enumerate(read_rows(self.folder), 1):
            if self.only not in (None, line):
                continue
            self.count += 1
            wanted = row["method"], row["example_id"]
            for job in plan_jobs:
                if (names[job.method], job.example_id) == wanted:
                    break
            else:
                what = "its method and example id are not in the plan, or out of order"
                self.unmatched.append(_problem(line, row, what))
                return
            self.taken[job.index] = line, row
            yield dataclasses.replace(job, first_draw=row["draw"], draws=1)


def _compare(folder, output, made, line: int, row: dict) -> list[dict[str, Any]]:
    """What is wrong with a line: at most one problem."""
    if made.reason is not None:
        return [_problem(line, row, made.reason)]
    try:
        files = stored(folder, row)
        hashes = row["sha256"], row["mask_sha256"]
        found = sha256(files.image), files.mask and sha256(files.mask)
        if hashes != found:
            return [_problem(line, row, "the file was changed: its hash differs")]
        final = output.plan.final(made)
        image = decode_png(files.image)
        mask = np.zeros_like(final.mask)
        if files.mask is not None:
            mask = decode_png(files.mask)
        if not np.array_equal(mask, final.mask):
            return [_problem(line, row, "the mask made again differs")]
        if not np.array_equal(image, final.image):
            return [_problem(line, row, _pixels_differ(image, final.image))]
        first = made.job.method == 0 and made.job.draw_of_image == 0
        if first and not np.array_equal(stored_normal(folder, row), final.normal):
            return [_problem(line, row, f"{row['normal']} is not its source")]
    except AnojaxError as error:
        return [_problem(line, row, str(error))]
    return []


def _pixels_differ(old: np.ndarray, new: np.ndarray) -> str:
    if old.shape != new.shape:
        return f"the image made again is {new.shape}, the file is {old.shape}"
    change = np.abs(old.astype(np.int32) - new.astype(np.int32))
    return (
        f"the image made again differs in {int((change > 0).any(-1).sum())} pixels, "
        f"by up to {int(change.max())}"
    )


def _problem(line: int, row: dict[str, Any], what: str) -> dict[str, Any]:
    return {"line": line, "image": row["image"], "problem": what}
