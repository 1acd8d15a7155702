"""Whether the files of a run are those that it wrote: by their hashes, without making
any image again."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from anojax.data.containment import inside, read_regular
from anojax.data.files import sha256, sha256_of
from anojax.data.manifest import (
    CONFIG,
    MANIFEST,
    REPORT,
    SHEET,
    finished,
    read_rows,
)
from anojax.data.readback import stored, stored_normal
from anojax.environment import workers
from anojax.errors import RunError
from anojax.synthesis.prepare import Prepared

A, B = TypeVar("A"), TypeVar("B")


def check_whole(run: Path, job: Prepared) -> dict[str, Any]:
    """What a finished run says about itself, if it is whole.

    Raises:
      RunError: something is missing, or is not what the run wrote.
    """
    try:
        facts = finished(run)
        problems = [] if facts is None else [*_problems(run, job, facts)]
    except RunError as error:
        facts, problems = None, [str(error)]
    if facts is not None and not problems:
        return facts
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    raise RunError(
        f"the finished run in {run} is not whole: {problems[0]}{more}; "
        f"'anojax verify {run} --repair' makes it whole again"
    )


def _problems(run: Path, job: Prepared, facts: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name} {what}" for name, what in shared_problems(run, facts))
    if not (run / MANIFEST).is_file():
        return
    rows, normals = 0, set()
    try:
        for row, problem in _in_threads(
            lambda row: (row, row_problem(run, row)), read_rows(run)
        ):
            rows += 1
            if problem is not None:
                yield problem
            elif row["normal"] not in normals:
                normals.add(row["normal"])
                if problem := normal_problem(run, row):
                    yield problem
    except RunError as error:
        yield str(error)
    if rows != facts["images"] or rows + facts["left_out"] != job.plan.total:
        yield (
            f"its manifest has {rows} rows, and {facts['left_out']} images were left "
            f"out of {job.plan.total}"
        )


def shared_problems(run: Path, facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name of a file that holds more than one image, and what is wrong with it."""
    hashes = facts.get("files")
    if hashes is None:  # an earlier version wrote no hashes
        hashes = dict.fromkeys((CONFIG, MANIFEST, REPORT, SHEET))
    for name, expected in hashes.items():
        try:
            path = inside(run, name)
            if expected is None:
                read_regular(path)
            elif not path.is_file() or sha256_of(path) != expected:
                read_regular(path)
                yield name, "is not what the run wrote"
        except (RunError, OSError) as error:
            yield name, str(error).removeprefix(f"{run / name} ")


def row_problem(run: Path, row: dict[str, Any]) -> str | None:
    """What is wrong with the image and the mask of a row, by their hashes."""
    try:
        files = stored(run, row)
    except RunError as error:
        return str(error)
    if sha256(files.image) != row["sha256"]:
        return f"{row['image']} is not what the run wrote"
    if (None if files.mask is None else sha256(files.mask)) != row["mask_sha256"]:
        return f"{row['mask']} is not what the run wrote"
    return None


def normal_problem(run: Path, row: dict[str, Any]) -> str | None:
    """What is wrong with the normal image of a row, by its hash."""
    try:
        found = sha256(stored_normal(run, row))
    except RunError as error:
        return str(error)
    # Runs of earlier versions have no hash of it.
    if row.get("normal_sha256") not in (None, found):
        return f"{row['normal']} is not what the run wrote"
    return None


def true_lines(job: Prepared, run: Path, lines: Iterator[dict[str, Any]]) -> int:
    """How many lines of a log, from the first on, tell the truth.

    Those do that are about the job of their place in the plan, whose files are there as
    they were written. A power cut may leave others.

    Raises:
      RunError: what an image was made from holds something else now.
    """
    names = [synth.name for synth in job.plan.methods]
    known: dict[str, str] = {}
    normals: dict[str, bool] = {}

    def check(pair):
        planned, line = pair
        about = line.get("method"), line.get("example_id")
        if about != (names[planned.method], planned.example_id):
            return False
        _same_inputs(run, line.get("inputs_sha256"), known)
        if isinstance(line.get("reason"), str):
            return True
        if _row_is_damaged(run, line):
            return False
        name = line["normal"]
        if name not in normals:
            normals[name] = normal_problem(run, line) is None
        return normals[name]

    true = 0
    for good in _in_threads(check, zip(job.plan.jobs(), lines, strict=False)):
        if not good:
            break
        true += 1
    return true


def _row_is_damaged(run: Path, line: dict[str, Any]) -> bool:
    wanted = {"image", "mask", "normal", "sha256", "mask_sha256", "normal_sha256"}
    return not wanted <= line.keys() or row_problem(run, line) is not None


def _same_inputs(run: Path, hashes: Any, known: dict[str, str]) -> None:
    """Raise unless the files that an image was made from hold what they held."""
    for name, expected in (hashes if isinstance(hashes, dict) else {}).items():
        if name not in known:
            try:
                known[name] = sha256_of(Path(name))
            except OSError as error:
                raise RunError(
                    f"{name} was used for {run} and cannot be read now "
                    f"({error.strerror}); put it back, or choose another --output"
                ) from error
        if known[name] != expected:
            raise RunError(
                f"{name} has another content than when {run} was begun "
                f"(sha256 {known[name][:12]}, it was {str(expected)[:12]}); put the old "
                "one back, or choose another --output"
            )


def extra_files(
    run: Path, known: set[str], folders: set[str], kept: set[str]
) -> Iterator[tuple[str, str]]:
    """What lies in a run and is none of its files; links are not followed.

    Args:
      run: its folder.
      known: names of its files.
      folders: names of those that it has, also where they are empty.
      kept: names of folders that are not looked into.
    """
    notes = {f".anojax/{name}" for name in ("lock", "files.txt", "progress.jsonl")}
    above = {str(parent) for name in known | folders for parent in Path(name).parents}
    for folder, below, names in os.walk(run):
        here = Path(folder).relative_to(run)
        for name in names:
            found = (here / name).as_posix()
            if found not in known and found not in notes:
                yield found, "is no file of the run"
        for name in [*below]:
            found = (here / name).as_posix()
            if found in kept:
                below.remove(name)
            elif (run / found).is_symlink():
                yield found, "is a link; a run holds none"
            elif found not in above | folders | {".anojax"}:
                yield found, "is no folder of the run"
                below.remove(name)


def _in_threads(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """``map`` in threads, in order; few results wait."""
    threads = workers()
    waiting: deque = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 16 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
