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
        description="Draw pictures of six products, run every method on them with "
        "'anojax synth', and put one result of each into a gallery.",
    )
    add = parser.add_argument
    add("--output", metavar="DIR", default="demo", help="folder (default demo)")
    add("--size", type=int, default=256, metavar="N", help="side (default 256)")
    add("--pictures", type=int, default=4, metavar="N", help="per product (default 4)")
    add("--seed", type=int, default=0, metavar="N", help="seed (default 0)")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax import registry
    from anojax.cli.arguments import start_devices
    from anojax.data import samples
    from anojax.report import html, sheet

    if args.pictures < 1 or args.size < 32:
        raise SettingError(
            f"demo: --pictures {args.pictures} and --size {args.size} must be at "
            "least 1 and 32"
        )
    start_devices()
    out = Path(args.output)
    products = out / "products"
    methods = registry.names()
    size = f"{args.size} x {args.size}"
    _say(args, f"drawing {len(PRODUCTS)} products, {args.pictures} of each, {size}")
    samples.write_samples(products, PRODUCTS, args.pictures, args.size, args.seed)
    rows = {method: [] for method in methods}
    for product in PRODUCTS:
        folder = _synthesize(args, products / product, out / "runs" / product, methods)
        # The first example of each method that is not empty.
        for row in reversed(html.samples(folder, args.pictures)):
            example = html.load_example(folder, row)
            rows[row["method"]] = [
                e for e in rows[row["method"]] if e[0] != product
            ] + [(product, example)]
    shown = {m: [e for _, e in found] for m, found in rows.items() if found}
    sheet.save(sheet.gallery(shown, PRODUCTS), out / "gallery.png")
    reports = [out / "runs" / p / "report.html" for p in PRODUCTS]
    if args.json:
        print(
            json.dumps(
                {
                    "gallery": str(out / "gallery.png"),
                    "reports": list(map(str, reports)),
                }
            )
        )
        return 0
    print(f"\nLook at     {out / 'gallery.png'}   (every method on every product)")
    print(f"and at      {reports[0]}   (open in a browser)")
    print("Your turn:  anojax synth --method cutpaste,draem --input DIR --output RUN")
    return 0


def _synthesize(args, product: Path, run: Path, methods) -> Path:
    from anojax.cli.__main__ import main

    _say(args, f"{product.name}: {len(methods)} methods")
    foreground = product / "foreground"
    command = ["synth", "--quiet", "--method", ",".join(methods)]
    command += ["--input", str(product / "train" / "good"), "--output", str(run)]
    command += ["--size", str(args.size), "--seed", str(args.seed)]
    command += ["--foreground", str(foreground), "--overwrite"]
    if code := main(command):
        raise RunError(f"demo stopped: synth failed on {product.name} (exit {code})")
    (found,) = [p for p in run.rglob("manifest.jsonl")]
    return found.parent


def _say(args, line: str) -> None:
    if not args.json:
        print(line, file=sys.stderr, flush=True)
