"""``anojax demo``: every method on procedural products, nothing to download."""

import argparse
import json
import sys
from pathlib import Path

from anojax.cli.arguments import add_common


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="see every method at work on procedural products",
        description="Draw images of six products, run every method on them with "
        "'anojax synth', and put into a gallery one result of each that makes defects.",
    )
    add = parser.add_argument
    add(
        "--output",
        metavar="DIR",
        default="demo",
        help="folder of the demo (default demo)",
    )
    add(
        "--size",
        type=int,
        default=256,
        metavar="N",
        help="side of the images (default 256)",
    )
    add(
        "--images",
        type=int,
        default=4,
        metavar="N",
        help="images per product (default 4)",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the run (default 0)")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.synthesis.demo import make_demo

    def note(text: str) -> None:
        if not args.json:
            print(text, file=sys.stderr, flush=True)

    made = make_demo(
        Path(args.output), size=args.size, images=args.images, seed=args.seed, note=note
    )
    gallery, reports = str(made.gallery), [str(path) for path in made.reports]
    if args.json:
        print(json.dumps({"gallery": gallery, "reports": reports}))
        return 0
    print(f"\nLook at     {gallery}   (of each method its most visible result)")
    print(f"and at      {reports[0]}   (open in a browser)")
    print("Your turn:  anojax synth --method cutpaste,draem --input DIR --output RUN")
    return 0
