"""``anojax preview``: sixteen images of the run to come, on one sheet."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from anojax.cli.arguments import (
    add_common,
    add_execution,
    add_synthesis,
    start_devices,
    synthesis_config,
)
from anojax.errors import DataError

EXAMPLES = 16


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "preview",
        help="see 16 examples before a run",
        description="Make 16 of the images that 'anojax synth' would make with the "
        "same arguments, and show them on one sheet: normal, anomalous, outline of the "
        "mask, difference.",
    )
    add_synthesis(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="sheet.png",
        help="the sheet, .png or .jpg (default sheet.png)",
    )
    add_execution(parser)
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax.cli.describe import describe
    from anojax.cli.learned import load_parameters
    from anojax.cli.prepare import prepare
    from anojax.data.files import make_folder
    from anojax.data.pipeline import synthesize
    from anojax.report import sheet

    output = Path(args.output)
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg") or output.is_dir():
        raise DataError(f"--output {output}: name an image that ends in .png or .jpg")
    job = prepare(*load_parameters(synthesis_config(args), args.devices))
    quiet = args.quiet or args.json
    if not quiet:
        print(describe(job))
        print(f"output      {output} ({EXAMPLES} of these images)", flush=True)
    devices = start_devices(args.devices)
    methods = [synth.name for synth in job.plan.methods]
    made = sorted(
        synthesize(
            job.plan,
            _spread(job.plan),
            batch_size=args.batch_size or -(-EXAMPLES // len(methods)),
            devices=devices,
        ),
        key=lambda each: (each.job.method, each.job.index),
    )
    examples = [
        sheet.Example(methods[m.job.method], m.normal, m.image, m.mask)
        for m in made
        if m.reason is None
    ]
    left_out = [m.reason for m in made if m.reason is not None]
    if not examples:
        raise DataError(f"not one example could be made: {left_out[0]}")
    make_folder(output.parent)
    sheet.save(sheet.contact_sheet(examples), output)
    if args.json:
        facts = {"sheet": str(output), "examples": len(examples), "left_out": left_out}
        print(json.dumps(facts, indent=1))
    elif not quiet:
        for reason in left_out:
            print(f"left out: {reason}")
        print(f"sheet       {output}")
    return 0


def _spread(plan) -> Iterator:
    """Sixteen jobs of the run: all methods on images spread evenly over all."""
    used = sum(plan.draws_of(i) > 0 for i in range(len(plan.images)))
    wanted = min(used, -(-EXAMPLES // len(plan.methods)))
    places = {round(i * (used - 1) / max(1, wanted - 1)) for i in range(wanted)}
    chosen = (
        job
        for job in plan.jobs()
        if job.image in places and (job.draw_of_image == 0 or used < wanted)
    )
    for number, job in enumerate(chosen):
        if number == EXAMPLES:
            return
        yield job
