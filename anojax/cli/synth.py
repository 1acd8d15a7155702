"""``anojax synth``: a folder of normal images in, a data set with defects out."""

import argparse
import json
import sys
from pathlib import Path

from anojax.cli.arguments import (
    Parser,
    add_common,
    add_execution,
    add_synthesis,
    printer,
    synthesis_config,
)


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
    from anojax.synthesis.run import write_run

    outcome = write_run(
        synthesis_config(args),
        Path(args.output),
        batch_size=args.batch_size,
        devices=args.devices,
        strict=args.strict,
        overwrite=args.overwrite,
        quiet=args.quiet or args.json,
        note=printer(args),
    )
    _report(args, outcome)
    return 0


def _report(args, outcome) -> None:
    from anojax.data.manifest import MANIFEST, REPORT, SHEET

    run, facts = outcome.folder, outcome.facts
    if args.json:
        paths = {"sheet": SHEET, "report": REPORT, "manifest": MANIFEST}
        where = {name: str(run / path) for name, path in paths.items()}
        about = {"state": outcome.state, "run": str(run)}
        print(json.dumps(about | facts | where, indent=1))
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
    print(f"{outcome.state}: {facts['images']} images{speed}")
    print(f"sheet       {run / SHEET}")
    print(f"report      {run / REPORT}")
