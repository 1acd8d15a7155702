"""``anojax synth``: a folder of normal images in, a data set with defects out."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from anojax.cli.arguments import (
    Parser,
    add_common,
    add_execution,
    add_synthesis,
    start_devices,
    synthesis_config,
)
from anojax.errors import RunError

SHEET_PER_METHOD = 8


def register(subparsers) -> None:
    parser: Parser = subparsers.add_parser(
        "synth",
        help="write a data set of synthetic defects",
        description="Write a data set: normal images, defects, exact masks, a "
        "manifest, a contact sheet and a report. An interrupted run continues when the "
        "same command is given again.",
        lazy_epilog=_methods_help,
    )
    add_synthesis(parser)
    add = parser.add_argument
    add("--output", metavar="DIR", required=True, help="folder of the run")
    add("--format", metavar="mvtec|tfds", help="layout of the output (default mvtec)")
    add("--strict", action="store_true", help="fail on an image that cannot be used")
    add("--overwrite", action="store_true", help="replace the run in --output")
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def _methods_help() -> str:
    from anojax import registry

    lines = ["methods, and the controls they support:"]
    lines += [
        f"  {name:12} {', '.join(card.controls) or '-'}"
        for name, card in registry.cards().items()
    ]
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    from anojax.cli.describe import describe
    from anojax.cli.learned import load_parameters
    from anojax.cli.prepare import check_all, fill_banks, prepare
    from anojax.data.manifest import FINISHED, finished, tidy

    config, parameters = load_parameters(synthesis_config(args), args.devices)
    job = prepare(config, parameters)
    run_folder = Path(args.output)
    quiet = args.quiet or args.json
    state = _state(run_folder, job.resolved, args.overwrite)
    if state == "finished":
        facts = finished(run_folder)
        tidy(run_folder)
        _report(args, run_folder, facts, f"already finished, see {FINISHED}")
        return 0
    if not quiet:
        print(describe(job))
        print(f"output      {run_folder} ({config.format})", flush=True)
    devices = start_devices(args.devices)
    fill_banks(job)
    if args.strict:
        check_all(job)
    if state == "replace":
        _remove_run(run_folder)
    facts = _write(args, job, run_folder, devices, quiet)
    _report(args, run_folder, facts, "finished")
    return 0


def _state(run: Path, resolved: dict[str, Any], overwrite: bool) -> str:
    """Whether the output is new, to be resumed, finished, or to be replaced.

    Raises:
      RunError: the folder holds something else, or a run with another configuration.
    """
    from anojax.config import compare, read_yaml
    from anojax.data.manifest import CONFIG, FINISHED

    if run.exists() and not run.is_dir():
        raise RunError(f"--output {run} is a file; give a folder")
    visible = run.is_dir() and any(not p.name.startswith(".") for p in run.iterdir())
    if not visible:
        return "new"
    if not (run / CONFIG).exists():
        raise RunError(
            f"{run} is not empty and holds no run of anojax; choose another --output"
        )
    if overwrite:
        return "replace"
    differences = compare(read_yaml(run / CONFIG), resolved)
    differences = [line for line in differences if not line.startswith("hash")]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise RunError(
            f"{run} holds a run with another configuration "
            f"({'; '.join(differences[:3])}{more}); "
            "choose another --output, or replace it with --overwrite"
        )
    return "finished" if (run / FINISHED).exists() else "resume"


def _remove_run(run: Path) -> None:
    """Remove the files of a run, and the folders that this leaves empty."""
    from anojax.data.manifest import planned_files

    folders = set()
    for name in planned_files(run):
        path = run / name
        path.unlink(missing_ok=True)
        path.with_name(f".{path.name}.tmp").unlink(missing_ok=True)
        folders.update(p for p in path.parents if run in p.parents)
    for folder in sorted(folders, key=lambda p: len(p.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _write(args, job, run: Path, devices, quiet: bool) -> dict[str, Any]:
    """Make what is missing of a run; returns its facts."""
    from anojax.cli.prepare import make_sink
    from anojax.config import to_yaml
    from anojax.data.files import atomic_write, make_folder
    from anojax.data.manifest import CONFIG, Progress, mark_finished, plan_files
    from anojax.data.pipeline import synthesize
    from anojax.data.write import drain

    started = time.perf_counter()
    make_folder(run)
    sink = make_sink(job, run)
    progress = Progress(run)
    start = progress.resume(sink.boundary)
    config_text = to_yaml(job.resolved)
    plan_files(run, sink.files())
    atomic_write(run / CONFIG, config_text)
    sink.make_folders()
    total = job.plan.total
    if start and not quiet:
        print(f"continuing after {start} of {total} images", flush=True)
    workers = min(os.cpu_count() or 1, 16)
    jobs = (each for each in job.plan.jobs() if each.index >= start)
    with _bar(total, start, quiet) as advance:
        results = synthesize(
            job.plan,
            jobs,
            batch_size=args.batch_size or max(64, 16 * len(devices)),
            devices=devices,
            readers=workers,
        )
        drain(
            results,
            sink,
            progress,
            start=start,
            writers=workers,
            on_commit=advance,
        )
    seconds = time.perf_counter() - started
    sink.finish()
    facts = _finish(job, run, progress, config_text)
    mark_finished(run, facts)
    made = total - start
    return facts | {"seconds": round(seconds, 2), "images_per_second": made / seconds}


def _finish(job, run: Path, progress, config_text: str) -> dict[str, Any]:
    """Manifest, sheet and report; none of them depends on how long it took."""
    from anojax.cli.describe import summary_facts
    from anojax.data.manifest import SHEET
    from anojax.report import html, sheet

    written, left_out = progress.finish()
    if not written:
        _remove_run(run)
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
        title=f"anojax: {job.category}",
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


class _bar:
    """A progress bar on stderr; gives the function that counts one image."""

    def __init__(self, total: int, start: int, quiet: bool):
        self.total, self.start, self.quiet = total, start, quiet

    def __enter__(self):
        if self.quiet:
            return lambda: None
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        start = self.start

        class Speed(TextColumn):
            # Of the whole run: images come in bursts, one batch at a time.
            def render(self, task):
                rate = (task.completed - start) / (task.elapsed or 1.0)
                return f"{rate:.0f} images/s"

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Speed(""),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.bar.start()
        task = self.bar.add_task("compiling", total=self.total, completed=self.start)

        def advance():
            self.bar.update(task, advance=1, description="making")

        return advance

    def __exit__(self, *_):
        if not self.quiet:
            self.bar.stop()


def _report(args, run: Path, facts: dict[str, Any], state: str) -> None:
    from anojax.data.manifest import MANIFEST, REPORT, SHEET

    if args.json:
        paths = {"sheet": SHEET, "report": REPORT, "manifest": MANIFEST}
        where = {name: str(run / path) for name, path in paths.items()}
        print(json.dumps({"state": state, "run": str(run), **facts, **where}, indent=1))
        return
    if facts["left_out"]:
        for reason, count in facts["left_out_reasons"].items():
            print(f"anojax: left out {count}: {reason}", file=sys.stderr)
    if args.quiet:
        return
    speed = ""
    if "images_per_second" in facts:
        rate, seconds = facts["images_per_second"], facts["seconds"]
        speed = f" in {seconds:.1f} s ({rate:.0f} images/s)"
    print(f"{state}: {facts['images']} images{speed}")
    print(f"sheet       {run / SHEET}")
    print(f"report      {run / REPORT}")
