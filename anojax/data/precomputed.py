"""Anomalies made beforehand: a run of `anojax synth` as a source for training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anojax.data.manifest import read_rows
from anojax.data.readback import example
from anojax.errors import DataError
from anojax.types import Inputs, Synthesis


@dataclass(frozen=True)
class PrecomputedRun:
    """The images of a run, in either format, in the order of its manifest."""

    run: Path
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Inputs, Synthesis]:
        """The normal image and the anomaly made from it."""
        row = self.rows[index]
        normal, image, mask = example(self.run, row)
        soft = (mask > 0).astype(np.uint8) * np.uint8(255)
        anomalous = np.bool_(mask.any())
        precomputed = Synthesis(
            image=image,
            mask=soft,
            alpha=soft,
            label=np.int32(anomalous),
            anomalous=anomalous,
        )
        return Inputs(image=normal), precomputed


def read_run(run: str | Path, *, method: str | None = None) -> PrecomputedRun:
    """Open a run.

    Args:
      run: folder that `anojax synth` wrote, in 8 bits and of one size.
      method: only anomalies of this method.

    Raises:
      DataError: nothing of that method is in it.
    """
    rows = tuple(row for row in read_rows(Path(run)) if method in (None, row["method"]))
    if not rows:
        what = "nothing" if method is None else f"nothing of method '{method}'"
        raise DataError(f"{run} holds {what}; make it with 'anojax synth'")
    return PrecomputedRun(Path(run), rows)
