"""``anojax verify RUN``: make every image again and compare, pixel by pixel."""

import argparse
import dataclasses
import json
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from anojax.cli.arguments import add_common, add_execution, start_devices
from anojax.errors import AnojaxError, RunError, SettingError

FAILED = 1
SHOWN = 20


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="regenerate a run and compare",
        description="Make the images of a finished run again from its manifest and "
        "config.yaml, and compare them with the files: same pixels, same hashes, "
        "nothing missing. Ends with code 1 if anything differs.",
    )
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    parser.add_argument("--row", type=int, metavar="N", help="line N of the manifest")
    parser.add_argument(
        "--input", metavar="DIR", help="where the normal images are now"
    )
    parser.add_argument(
        "--checkpoint", metavar="RUN", help="where the training run is now"
    )
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.cli.prepare import make_output
    from anojax.data.pipeline import synthesize

    folder = Path(args.folder)
    moved = {"input": args.input, "checkpoint": args.checkpoint}
    job, notes = _job(folder, moved, args.devices)
    rows = _Rows(folder, job.plan, args.row)
    quiet = args.quiet or args.json
    if not quiet:
        what = "every image" if args.row is None else f"line {args.row}"
        print(f"comparing {what} of {folder} with images made again", flush=True)
        for note in notes:
            print(f"note: {note}", flush=True)
    devices = start_devices(args.devices)
    output = make_output(job, folder)
    workers = min(os.cpu_count() or 1, 16)
    size = args.batch_size or max(64, 16 * len(devices))
    results = synthesize(
        job.plan,
        rows.jobs(),
        batch_size=size,
        devices=devices,
        readers=workers,
    )
    problems, pending = [], deque()
    with ThreadPoolExecutor(workers) as pool:
        for made in results:
            line, row = rows.taken.pop(made.job.index)
            pending.append(pool.submit(_compare, folder, output, made, line, row))
            while len(pending) > 64 * workers:
                problems += pending.popleft().result()
        for future in pending:
            problems += future.result()
    problems += rows.unmatched
    problems.sort(key=lambda problem: problem["line"])
    return _report(args, rows.count, problems, quiet)


def _job(folder: Path, moved: dict[str, str | None], devices: int | None):
    """The run's request, prepared again; and what differs without being wrong."""
    from anojax.cli.learned import load_parameters
    from anojax.cli.prepare import prepare
    from anojax.config import SynthConfig, compare, from_dict, read_yaml
    from anojax.data.manifest import CONFIG, FINISHED

    if not (folder / CONFIG).exists():
        raise RunError(f"{folder} is no run of anojax: it has no {CONFIG}")
    if not (folder / FINISHED).exists():
        raise RunError(
            f"the run in {folder} is not finished; give its command again to finish it"
        )
    resolved = read_yaml(folder / CONFIG)
    request = dict(resolved["request"])
    if "bits" not in request:
        # A run from before these existed: 16 bits, and the first of several frames.
        request |= {"bits": 16, "frames": "first"}
    config = from_dict(SynthConfig, request)
    if moved["checkpoint"] is not None and config.checkpoint is None:
        raise SettingError(f"{folder} was made without a checkpoint; leave it out")
    moved = {name: path for name, path in moved.items() if path is not None}
    if config.category is None:
        # Also where the folder of the images has another name now.
        moved["category"] = resolved.get("category")
    config = dataclasses.replace(config, **moved)
    job = prepare(*load_parameters(config, devices))
    plan = dataclasses.replace(job.plan, mask_rule=resolved.get("mask_rule"))
    job = dataclasses.replace(job, plan=plan)
    changed = compare(resolved["pictures"], job.resolved["pictures"])
    if changed:
        raise RunError(
            f"the images in {config.input} are not those of the run "
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
        from anojax.data.manifest import read_rows

        return sum(1 for _ in read_rows(self.folder))

    def jobs(self) -> Iterator:
        """The jobs of all lines, with the draw that is recorded; both are in order."""
        from anojax.data.manifest import read_rows

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
    from anojax.data.files import decode_png, sha256
    from anojax.data.readback import stored, stored_normal

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


def _report(args, count: int, problems: list, quiet: bool) -> int:
    if args.json:
        print(json.dumps({"compared": count, "problems": problems}, indent=1))
    elif problems:
        for problem in problems[:SHOWN]:
            print(
                f"line {problem['line']} {problem['image']}: {problem['problem']}",
                file=sys.stderr,
            )
        more = f", the first {SHOWN} are listed" if len(problems) > SHOWN else ""
        print(
            f"anojax: {len(problems)} of {count} images differ{more}",
            file=sys.stderr,
        )
    elif not quiet:
        print(f"all {count} images agree")
    return FAILED if problems else 0
