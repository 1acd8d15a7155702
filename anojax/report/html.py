"""One HTML file that tells what a run holds; nothing in it is fetched from elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anojax.data.files import atomic_write
from anojax.data.manifest import REPORT, read_rows
from anojax.data.readback import example
from anojax.report.pages import data_url, render
from anojax.report.sheet import ROWS, Example, views

PER_METHOD = 12
BINS = 24
MOST_CENTERS = 400


@dataclass
class Tally:
    """What the manifest says about one method."""

    area: list[float] = field(default_factory=list)
    contrast: list[float] = field(default_factory=list)
    center: list[tuple[float, float]] = field(default_factory=list)
    images: int = 0
    empty: int = 0
    redrawn: int = 0

    def add(self, row: dict[str, Any]) -> None:
        self.images += 1
        self.redrawn += row["draw"] > 0
        if not row["anomalous"]:
            self.empty += 1
            return
        self.area.append(row["area"])
        self.contrast.append(row["contrast"])
        (height, width), (x0, y0, x1, y1) = row["size"], row["box"]
        self.center.append(((x0 + x1) / 2 / width, (y0 + y1) / 2 / height))


def write_report(
    run: Path,
    *,
    title: str,
    facts: dict[str, str],
    config_text: str,
    left_out: Sequence[dict[str, Any]],
) -> dict[str, Tally]:
    """Write `report.html` into a run whose manifest is written.

    Args:
      run: folder of the run.
      title: heading.
      facts: short lines for the top.
      config_text: the resolved configuration.
      left_out: images that were not made: source, method, reason.

    Returns:
      What was counted, by method.
    """
    tallies = tally(run)
    page = render(
        "run.html",
        title=title,
        facts=list(facts.items()),
        left_out=_grouped(left_out),
        methods=[_distributions(*each) for each in tallies.items()],
        per_method=PER_METHOD,
        figures=[_figure(run, row) for row in samples(run, PER_METHOD)],
        config=config_text,
    )
    atomic_write(run / REPORT, page)
    return tallies


def tally(run: Path) -> dict[str, Tally]:
    """Counts and distributions by method, from the manifest."""
    tallies: dict[str, Tally] = {}
    for row in read_rows(run):
        tallies.setdefault(row["method"], Tally()).add(row)
    return tallies


def samples(run: Path, per_method: int) -> list[dict[str, Any]]:
    """Up to `per_method` anomalous rows of each method, evenly over the run."""
    counts: dict[str, int] = {}
    for row in read_rows(run):
        if row["anomalous"]:
            counts[row["method"]] = counts.get(row["method"], 0) + 1
    wanted = {
        name: set(np.linspace(0, n - 1, min(n, per_method)).round().astype(int))
        for name, n in counts.items()
    }
    seen, picked = dict.fromkeys(counts, 0), []
    for row in read_rows(run):
        if row["anomalous"]:
            if seen[row["method"]] in wanted[row["method"]]:
                picked.append(row)
            seen[row["method"]] += 1
    return sorted(picked, key=lambda row: list(counts).index(row["method"]))


def load_example(run: Path, row: dict[str, Any]) -> Example:
    """The images of a row, titled with its method."""
    return Example(row["method"], *example(run, row))


def _figure(run: Path, row: dict[str, Any]) -> dict[str, Any]:
    images = map(data_url, views(load_example(run, row), 192))
    return {
        "method": row["method"],
        "source": Path(row["source"]).name,
        "number": row["example_id"],
        "area": row["area"],
        "contrast": row["contrast"],
        "views": list(zip(ROWS, images, strict=True)),
    }


def _distributions(method: str, tally: Tally) -> dict[str, Any]:
    return {
        "name": method,
        "tally": tally,
        "area": _bars(tally.area, log=True),
        "contrast": _bars(tally.contrast, log=False),
        "centers": tally.center[:: max(1, len(tally.center) // MOST_CENTERS)],
    }


def _bars(values: Sequence[float], *, log: bool) -> dict[str, Any] | None:
    """Heights of the bars relative to the highest, and the ends of the axis."""
    if not values:
        return None
    counts, edges = np.histogram(np.log10(values) if log else values, BINS)
    low, high = (10**e if log else e for e in (edges[0], edges[-1]))
    heights = (counts / counts.max()).tolist()
    return {"heights": heights, "low": low, "high": high, "median": np.median(values)}


def _grouped(left_out: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each image and reason, with all its methods."""
    methods: dict[tuple[str, str], list[str]] = {}
    for entry in left_out:
        key = entry["source"], entry["reason"]
        methods.setdefault(key, []).append(entry["method"])
    return [
        {
            "cells": (source, ", ".join(dict.fromkeys(names)), reason),
            "count": len(names),
        }
        for (source, reason), names in methods.items()
    ]
