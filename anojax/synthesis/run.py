"""A run of synthesis from its request to its report."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anojax.config import compare, read_yaml, to_yaml
from anojax.data.coco import coco_file, write_coco
from anojax.data.files import atomic_write, make_folder
from anojax.data.lock import locked
from anojax.data.manifest import (
    CONFIG,
    FINISHED,
    MANIFEST,
    REPORT,
    SHEET,
    Progress,
    mark_finished,
    read_rows,
    tidy,
)
from anojax.data.pipeline import synthesize as make_images
from anojax.data.shard import TfdsSink
from anojax.data.write import MvtecSink, Output, Sink, drain
from anojax.data.yolo import write_yolo, yolo_files
from anojax.device_memory import images_at_a_time
from anojax.environment import start_devices, workers
from anojax.errors import AnojaxError, RunError, SettingError
from anojax.progress import bar
from anojax.report import html, sheet
from anojax.synthesis.clean import check_clean, write_clean
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.describe import describe, measured, summary_facts
from anojax.synthesis.folder import (
    beside,
    check_apart,
    read_resolved,
    remove_run,
    replace_run,
    settle,
    state_of,
)
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import Prepared, prepare
from anojax.synthesis.room import check_ids, check_room
from anojax.synthesis.shares import Blocks
from anojax.synthesis.whole import check_whole, true_lines

SHEET_PER_METHOD = 8


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    folder: Path
    state: str
    """In words: finished now, or before."""
    facts: dict[str, Any]
    """Numbers of images made, redrawn, empty and left out, and the time it took."""
    input_left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of files or folders of the input that were not looked at."""


