"""``anojax show-run RUN``: what a finished run holds, in numbers."""

import argparse
import dataclasses
import json
from pathlib import Path

from anojax.cli.arguments import add_common


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "show-run",
        help="show what a run holds, in numbers",
        description="Count the images of a finished run, by method and in total: "
        "anomalous and empty ones, those drawn again, those left out, and the areas "
        "and contrasts of their defects. Everything is read from the manifest; 'anojax "
        "verify' looks at the images.",
    )
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.synthesis.summary import summarize

    found = summarize(Path(args.folder))
    if args.json:
        print(json.dumps(dataclasses.asdict(found), indent=1, default=str))
    else:
        _print(found)
    return 0


def _print(found) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", style="cyan", no_wrap=True)
    for head in ("images", "anomalous", "empty", "redrawn", "left out"):
        table.add_column(head, justify="right", no_wrap=True)
    for head in ("area %", "contrast"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, numbers in found.methods.items():
        table.add_row(name, *_cells(numbers))
    if len(found.methods) > 1:
        table.add_row("total", *_cells(found.total), style="bold")
    # Wide enough for every column.
    console = Console(width=max(100, Console().width), highlight=False)
    console.print(table)
    console.print("area and contrast: least, median and most", style="dim")
    for reason, count in found.left_out_reasons.items():
        console.print(f"left out {count}: {reason}", markup=False)


def _cells(numbers) -> tuple[str, ...]:
    counts = ("images", "anomalous", "empty", "redrawn", "left_out")
    return (
        *(f"{getattr(numbers, name):,}" for name in counts),
        _spread(numbers.area, 100),
        _spread(numbers.contrast, 1),
    )


def _spread(spread, scale: int) -> str:
    if spread is None:
        return "-"
    values = (spread.min, spread.median, spread.max)
    return "  ".join(f"{scale * value:.3g}" for value in values)
