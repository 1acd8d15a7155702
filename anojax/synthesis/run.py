"""A run of synthesis from its request to its report."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anojax.config import to_yaml
from anojax.data.files import atomic_write, make_folder
from anojax.data.manifest import (
    CONFIG,
    FINISHED,
    SHEET,
    Progress,
    finished,
    mark_finished,
    plan_files,
    tidy,
)
from anojax.data.pipeline import synthesize as make_images
from anojax.data.shard import TfdsSink
from anojax.data.write import MvtecSink, Output, Sink, drain
from anojax.device_memory import images_at_a_time
from anojax.environment import start_devices, workers
from anojax.errors import RunError, SettingError
from anojax.progress import bar
from anojax.report import html, sheet
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.describe import describe, summary_facts
from anojax.synthesis.folder import remove_run, state_of
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import Prepared, prepare

SHEET_PER_METHOD = 8


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    folder: Path
    state: str
    """In words: finished now, or before."""
    facts: dict[str, Any]
    """Numbers of images made, redrawn, empty and left out, and the time it took."""


def write_run(
    config: SynthConfig,
    folder: Path,
    *,
    batch_size: int | None = None,
    devices: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
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
      quiet: draw no progress bar.
      note: told what is about to happen.

    Raises:
      AnojaxError: the request cannot be met, or the folder is taken.
    """
    config, parameters = load_parameters(config, devices)
    job = prepare(config, parameters)
    state = state_of(folder, job.resolved, overwrite)
    if state == "finished":
        facts = finished(folder)
        tidy(folder)
        return Outcome(folder, f"already finished, see {FINISHED}", facts)
    note(describe(job))
    note(f"output      {folder} ({config.format})")
    found = start_devices(devices)
    if batch_size is None:
        batch_size = default_batch(job, found)
    elif batch_size < 1:
        raise SettingError(f"--batch-size is {batch_size}; give at least 1")
    kind = f"{len(found)} x {found[0].device_kind}"
    note(f"batch       {batch_size} images at a time on {kind}")
    job.fill_banks()
    if strict:
        job.data.check_all()
    if state == "replace":
        remove_run(folder)
    facts = _write(job, folder, found, batch_size, quiet, note)
    return Outcome(folder, "finished", facts)


def output_of(job: Prepared, folder: Path) -> Output:
    """Where the images go, and what becomes of them on the way."""
    return Output(folder, job.data.category, job.plan, job.settings)


def _sink(job: Prepared, folder: Path) -> Sink:
    """The writer for the format that is requested."""
    output = output_of(job, folder)
    if job.config.format == "mvtec":
        return MvtecSink(output)
    first, native = job.data.first, job.config.native
    size = (None, None) if native else job.data.config.shape
    dtype = first.dtype if native else np.dtype(np.uint8)
    return TfdsSink(output, size=size, channels=first.shape[-1], dtype=dtype.type)


def _write(job, run: Path, devices, batch_size, quiet: bool, note) -> dict[str, Any]:
    """Make what is missing of a run; returns its facts."""
    started = time.perf_counter()
    make_folder(run)
    sink = _sink(job, run)
    progress = Progress(run)
    start = progress.resume(sink.boundary)
    config_text = to_yaml(job.resolved)
    plan_files(run, sink.files())
    atomic_write(run / CONFIG, config_text)
    sink.make_folders()
    total = job.plan.total
    if start:
        note(f"continuing after {start} of {total} images")
    jobs = (each for each in job.plan.jobs() if each.index >= start)
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
            start=start,
            writers=workers(),
            on_commit=lambda: advance(1),
        )
    seconds = time.perf_counter() - started
    sink.finish()
    facts = _finish(job, run, progress, config_text)
    mark_finished(run, facts)
    made = total - start
    return facts | {"seconds": round(seconds, 2), "images_per_second": made / seconds}


def default_batch(job: Prepared, devices: list) -> int:
    """Images at a time that keep these devices busy and fit into their memory."""
    each = -(-job.plan.total // len(job.plan.methods))
    return images_at_a_time(devices, job.data.shape, each)


def _finish(job: Prepared, run: Path, progress, config_text: str) -> dict[str, Any]:
    """Manifest, sheet and report; none of them depends on how long it took."""
    written, left_out = progress.finish()
    if not written:
        remove_run(run)
        first = left_out[0]
        raise RunError(
            f"not one image could be made: {first['source']}: {first['reason']}"
        )
    picked = html.samples(run, SHEET_PER_METHOD)
    if picked:
        examples = [html.load_example(run, row) for row in picked]
        sheet.save(sheet.contact_sheet(examples), run / SHEET)
    tallies = html.write_report(
        run,
        title=f"anojax: {job.data.category}",
        facts=summary_facts(job, written),
        config_text=config_text,
        left_out=left_out,
    )
    return {
        "images": written,
        "redrawn": sum(t.redrawn for t in tallies.values()),
        "empty": sum(t.empty for t in tallies.values()),
        "left_out": len(left_out),
        "left_out_reasons": _count(line["reason"] for line in left_out),
        "hash": job.resolved["hash"],
    }


def _count(reasons) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:20])
