"""``anojax synth``: a folder of normal images in, a data set with defects out."""

import argparse
from pathlib import Path

from anojax.cli.arguments import (
    Parser,
    add_common,
    add_execution,
    add_synthesis,
    printer,
    synthesis_config,
)
from anojax.cli.outcome import print_outcome


def register(subparsers) -> None:
    parser: Parser = subparsers.add_parser(
        "synth",
        help="write a data set of synthetic defects",
        description="Write a data set: normal images, defects, exact masks, a "
        "manifest, a contact sheet and a report. An interrupted run continues when the "
        "same command is given again.",
        lazy_epilog=_methods_help,
    )
    add_synthesis(parser)
    add = parser.add_argument
    add("--output", metavar="DIR", required=True, help="folder of the run")
    add(
        "--format",
        metavar="F[,F]",
        help="layout of the output: mvtec or tfds; mvtec,coco,yolo adds "
        "COCO instances, and YOLO polygons (default mvtec)",
    )
    add("--strict", action="store_true", help="fail on an image that cannot be used")
    add("--overwrite", action="store_true", help="replace the run in --output")
    add("--dry-run", action="store_true", help="check, print the plan and stop")
    add(
        "--distributed",
        action="store_true",
        help="one of several processes that make the run together: a TPU pod, SLURM, "
        "or JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
    add(
        "--share",
        metavar="I/N",
        help="do the I-th of N equal shares of the work; 'anojax merge' joins them",
    )
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def _methods_help() -> str:
    from anojax import registry

    lines = ["methods, and the controls they support:"]
    lines += [
        f"  {name:12} {', '.join(card.controls) or '-'}"
        for name, card in registry.cards().items()
    ]
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Write a run, or a share of one, or say what it would be.

    Raises:
      SettingError: flags that exclude each other.
    """
    from anojax.errors import SettingError
    from anojax.synthesis.run import write_run
    from anojax.synthesis.shares import parse_share
    from anojax.synthesis.together import write_together

    how = {
        "batch_size": args.batch_size,
        "devices": args.devices,
        "strict": args.strict,
        "overwrite": args.overwrite,
        "quiet": args.quiet or args.json,
        "note": printer(args),
    }
    config, folder = synthesis_config(args), Path(args.output)
    if args.distributed or args.share is not None:
        if args.dry_run:
            raise SettingError("--dry-run is about a whole run; leave --share out")
        share = None if args.share is None else parse_share(args.share)
        outcome = write_together(
            config, folder, share=share, distributed=args.distributed, **how
        )
    else:
        outcome = write_run(config, folder, dry_run=args.dry_run, **how)
    print_outcome(args, outcome)
    return 0
