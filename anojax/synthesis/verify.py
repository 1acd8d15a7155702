"""A run made again from its configuration, and compared with everything that it holds.

What is compared is the plan, not the manifest: a line that is missing is found as well
as one that was added, and every value of every line is derived anew. The images' own
files are compared pixel by pixel and by the hashes that the manifest has.
"""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anojax.config import compare
from anojax.data.lock import HIDDEN, locked
from anojax.data.manifest import CONFIG, FINISHED, MANIFEST
from anojax.environment import start_devices
from anojax.errors import RunError, SettingError
from anojax.synthesis.comparing import Comparing
from anojax.synthesis.config import from_request
from anojax.synthesis.folder import read_resolved
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import Prepared, prepare
from anojax.synthesis.repair import REPAIR, repair_run
from anojax.synthesis.rows import Finding
from anojax.synthesis.run import default_batch


@dataclass(frozen=True)
class Comparison:
    """What came of making a run again."""

    compared: int
    """Images that were made again."""
    problems: list[Finding]
    """In the order of the manifest; what concerns the whole run comes first."""
    repaired: bool = False
    """Whether what could be made again was made again; `problems` is what is left."""


def verify_run(
    folder: Path,
    *,
    row: int | None = None,
    input: str | None = None,
    checkpoint: str | None = None,
    batch_size: int | None = None,
    devices: int | None = None,
    repair: bool = False,
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
      repair: write what is missing or damaged again; nothing is removed.
      note: told what is about to happen.

    Raises:
      RunError: the folder holds no finished run, or the images or the training run are
        others than those it was made with.
      SettingError: a number is out of its range, or one row is to be repaired.
    """
    if batch_size is not None and batch_size < 1:
        raise SettingError(f"--batch-size is {batch_size}; give at least 1")
    if repair and row is not None:
        raise SettingError("repairing concerns the whole run; leave --row out")
    moved = {"input": input, "checkpoint": checkpoint}
    job, notes = _job(folder, moved, devices)
    what = "every image" if row is None else f"line {row}"
    note(f"comparing {what} of {folder} with images made again")
    for line in notes:
        note(f"note: {line}")
    found = start_devices(devices)
    size = batch_size or default_batch(job, found)
    if not repair:
        run = Comparing(folder, job)
        problems = run.problems(row, found, size)
        return Comparison(run.compared, problems)
    with locked(folder):
        run = Comparing(folder, job, folder / HIDDEN / REPAIR)
        problems = run.problems(None, found, size)
        if not problems:
            return Comparison(run.compared, problems)
        note(f"making again what {len(problems)} findings are about")
        repair_run(run, found, size)
        again = Comparing(folder, job)
        problems = again.problems(None, found, size)
    return Comparison(again.compared, problems, repaired=True)


def _job(
    folder: Path, moved: dict[str, str | None], devices: int | None
) -> tuple[Prepared, list[str]]:
    """The run's request, prepared again; and what differs without being wrong."""
    if not (folder / CONFIG).exists():
        raise RunError(f"{folder} is no run of anojax: it has no {CONFIG}")
    if not os.path.lexists(folder / FINISHED) and not (folder / MANIFEST).is_file():
        raise RunError(
            f"the run in {folder} is not finished; give its command again to finish it"
        )
    resolved = read_resolved(folder)
    config = from_request(resolved["request"])
    then = config.data.input
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
    if "banks" in resolved:
        job = job.with_banks()
    now, plan = job.resolved, job.plan
    for key, what, fix in (
        ("pictures", f"the images in {config.data.input} are not those", "--input"),
        ("checkpoint", "the training run is not that", "--checkpoint"),
        ("banks", "textures or normal images have other content than those", "--input"),
    ):
        if changed := compare(_block(resolved, key), _block(now, key)):
            raise RunError(
                f"{what} of the run in {folder} ({'; '.join(changed)}); give the right "
                f"ones with {fix}, or put the old ones back"
            )
    plan = dataclasses.replace(
        plan,
        mask_rule=resolved.get("mask_rule"),
        sources=_sources(plan.images, then, config.data.input),
    )
    notes = compare(_block(resolved, "versions"), now["versions"])
    return dataclasses.replace(job, plan=plan, resolved=resolved), notes


def _sources(images: tuple[Path, ...], then: str, now: str) -> tuple[str, ...]:
    """Where the images were when the run was made."""
    root = Path(now).expanduser().resolve()
    return tuple(
        str(Path(then) / path.relative_to(root))
        if path.is_relative_to(root)
        else str(path)
        for path in images
    )


def _block(resolved: dict[str, Any], name: str) -> dict[str, Any]:
    found = resolved.get(name, {})
    if not isinstance(found, dict):
        raise RunError(f"'{name}' in {CONFIG} is {found!r}; it should be a block")
    return found
