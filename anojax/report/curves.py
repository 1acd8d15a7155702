"""The curves of an evaluation: their points, and a drawing where matplotlib is."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from anojax.errors import AnojaxError
from anojax.evaluation.detection import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCHES, DPI = 3.2, 130


@dataclass(frozen=True)
class Plot:
    """One curve."""

    title: str
    x_label: str
    y_label: str
    x: Float[np.ndarray, " n"]
    """Ascending, from 0."""
    y: Float[np.ndarray, " n"]
    """In [0, 1]."""
    x_max: float = 1.0
    """Where the curve ends; what lies beyond is not shown."""
    diagonal: bool = False
    """Whether chance is the diagonal."""

    def shown(self) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """The points up to `x_max`; the last one lies there."""
        inside = self.x <= self.x_max
        x, y = self.x[inside], self.y[inside]
        if not inside.all():
            x = np.append(x, self.x_max)
            y = np.append(y, np.interp(self.x_max, self.x, self.y))
        return x, y


def plots(result: Result) -> list[Plot]:
    """The curves over everything that are defined: ROC, PR and PRO."""
    found = []
    for what, curve in (("Image", result.image_curve), ("Pixel", result.pixel_curve)):
        if curve is not None:
            rates = curve.false_positive_rate, curve.recall
            axes = "false positive rate", "recall"
            found.append(Plot(f"{what} ROC", *axes, *rates, diagonal=True))
            rates = curve.recall, curve.precision
            found.append(Plot(f"{what} PR", "recall", "precision", *rates))
    curve = result.pixel_curve
    if curve is not None and not math.isnan(result["aupro"]):
        rates = curve.false_positive_rate, curve.overlap
        axes = "false positive rate", "mean overlap of regions"
        found.append(Plot("PRO", *axes, *rates, x_max=result.fpr_limit))
    return found


def as_csv(lines: Sequence[Plot]) -> str:
    """All points, a line each: name of the curve, x and y."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("curve", "x", "y"))
    for line in lines:
        for x, y in zip(*line.shown(), strict=True):
            rows.writerow((line.title, f"{x:.6g}", f"{y:.6g}"))
    return text.getvalue()


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def draw(lines: Sequence[Plot]) -> "Figure":
    """All curves side by side, as a figure of matplotlib.

    Args:
      lines: at least one.

    Raises:
      AnojaxError: matplotlib is not installed.
    """
    if not can_draw():
        raise AnojaxError("curves are drawn by matplotlib; pip install 'anojax[plot]'")
    # No pyplot: it would keep every figure and choose a window system.
    from matplotlib.figure import Figure

    size = INCHES * len(lines), INCHES * 1.1
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    row = figure.subplots(1, len(lines), squeeze=False)[0]
    for axes, line in zip(row, lines, strict=True):
        axes.plot(*line.shown())
        if line.diagonal:
            axes.plot([0, 1], [0, 1], "--", color="gray", linewidth=1)
        axes.set(title=line.title, xlabel=line.x_label, ylabel=line.y_label)
        axes.set(xlim=(0, line.x_max), ylim=(0, 1.02), box_aspect=1)
        axes.grid(alpha=0.4)
    return figure


def as_png(figure: "Figure") -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