def write_run(
    config: SynthConfig,
    folder: Path,
    *,
    batch_size: int | None = None,
    devices: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Make a data set; one that is half there goes on where it stopped.

    Args:
      config: what to make.
      folder: of the run.
      batch_size: images at a time; the pixels do not depend on it.
      devices: how many to use; all by default.
      strict: read every image first, and fail on one that cannot be used.
      overwrite: replace the run that is in the folder.
      dry_run: check the request and say what would be made; nothing is written.
      quiet: draw no progress bar.
      note: told what is about to happen.

    Raises:
      AnojaxError: the request cannot be met, or the folder is taken.
    """
    config, parameters = load_parameters(config, devices)
    job = prepare(config, parameters)
    unused = job.data.source.left_out
    check_ids(job)
    if batch_size is not None and batch_size < 1:
        raise SettingError(f"--batch-size is {batch_size}; give at least 1")
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--output {folder} is a file; give a folder")
    # Runs are renamed: a link to one would stay behind with the old one.
    run = folder.resolve()
    if dry_run:
        note(describe(job))
        note(f"output      {folder} ({config.format})")
        facts = {
            "images": job.plan.total,
            "methods": job.plan.images_of_methods(),
            "normal_images": len(job.plan.images),
            "output": state_of(run, job.resolved, overwrite),
        }
        return Outcome(folder, "planned", facts, unused)
    settle(run)
    with locked(run):
        state = state_of(run, job.resolved, overwrite)
        if state == "finished":
            facts = check_whole(run, job)
            tidy(run)
            return Outcome(folder, f"already finished, see {FINISHED}", facts, unused)
        note(describe(job))
        note(f"output      {folder} ({config.format})")
        found = start_devices(devices)
        if batch_size is None:
            batch_size = default_batch(job, found)
        kind = f"{len(found)} x {found[0].device_kind}"
        note(f"batch       {batch_size} images at a time on {kind}")
        job = job.with_banks()
        if strict:
            job.data.check_all()
        if state != "replace":
            facts = complete(job, run, found, batch_size, quiet, note)
            return Outcome(folder, "finished", facts, unused)
        check_apart(run, job.resolved)
        new = beside(run)
        with locked(new):
            facts = _replacement(job, new, found, batch_size, quiet, note)
        replace_run(run, new)
    return Outcome(folder, "finished", facts, unused)


def _replacement(job: Prepared, new: Path, *options) -> dict[str, Any]:
    """Make a run beside the one that it is to replace; one that is half there and the
    same goes on."""
    try:
        state = state_of(new, job.resolved, False)
    except AnojaxError:
        remove_run(new)
        state = state_of(new, job.resolved, False)
    if state == "finished":
        return check_whole(new, job)
    return complete(job, new, *options)


def output_of(job: Prepared, folder: Path) -> Output:
    """Where the images go, and what becomes of them on the way."""
    return Output(folder, job.data.category, job.plan, job.settings)


def sink_of(job: Prepared, folder: Path) -> Sink:
    """The writer for the format that is requested."""
    output = output_of(job, folder)
    if job.config.format == "mvtec":
        return MvtecSink(output)
    first, native = job.data.first, job.config.native
    size = (None, None) if native else job.data.config.shape
    dtype = first.dtype if native else np.dtype(np.uint8)
    return TfdsSink(output, size=size, channels=first.shape[-1], dtype=dtype.type)


def complete(
    job: Prepared, run: Path, devices, batch_size, quiet: bool, note
) -> dict[str, Any]:
    """Make what is missing of a run; returns its facts."""
    started = time.perf_counter()
    make_folder(run)
    sink = sink_of(job, run)
    Blocks(run, sink.ends).join()
    progress = Progress(run)
    if (run / CONFIG).is_file():
        _same_banks(read_resolved(run), job.resolved, run)
    start = progress.resume(sink.boundary, partial(true_lines, job, run))
    check_room(job, run, start)
    check_clean(job)
    atomic_write(run / CONFIG, to_yaml(job.resolved))
    sink.make_folders()
    total = job.plan.total
    if start:
        note(f"continuing after {start} of {total} images")
    jobs = job.plan.jobs(start)
    with bar(total, start=start, hidden=quiet) as advance:
        results = make_images(
            job.plan,
            jobs,
            batch_size=batch_size,
            devices=devices,
            readers=workers(),
        )
        drain(
            results,
            sink,
            progress,
            order=range(start, total),
            writers=workers(),
            on_commit=lambda: advance(1),
        )
    seconds = time.perf_counter() - started
    sink.finish()
    facts = finish(job, run, progress, sink)
    made = total - start
    return facts | {"seconds": round(seconds, 2), "images_per_second": made / seconds}


def default_batch(job: Prepared, devices: list) -> int:
    """Images at a time that keep these devices busy and fit into their memory."""
    each = -(-job.plan.total // len(job.plan.methods))
    return images_at_a_time(devices, job.data.shape, each)


def shared_files(job: Prepared, run: Path, sink: Sink) -> Iterator[str]:
    """The files of a run that are told by no line of its manifest, beside those of every
    run: those that hold more than one image, and those of further formats."""
    yield from sink.files()
    yield from job.clean
    if "coco" in job.config.annotations:
        yield coco_file(job.data.category)
    if "yolo" in job.config.annotations:
        yield from yolo_files(run, job.data.category)


def finish(job: Prepared, run: Path, progress: Progress, sink: Sink) -> dict[str, Any]:
    """Manifest, sheet, report and `finished.json` of a run whose images are there;
    none of them depends on how long it took.

    Raises:
      RunError: there is not one image.
    """
    written, left_out = progress.finish()
    if not written:
        remove_run(run)
        first = left_out[0]
        raise RunError(
            f"not one image could be made: {first['source']}: {first['reason']}"
        )
    write_clean(job, run)
    if "coco" in job.config.annotations:
        write_coco(run, job.data.category, job.config.methods)
    if "yolo" in job.config.annotations:
        write_yolo(run, job.data.category, job.config.methods)
    picked = html.samples(run, SHEET_PER_METHOD)
    if picked:
        examples = [html.load_example(run, row) for row in picked]
        sheet.save(sheet.contact_sheet(examples), run / SHEET)
    tallies = html.write_report(
        run,
        title=f"anojax: {job.data.category}",
        facts=summary_facts(job, written, measured(job, read_rows(run))),
        config=read_yaml(run / CONFIG),
        left_out=left_out,
    )
    facts = {
        "images": written,
        "redrawn": sum(t.redrawn for t in tallies.values()),
        "empty": sum(t.empty for t in tallies.values()),
        "left_out": len(left_out),
        "left_out_reasons": count_reasons(line["reason"] for line in left_out),
        "hash": job.resolved["hash"],
    }
    named = (
        CONFIG,
        MANIFEST,
        *([SHEET] if picked else []),
        REPORT,
        *shared_files(job, run, sink),
    )
    mark_finished(run, facts, named)
    return facts


def _same_banks(old: dict[str, Any], new: dict[str, Any], run: Path) -> None:
    """Raise unless half a run goes on with what its methods drew from before."""
    if changed := compare(old.get("banks", {}), new.get("banks", {})):
        raise RunError(
            f"the content of textures or normal images has changed since {run} was "
            f"begun ({'; '.join(changed)}); put them back, or choose another --output"
        )


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """How often each was given; the twenty most frequent."""
    counts = Counter(reasons)
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:20])
