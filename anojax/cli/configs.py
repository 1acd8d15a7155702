"""``anojax configs``: the training configurations that come along."""

import argparse
import json

from anojax.cli.arguments import add_common


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "configs",
        help="list the training configurations",
        description="List the training configurations that come with anojax; "
        "'anojax train NAME' takes each of them by its name.",
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.shipped import configs, find_config

    found = configs()
    if args.json:
        rows = [
            {"name": name, "file": str(find_config(name)), "about": about}
            for name, about in found.items()
        ]
        print(json.dumps(rows, indent=1))
        return 0
    width = max(map(len, found))
    for name, about in found.items():
        print(f"{name:{width}}  {about}")
    return 0
