"""Train several methods on the same images, one after the other.

    python train/methods.py draem nsa length="20 epochs" --input data/bottle --output runs

Each run goes to OUTPUT/<method>; runs that are complete are not trained again, so the
same command continues where it was interrupted.
"""

import argparse
import sys
from pathlib import Path

from anojax.cli.__main__ import main as anojax

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "train"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("words", nargs="+", metavar="METHOD | KEY=VALUE")
    parser.add_argument("--input", required=True, help="folder of good parts")
    parser.add_argument("--output", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--devices", help="how many devices to use (all)")
    args = parser.parse_args()
    methods = [word for word in args.words if "=" not in word]
    changes = [word for word in args.words if "=" in word]
    devices = ["--devices", args.devices] if args.devices else []
    for method in methods:
        config, output = CONFIGS / f"{method}.yaml", args.output / method
        changed = [f"data.input={args.input}", *changes]
        code = anojax(
            ["train", str(config), *changed, "--output", str(output), *devices]
        )
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
