"""Train and score several configurations under several seeds, and write one table.

    python train/compare.py configs/train/draem_tile_cpu.yaml \\
        configs/train/riad_tile_cpu.yaml --seeds 0 1 --input data/magnetic_tile \\
        --output runs/tile

Each run goes to OUTPUT/<configuration>/<seed>, and the table of all of them to
OUTPUT/scores.md and OUTPUT/scores.json. The configurations are those of methods with a
detector. The same command continues where it was interrupted. The table says how long
training took; measure that on a quiet machine.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

METRICS = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
HEADS = ("image AUROC", "pixel AUROC", "pixel AP", "AUPRO")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("configs", nargs="+", type=Path)
    add("--input", required=True, help="category in MVTec layout, with a test folder")
    add("--output", required=True, type=Path, help="folder of the runs")
    add("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    rows = []
    for seed in args.seeds:
        for config in args.configs:
            run = args.output / config.stem / str(seed)
            try:
                rows.append(one(config, seed, args.input, run))
            except subprocess.CalledProcessError as failed:
                return failed.returncode
            write(rows, args.output)
    return 0


def one(config: Path, seed: int, folder: str, run: Path) -> dict:
    """Train, score, and the row of the table."""
    facts = run / "scored.json"
    if facts.exists():
        return json.loads(facts.read_text())
    train = [str(config), f"data.input={folder}", f"seed={seed}"]
    started = time.perf_counter()
    anojax("train", *train, "--output", str(run))
    minutes = (time.perf_counter() - started) / 60
    anojax("eval", str(run), "--input", folder, "--output", str(run / "scores"))
    found = json.loads((run / "scores" / "scores.json").read_text())
    row = {"config": config.name, "seed": seed, "minutes": round(minutes, 1), **found}
    facts.write_text(json.dumps(row, indent=1))
    return row


def anojax(*words: str) -> None:
    """A process of its own: what one run compiled and cached is not the next one's."""
    subprocess.run([sys.executable, "-m", "anojax", *words], check=True)


def write(rows: list[dict], folder: Path) -> None:
    (folder / "scores.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        f"| configuration | seed | minutes | {' | '.join(HEADS)} |",
        f"|---|--:|--:|{'--:|' * len(HEADS)}",
    ]
    for row in sorted(rows, key=lambda r: (r["config"], r["seed"])):
        everything = row["rows"][0]
        scores = " | ".join(f"{100 * everything[m]:.1f}" for m in METRICS)
        head = f"{row['config']} | {row['seed']} | {row['minutes']}"
        lines.append(f"| {head} | {scores} |")
    (folder / "scores.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
