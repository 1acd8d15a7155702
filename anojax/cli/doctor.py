"""``anojax doctor``: look at a folder before any device works on it."""

import argparse
import dataclasses
import json

from anojax.cli.arguments import (
    add_common,
    add_synthesis,
    synthesis_config,
)

FAILED = 1
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan", "ok": "green"}


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check images, masks and settings",
        description="Check what 'anojax synth' would read with the same arguments: "
        "images, masks, layout, leaks, textures, memory; and what each folder is taken "
        "for. Nothing is written. Ends "
        "with code 1 if something would stop a run.",
    )
    add_synthesis(parser)
    parser.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="images at a time, for the estimate of memory",
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.data.check import Finding, check
    from anojax.data.decision import places
    from anojax.data.masks import parse_classes
    from anojax.environment import start_devices
    from anojax.errors import AnojaxError
    from anojax.synthesis.learned import load_parameters
    from anojax.synthesis.prepare import make_methods

    config = synthesis_config(args, need_method=False)
    devices = start_devices()
    data = config.data
    findings = check(
        data.input,
        layout=data.layout,
        normal=data.normal,
        bits=data.bits,
        frames=data.frames,
        mask_classes=data.mask_classes,
        gray=data.gray,
        textures=data.textures,
        foreground=data.foreground,
        region=data.region,
        size=data.shape,
        batch=args.batch_size or max(64, 16 * len(devices)),
    )
    try:
        make_methods(load_parameters(config)[0])
    except AnojaxError as error:
        methods = ", ".join(config.methods)
        findings.insert(0, Finding("error", str(error), methods, ""))
    table = places(
        data.input,
        data.layout,
        normal=data.normal,
        classes=parse_classes(data.mask_classes),
    )
    if args.json:
        facts = {"folders": table, "findings": findings}
        rows = {k: [dataclasses.asdict(row) for row in v] for k, v in facts.items()}
        print(json.dumps(rows, indent=1))
    else:
        _print_places(table)
        _print(findings)
    return FAILED if any(f.level == "error" for f in findings) else 0


def _print_places(rows) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("folder", "images", "taken for"):
        table.add_column(title, justify="right" if title == "images" else "left")
    for row in rows:
        table.add_row(Text(row.folder), str(row.images), Text(row.taken))
    if rows:
        Console().print(table)


def _print(findings) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in findings:
        text = Text(finding.what)
        text.append(f"\n{finding.where}", style="dim")
        if finding.fix:
            text.append(f"\n-> {finding.fix}")
        table.add_row(Text(finding.level, style=STYLES[finding.level]), text)
    Console().print(table)
