"""``anojax new-method``: the files with which a new method begins."""

import argparse
import json
from pathlib import Path

from anojax.cli.arguments import add_common


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "new-method",
        help="write the first version of a new method",
        description="Write a method, its test and, if it is to be trained, a "
        "configuration into a clone of anojax. They run and pass all tests as they "
        "are; CONTRIBUTING.md says how to go on.",
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="name of the method, for instance my_scratches")
    add(
        "--paradigm",
        metavar="P",
        help="handcrafted, distribution, generative or vlm (that of the survey)",
    )
    add("--family", metavar="F", help="family in the paradigm (that of the survey)")
    add("--trains", action="store_true", help="with a training and a detector")
    add("--root", metavar="DIR", default=".", help="top of the clone (this folder)")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax import skeleton

    files = skeleton.write(
        args.name,
        Path(args.root),
        paradigm=args.paradigm,
        family=args.family,
        trains=args.trains,
    )
    if args.json:
        print(json.dumps([str(file) for file in files]))
        return 0
    for file in files:
        print(f"wrote {file}")
    print(f"test it: pytest tests/contract tests/methods -k {args.name}")
    return 0
