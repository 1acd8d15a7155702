"""``anojax verify RUN``: make every image again and compare, pixel by pixel."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from anojax.cli.arguments import add_common, add_execution, printer

FAILED = 1
SHOWN = 20


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="regenerate a run and compare",
        description="Make the images of a finished run again from its config.yaml, and "
        "compare them and everything else that the run holds: pixels, hashes, every "
        "value of every line, nothing missing, nothing added. Ends with code 1 if "
        "anything differs.",
    )
    add = parser.add_argument
    add("folder", metavar="RUN", help="folder of the run")
    add("--row", type=int, metavar="N", help="check line N of the manifest alone")
    add("--input", metavar="DIR", help="where the normal images are now")
    add("--checkpoint", metavar="RUN", help="where the training run is now")
    add(
        "--repair",
        action="store_true",
        help="write again what is missing or damaged; nothing is removed",
    )
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.synthesis.verify import verify_run

    found = verify_run(
        Path(args.folder),
        row=args.row,
        input=args.input,
        checkpoint=args.checkpoint,
        batch_size=args.batch_size,
        devices=args.devices,
        repair=args.repair,
        note=printer(args),
    )
    return _report(args, found)


def _report(args, found) -> int:
    problems, count = found.problems, found.compared
    if args.json:
        facts = {"compared": count, "repaired": found.repaired}
        listed = [dataclasses.asdict(problem) for problem in problems]
        print(json.dumps(facts | {"problems": listed}, indent=1))
    elif problems:
        for problem in problems[:SHOWN]:
            print(problem, file=sys.stderr)
        more = f", the first {SHOWN} are listed" if len(problems) > SHOWN else ""
        left = " left" if found.repaired else ""
        noun = "finding" if len(problems) == 1 else "findings"
        print(
            f"anojax: {len(problems)} {noun}{left}; {count} images compared{more}",
            file=sys.stderr,
        )
    elif not args.quiet:
        print(f"all {count} images agree{', repaired' if found.repaired else ''}")
    return FAILED if problems else 0
