"""``anojax bench``: images per second and compile time of every method, honestly."""

import argparse
import dataclasses
import json
import sys

from anojax.cli.arguments import add_common, parse_size
from anojax.errors import SettingError

RANDOM = "learns; timed with random parameters"


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure the speed of methods",
        description="Time synthesis on the device alone: images lie there already, "
        "results stay there. The bound is the device's measured copy bandwidth.",
    )
    add = parser.add_argument
    add(
        "--method",
        metavar="M[,M...]",
        help="methods to time (default: all that need no training)",
    )
    add("--size", default="256", metavar="N|HxW", help="size (default 256)")
    add("--channels", type=int, default=3, choices=(1, 3), help="1 or 3 (default 3)")
    add("--batch-size", type=int, default=64, metavar="N", help="default 64")
    add("--devices", type=int, metavar="N", help="how many devices to use (all)")
    add("--seconds", type=float, default=3.0, metavar="S", help="per method")
    add("--set", action="append", default=[], metavar="FIELD=VALUE", help="as in synth")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, and print a line for each method.

    Raises:
      SettingError: a number is out of its range.
    """
    from anojax import registry
    from anojax.builders import make_synthesizer
    from anojax.cli.arguments import method_settings

    # Without names: the networks of methods that learn can be very large.
    methods = tuple(args.method.split(",")) if args.method else registry.untrained()
    size = parse_size(args.size)
    if args.batch_size < 1 or args.seconds <= 0 or min(size) < 16:
        raise SettingError(
            f"bench: --batch-size {args.batch_size}, --seconds {args.seconds:g} and "
            f"--size {args.size} must be at least 1, above 0 and at least 16"
        )
    chosen = method_settings(methods, {}, args.set)
    synths = [make_synthesizer(m, chosen.get(m, {})) for m in methods]
    rows = list(_rows(args, synths, size))
    if args.json:
        print(json.dumps(rows, indent=1))
    elif args.markdown:
        print(_markdown(rows))
    else:
        _print(rows)
    return 0


def _rows(args, synths, size):
    from anojax.environment import start_devices

    devices = start_devices(args.devices)
    if args.batch_size % len(devices):
        raise SettingError(
            f"--batch-size is {args.batch_size}, which {len(devices)} devices cannot "
            f"share equally; give a multiple of {len(devices)}, or other --devices"
        )

    import jax

    from anojax.data import samples, textures
    from anojax.evaluation import speed
    from anojax.types import Bank

    # A hit in the persistent cache would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    what = f"{len(devices)} x {devices[0].device_kind}, batch {args.batch_size}"
    print(f"{what}, {size[0]}x{size[1]}x{args.channels}", file=sys.stderr)
    images, _ = samples.make("tile", 32, size=size, seed=0)
    images = images[..., : args.channels]
    bandwidth = speed.copy_bandwidth(devices)
    print(f"copy bandwidth {bandwidth / 1e9:.1f} GB/s", file=sys.stderr)
    grain = textures.texture_bank(None, size=size, channels=args.channels)
    for synth in synths:
        bank = None
        if "texture" in synth.needs:
            bank = Bank(grain)
        elif "normal" in synth.needs:
            bank = Bank(images)
        row = speed.measure(
            synth,
            images,
            bank,
            batch_size=args.batch_size,
            seconds=args.seconds,
            bandwidth=bandwidth,
            devices=devices,
        )
        random = synth.learns
        note = f" ({RANDOM})" if random else ""
        print(f"{row.method}: {row.images_per_s:,.0f} images/s{note}", file=sys.stderr)
        yield dataclasses.asdict(row) | {
            "random_parameters": random,
            "device": f"{len(devices)} x {devices[0].device_kind}",
            "copy_bandwidth": bandwidth,
        }


_HEADS = (
    "method",
    "images/s",
    "spread",
    "compile s",
    "KiB/image",
    "XLA KiB",
    "of copy",
)


def _cells(row: dict) -> tuple[str, ...]:
    xla = row["xla_bytes"]
    return (
        row["method"] + "*" * row["random_parameters"],
        f"{row['images_per_s']:,.0f}",
        f"{row['spread']:.0%}",
        f"{row['compile_s']:.1f}",
        f"{row['border_bytes'] / 1024:,.0f}",
        "-" if xla is None else f"{xla / 1024:,.0f}",
        f"{row['copy_fraction']:.1%}",
    )


def _markdown(rows: list[dict]) -> str:
    lines = ["| " + " | ".join(_HEADS) + " |", "|---|" + "--:|" * (len(_HEADS) - 1)]
    lines += ["| " + " | ".join(_cells(r)) + " |" for r in rows]
    if any(row["random_parameters"] for row in rows):
        lines += ["", f"\\* {RANDOM}"]
    return "\n".join(lines)


def _print(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(_HEADS):
        table.add_column(head, justify="right" if i else "left")
    for row in rows:
        table.add_row(*_cells(row))
    Console().print(table)
    Console().print(
        "KiB/image: what must cross the border as uint8; XLA KiB: the compiler's "
        "estimate of all accesses, loop bodies counted once; of copy: speed relative "
        "to moving KiB/image at the measured copy bandwidth.",
        style="dim",
    )
    if any(row["random_parameters"] for row in rows):
        Console().print(f"* {RANDOM}", style="dim")
