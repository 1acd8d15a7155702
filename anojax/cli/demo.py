"""``anojax demo``: every method on procedural products, nothing to download."""

import argparse
import json
import sys
from pathlib import Path

from anojax.cli.arguments import add_common
from anojax.errors import RunError, SettingError

PRODUCTS = ("brushed_metal", "fabric", "wood", "tile", "circuit_board", "bottle")


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="see every method at work on procedural products",
        description="Draw images of six products, run every method on them with "
        "'anojax synth', and put one result of each into a gallery.",
    )
    add = parser.add_argument
    add("--output", metavar="DIR", default="demo", help="folder (default demo)")
    add("--size", type=int, default=256, metavar="N", help="side (default 256)")
    add("--images", type=int, default=4, metavar="N", help="per product (default 4)")
    add("--seed", type=int, default=0, metavar="N", help="seed (default 0)")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax import registry
    from anojax.cli.arguments import start_devices
    from anojax.data import samples
    from anojax.data.manifest import read_rows
    from anojax.report import html, sheet

    if args.images < 1 or args.size < 32:
        raise SettingError(
            f"demo: --images {args.images} and --size {args.size} must be at "
            "least 1 and 32"
        )
    start_devices()
    out = Path(args.output)
    products = out / "products"
    methods = registry.untrained()
    size = f"{args.size} x {args.size}"
    _say(args, f"drawing {len(PRODUCTS)} products, {args.images} of each, {size}")
    samples.write_samples(products, PRODUCTS, args.images, args.size, args.seed)
    shown = {method: [] for method in methods}
    for number, product in enumerate(PRODUCTS):
        # Another seed for each product: the same one would repeat the shapes.
        folder = _synthesize(args, products / product, out, methods, args.seed + number)
        rows = list(read_rows(folder))
        for method in methods:
            made = [r for r in rows if r["method"] == method]
            if not made:
                raise RunError(f"demo: {method} made nothing of {product}")
            shown[method].append(html.load_example(folder, max(made, key=_visible)))
    sheet.save(sheet.gallery(shown, PRODUCTS), out / "gallery.jpg")
    reports = [out / "runs" / p / "report.html" for p in PRODUCTS]
    if args.json:
        print(
            json.dumps(
                {
                    "gallery": str(out / "gallery.jpg"),
                    "reports": list(map(str, reports)),
                }
            )
        )
        return 0
    print(
        f"\nLook at     {out / 'gallery.jpg'}   (of each method its most visible result)"
    )
    print(f"and at      {reports[0]}   (open in a browser)")
    print("Your turn:  anojax synth --method cutpaste,draem --input DIR --output RUN")
    return 0


def _visible(row: dict) -> float:
    """How easily a defect is seen in a small image: by contrast, then by size."""
    return (row["contrast"] or 0.0) * min(row["area"], 0.05) ** 0.5


def _synthesize(args, product: Path, out: Path, methods, seed: int) -> Path:
    from anojax.cli.__main__ import main

    run = out / "runs" / product.name

    _say(args, f"{product.name}: {len(methods)} methods")
    foreground = product / "foreground"
    command = ["synth", "--quiet", "--method", ",".join(methods)]
    command += ["--input", str(product / "train" / "good"), "--output", str(run)]
    command += ["--size", str(args.size), "--seed", str(seed)]
    command += ["--foreground", str(foreground), "--overwrite"]
    if code := main(command):
        raise RunError(f"demo stopped: synth failed on {product.name} (exit {code})")
    return run


def _say(args, line: str) -> None:
    if not args.json:
        print(line, file=sys.stderr, flush=True)
