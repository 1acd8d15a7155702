"""``anojax verify RUN``: make every image again and compare, pixel by pixel."""

import argparse
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
        description="Make the images of a finished run again from its manifest and "
        "config.yaml, and compare them with the files: same pixels, same hashes, "
        "nothing missing. Ends with code 1 if anything differs.",
    )
    parser.add_argument("folder", metavar="RUN", help="folder of the run")
    parser.add_argument("--row", type=int, metavar="N", help="line N of the manifest")
    parser.add_argument(
        "--input", metavar="DIR", help="where the normal images are now"
    )
    parser.add_argument(
        "--checkpoint", metavar="RUN", help="where the training run is now"
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
        note=printer(args),
    )
    return _report(args, found.compared, found.problems, args.quiet or args.json)


def _report(args, count: int, problems: list, quiet: bool) -> int:
    if args.json:
        print(json.dumps({"compared": count, "problems": problems}, indent=1))
    elif problems:
        for problem in problems[:SHOWN]:
            print(
                f"line {problem['line']} {problem['image']}: {problem['problem']}",
                file=sys.stderr,
            )
        more = f", the first {SHOWN} are listed" if len(problems) > SHOWN else ""
        print(
            f"anojax: {len(problems)} of {count} images differ{more}",
            file=sys.stderr,
        )
    elif not quiet:
        print(f"all {count} images agree")
    return FAILED if problems else 0
