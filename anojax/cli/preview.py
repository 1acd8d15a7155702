"""``anojax preview``: sixteen images of the run to come, on one sheet."""

import argparse
import json
from pathlib import Path

from anojax.cli.arguments import (
    add_common,
    add_execution,
    add_synthesis,
    printer,
    synthesis_config,
)


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "preview",
        help="see 16 examples before a run",
        description="Make 16 of the images that 'anojax synth' would make with the "
        "same arguments, and show them on one sheet: normal, anomalous, outline of the "
        "mask, difference.",
    )
    add_synthesis(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="sheet.png",
        help="the sheet, .png or .jpg (default sheet.png)",
    )
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.synthesis.preview import preview_run

    found = preview_run(
        synthesis_config(args),
        Path(args.output),
        batch_size=args.batch_size,
        devices=args.devices,
        note=printer(args),
    )
    if args.json:
        facts = {"sheet": str(found.path), "examples": found.examples}
        print(json.dumps(facts | {"left_out": found.left_out}, indent=1))
    elif not args.quiet:
        for reason in found.left_out:
            print(f"left out: {reason}")
        print(f"sheet       {found.path}")
    return 0
