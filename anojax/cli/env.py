"""``anojax env``: versions, devices and folders, to paste into a bug report."""

import argparse
import json

from anojax.cli.arguments import add_common


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "env",
        help="print versions and devices",
        description="Print versions, devices and folders, to paste into a bug report.",
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.environment import gather

    facts = gather()
    if args.json:
        print(json.dumps(facts, indent=1))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {value}")
    return 0
