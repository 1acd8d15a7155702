"""``anojax merge SHARE... --output RUN``: shares of a run become the run."""

import argparse
from pathlib import Path

from anojax.cli.arguments import add_common, add_execution, printer
from anojax.cli.outcome import print_outcome


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "merge",
        help="join the shares of a run",
        description="Join what 'anojax synth --share I/N' made, in folders of their own "
        "or in one that all processes see, into the run that one process would have "
        "made: the same bytes. The normal images must be where the shares found them.",
    )
    add = parser.add_argument
    add("shares", metavar="SHARE", nargs="+", help="folders of the shares")
    add(
        "--output",
        metavar="DIR",
        help="folder of the run (default: the one folder that all shares are in)",
    )
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.synthesis.together import merge_shares

    outcome = merge_shares(
        [Path(folder) for folder in args.shares],
        None if args.output is None else Path(args.output),
        batch_size=args.batch_size,
        devices=args.devices,
        quiet=args.quiet or args.json,
        note=printer(args),
    )
    print_outcome(args, outcome)
    return 0
