"""``anojax eval RUN``: how well a trained detector finds the defects of a test folder."""

import argparse
import json
import math

from anojax.cli.arguments import Parser, add_common, parse_size

# The table on the screen keeps to 80 columns; the files have every measure.
LEFT_OUT = ("pixel_aupr",)


def register(subparsers) -> None:
    parser: Parser = subparsers.add_parser(
        "eval",
        help="score a trained detector on real defects",
        description="Score the detector of a training run on images with ground "
        "truth: a table per defect type, curves, a sheet of maps and a report.",
    )
    add = parser.add_argument
    add("trained", metavar="RUN", help="folder of the training run")
    add(
        "--input",
        metavar="DIR",
        required=True,
        help="category in MVTec layout (test/good, test/<defect>, "
        "ground_truth/<defect>) or another known one, or its test folder",
    )
    add("--output", metavar="DIR", required=True, help="folder of the report")
    add("--size", metavar="N|HxW", help="side or height x width (default: the run's)")
    add(
        "--gray",
        action="store_true",
        help="treat all images as single-channel, also if the run did not",
    )
    add(
        "--mask-classes",
        metavar="V[,V...]",
        help="which values of masks mark a defect, where they are not binary",
    )
    add("--bits", type=int, metavar="N", help="depth of the sensor (8 to 16)")
    add(
        "--batch-size",
        type=int,
        default=16,
        metavar="N",
        help="images at a time (default 16)",
    )
    add("--quiet", action="store_true", help="print errors only")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.evaluation.session import evaluate_run

    found = evaluate_run(
        args.trained,
        args.input,
        args.output,
        size=None if args.size is None else parse_size(args.size),
        gray=args.gray,
        mask_classes=args.mask_classes,
        bits=args.bits,
        batch_size=args.batch_size,
        quiet=args.quiet or args.json,
    )
    files = {name: str(path) for name, path in found.files.items()}
    if args.json:
        facts = {"run": args.trained, "method": found.method, "size": [*found.size]}
        print(json.dumps(facts | found.result.to_dict() | {"files": files}, indent=1))
    elif not args.quiet:
        _print(found.result)
        print(f"report      {files['report.html']}")
    return 0


def _print(result) -> None:
    from rich.console import Console
    from rich.table import Table

    from anojax.evaluation.detection import MEASURES

    shown = {k: words for k, words in MEASURES.items() if k not in LEFT_OUT}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("defect", no_wrap=True)
    for title in ("anomalous", *shown.values()):
        table.add_column(title.replace(" ", "\n"), justify="right")
    for row in result.rows:
        values = (row.measures[name] for name in shown)
        numbers = ["–" if math.isnan(v) else f"{100 * v:.1f}" for v in values]
        table.add_row(row.name, str(row.anomalous), *numbers)
    console = Console()
    console.print(table)
    normal = f"each type against the same {result.rows[0].normal} normal images"
    for note in (normal, *result.notes):
        console.print(note, style="dim", highlight=False)
