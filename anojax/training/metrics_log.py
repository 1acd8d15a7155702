"""Metric log: JSON lines and CSV always, TensorBoard where it is installed.

``metrics.jsonl`` is the record; ``metrics.csv`` holds the same rows for spreadsheets.
"""

import csv
import json
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from anojax.errors import AnojaxError, RunError


class MetricsLog:
    """Appends rows of numbers to the files of one run.

    Args:
      folder: of the run; made when missing.
      step: the run continues after this step; later rows, of an attempt whose state
        was lost, are dropped.
      tensorboard: write event files too; needs the extra ``tensorboard``.

    Raises:
      RunError: the log that is there already cannot be read.
    """

    def __init__(self, folder: Path, *, step: int = 0, tensorboard: bool = False):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.jsonl, self.csv = folder / "metrics.jsonl", folder / "metrics.csv"
        self.rows = [row for row in read(self.jsonl) if row["step"] <= step]
        self.columns = list(dict.fromkeys(key for row in self.rows for key in row))
        _write_whole(self.jsonl, "".join(map(_line, self.rows)))
        self._write_csv()
        self.board = _tensorboard(folder) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one row."""
        # JSON has no NaN; a score that does not exist is null.
        numbers = {k: float(v) if isfinite(v) else None for k, v in values.items()}
        row = {"step": step, **numbers}
        self.rows.append(row)
        with self.jsonl.open("a") as file:
            file.write(_line(row))
        new = [key for key in row if key not in self.columns]
        self.columns += new
        if new:
            self._write_csv()  # another heading
        else:
            with self.csv.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush what is open."""
        if self.board is not None:
            self.board.close()

    def _write_csv(self) -> None:
        with self.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)


def read(path: Path) -> list[dict[str, float | None]]:
    """The rows of a ``metrics.jsonl``; none when the file is missing.

    A last line that a killed process left unfinished is passed over.

    Raises:
      RunError: a line is damaged.
    """
    if not Path(path).exists():
        return []
    lines = Path(path).read_text().split("\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RunError(f"{path}, line {number} is no JSON; remove it") from error
    return rows


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(row) + "\n"


def _write_whole(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def _tensorboard(folder: Path):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise AnojaxError(
            "tensorboard: true needs tensorboardX; "
            "install 'anojax[tensorboard]' or leave it out"
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
