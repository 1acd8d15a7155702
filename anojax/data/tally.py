"""What the manifest of a finished run says, counted by method."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anojax.data.manifest import read_rows


@dataclass
class Tally:
    """What the manifest says about one method."""

    area: list[float] = field(default_factory=list)
    """Fractions of the image under the mask, of the anomalous images."""
    contrast: list[float] = field(default_factory=list)
    """Mean changes under the mask, fractions of the full range, of the same images."""
    center: list[tuple[float, float]] = field(default_factory=list)
    """Of the boxes: x and y as fractions of the image's width and height."""
    images: int = 0
    empty: int = 0
    redrawn: int = 0

    def add(self, row: dict[str, Any]) -> None:
        """Count a row of the manifest."""
        self.images += 1
        self.redrawn += row["draw"] > 0
        if not row["anomalous"]:
            self.empty += 1
            return
        self.area.append(row["area"])
        self.contrast.append(row["contrast"])
        # A damaged row may be anomalous without a box.
        if row["box"] is not None and 0 not in row["size"]:
            (height, width), (x0, y0, x1, y1) = row["size"], row["box"]
            self.center.append(((x0 + x1) / 2 / width, (y0 + y1) / 2 / height))


def tally(run: Path) -> dict[str, Tally]:
    """Counts and distributions by method, from the manifest.

    Raises:
      RunError: there is no manifest, or a line of it is broken.
    """
    tallies: dict[str, Tally] = {}
    for row in read_rows(run):
        tallies.setdefault(row["method"], Tally()).add(row)
    return tallies
