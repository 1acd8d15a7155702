"""What `synth` and `merge` print about a run in the end."""

import argparse
import json
import sys


def print_outcome(args: argparse.Namespace, outcome) -> None:
    """What became of a run, or of a share of one."""
    from anojax.data.manifest import MANIFEST, REPORT, SHEET

    run, facts = outcome.folder, outcome.facts
    planned = outcome.state == "planned"
    part = planned or "share" in facts  # of a run that another process finishes
    if args.json:
        paths = {"sheet": SHEET, "report": REPORT, "manifest": MANIFEST}
        where = {} if part else {name: str(run / p) for name, p in paths.items()}
        about = {"state": outcome.state, "run": str(run)}
        if outcome.input_left_out:
            about["input_left_out"] = outcome.input_left_out
        print(json.dumps(about | facts | where, indent=1))
        return
    for reason, count in facts.get("left_out_reasons", {}).items():
        print(f"anojax: left out {count}: {reason}", file=sys.stderr)
    if args.quiet:
        # Without --quiet it stands in the plan.
        for reason, count in outcome.input_left_out.items():
            print(f"anojax: left out {count} {reason}", file=sys.stderr)
        return
    speed = ""
    if "images_per_second" in facts:
        rate, seconds = facts["images_per_second"], facts["seconds"]
        speed = f" in {seconds:.1f} s ({rate:.0f} images/s)"
    print(f"{outcome.state}: {facts['images']} images{speed}")
    if planned:
        print("nothing was written (--dry-run)")
    if part:
        return
    print(f"sheet       {run / SHEET}")
    print(f"report      {run / REPORT}")
