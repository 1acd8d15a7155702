"""``anojax bench``: what methods and whole runs cost, honestly."""

import argparse
import dataclasses
import json
import sys
from typing import Any

from anojax.cli.arguments import add_common, parse_size
from anojax.errors import SettingError

RANDOM = "learns; timed with random parameters"


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure the speed of methods, or of whole runs",
        description="Time synthesis on the device alone: images lie there already, "
        "results stay there. The bound is the device's measured copy bandwidth. With "
        "--end-to-end, time whole runs instead, from files to files, stage by stage.",
    )
    add = parser.add_argument
    add(
        "--method",
        metavar="M[,M...]",
        help="methods to time (default: all that need no training)",
    )
    add(
        "--size",
        default="256",
        metavar="N|HxW",
        help="side of the images (default 256)",
    )
    add(
        "--channels",
        type=int,
        default=3,
        choices=(1, 3),
        help="channels of the images, 1 or 3 (default 3)",
    )
    add(
        "--batch-size",
        metavar="N[,N...]",
        help="images at a time; of several, the fastest is shown (default: 64 and more "
        "on a CPU; 64, 256 and 1024 for each accelerator)",
    )
    add("--devices", type=int, metavar="N", help="how many devices to use (all)")
    add(
        "--seconds",
        type=float,
        metavar="S",
        help="seconds of timing for each method and batch size (default 3)",
    )
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="as in synth")
    add("--end-to-end", action="store_true", help="time a run, from files to files")
    add("--input", metavar="DIR", help="with --end-to-end: images (default: drawn)")
    add(
        "--images",
        type=int,
        metavar="N",
        help="with --end-to-end: how many are drawn (default 200)",
    )
    add("--format", metavar="mvtec|tfds", help="with --end-to-end: as in synth")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table.

    Raises:
      SettingError: a number is out of its range, or an option does not belong here.
    """
    from anojax import registry
    from anojax.cli.arguments import method_settings
    from anojax.data.config import DataConfig

    # Without names: the networks of methods that learn can be very large.
    methods = tuple(args.method.split(",")) if args.method else registry.untrained()
    data = DataConfig(size=parse_size(args.size))
    chosen = method_settings(methods, {}, args.set)
    batches = _batches(args.batch_size)
    runs = {"--input": args.input, "--images": args.images, "--format": args.format}
    given = [name for name, value in runs.items() if value is not None]
    if args.end_to_end:
        if args.seconds is not None:
            raise SettingError("--seconds is for methods alone; leave it out")
        return _end_to_end(args, methods, chosen, data, batches)
    if given:
        raise SettingError(f"{given[0]} needs --end-to-end")
    if args.seconds is not None and not args.seconds > 0:
        raise SettingError(f"--seconds is {args.seconds:g}; give more than 0")
    return _methods(args, methods, chosen, data, batches)


def _batches(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise SettingError(
            f"--batch-size is '{text}'; write a number from 1 on, or several: 64,256"
        )
    return tuple(sorted({int(word) for word in words}))


def _methods(args, methods, chosen, data, batches) -> int:
    from anojax.builders import make_synthesizer
    from anojax.environment import start_devices
    from anojax.evaluation.bench import bench, check_batches, default_batches

    synths = [make_synthesizer(name, chosen.get(name, {})) for name in methods]
    devices = start_devices(args.devices)
    shape = (*data.shape, args.channels)
    batches = batches or default_batches(devices)
    check_batches(batches, shape, devices)
    rows = list(
        bench(
            synths,
            shape=shape,
            devices=devices,
            batch_sizes=batches,
            seconds=3.0 if args.seconds is None else args.seconds,
            note=_note,
        )
    )
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    notes = [
        f"{rows[0]['device']}, {'x'.join(map(str, shape))}, "
        f"copies at {rows[0]['copy_bandwidth'] / 1e9:.1f} GB/s. bound us: moving "
        "KiB/image, what must cross the border as uint8, at that speed; of copy: "
        "bound us / us/image; XLA KiB: the compiler's estimate of all accesses, loop "
        "bodies counted once; MiB: what the program holds on each device."
    ]
    if rows[0]["device_peak_bytes"] is not None:
        peak = max(row["device_peak_bytes"] for row in rows) / 2**20
        notes.append(f"Most memory in use on one device at any time: {peak:,.0f} MiB.")
    if any(row["random_parameters"] for row in rows):
        notes.append(f"* {RANDOM}")
    _print(args, _METHOD_HEADS, [_method_cells(row) for row in rows], notes)
    return 0


def _end_to_end(args, methods, chosen, data, batches) -> int:
    from anojax.synthesis.config import SynthConfig
    from anojax.synthesis.end_to_end import STAGES, time_run

    if args.images is not None and (args.input is not None or args.images < 1):
        raise SettingError(
            f"--images is {args.images}; give 1 or more, and no --input beside it"
        )
    if batches is not None and len(batches) > 1:
        raise SettingError("--end-to-end takes one --batch-size")
    data = dataclasses.replace(data, input=args.input or "", gray=args.channels == 1)
    config = SynthConfig(
        data=data, methods=methods, settings=chosen, format=args.format or "mvtec"
    )
    result = time_run(
        config,
        images=args.images or 200,
        batch_size=batches and batches[0],
        devices=args.devices,
        note=_note,
    )
    if args.json:
        print(json.dumps(dataclasses.asdict(result), indent=1))
        return 0
    heads = ("stage", "seconds", "CPU s", "us/image", "share", "what it is")
    rows = [
        (
            name,
            f"{each.seconds:.2f}",
            f"{each.cpu:.2f}",
            f"{each.us_per_image:,.0f}",
            f"{each.share:.0%}",
            STAGES[name],
        )
        for name, each in result.stages.items()
    ]
    notes = [
        f"{result.images} images in {result.seconds:.1f} s "
        f"({result.images_per_s:,.0f} images/s); {result.cpu_seconds:.1f} CPU seconds "
        f"on {result.cores} cores, compiling included; {result.device}.",
        "Seconds of stages in threads are added up, and hold waiting for a core.",
        f"Most memory: host {result.host_peak_bytes / 2**20:,.0f} MiB"
        + (
            ", of which the device's is part."
            if result.device_peak_bytes is None
            else f", device {result.device_peak_bytes / 2**20:,.0f} MiB."
        ),
    ]
    _print(args, heads, rows, notes)
    return 0


_METHOD_HEADS = (
    "method",
    "images/s",
    "spread",
    "us/image",
    "bound us",
    "of copy",
    "batch",
    "compile s",
    "KiB/image",
    "XLA KiB",
    "MiB",
)


def _method_cells(row: dict[str, Any]) -> tuple[str, ...]:
    xla, memory = row["xla_bytes"], row["device_bytes"]
    return (
        row["method"] + "*" * row["random_parameters"],
        f"{row['images_per_s']:,.0f}",
        f"{row['spread']:.0%}",
        f"{row['us_per_image']:,.1f}",
        f"{row['bound_us']:,.1f}",
        f"{row['copy_fraction']:.1%}",
        f"{row['batch']}",
        f"{row['compile_s']:.1f}",
        f"{row['border_bytes'] / 1024:,.0f}",
        "-" if xla is None else f"{xla / 1024:,.0f}",
        "-" if memory is None else f"{memory / 2**20:,.0f}",
    )


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(args, heads, rows, notes) -> None:
    if args.markdown:
        print("| " + " | ".join(heads) + " |")
        print("|---|" + "--:|" * (len(heads) - 1))
        for row in rows:
            print("| " + " | ".join(row) + " |")
        for text in notes:
            print("\n" + text.replace("*", "\\*"))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(heads):
        left = i == 0 or head == "what it is"
        table.add_column(head, justify="left" if left else "right")
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(100, Console().width))  # wide enough for every column
    console.print(table)
    for text in notes:
        console.print(text, style="dim", markup=False)
