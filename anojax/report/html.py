"""One HTML file that tells what a run holds; nothing in it is fetched from elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anojax.config import to_yaml
from anojax.data.files import atomic_write
from anojax.data.manifest import REPORT, read_rows
from anojax.data.readback import example, file_of, in_shard
from anojax.data.tally import Tally, tally
from anojax.report.pages import data_url, render
from anojax.report.places import Places
from anojax.report.sheet import Example, views

PER_METHOD = 12
VIEWS = ("normal", "anomalous", "outlined", "difference")
SIDE = 320
"""Longest side of an image in the page, in pixels."""
BINS = 24
MOST_CENTERS = 400


def write_report(
    run: Path,
    *,
    title: str,
    facts: dict[str, str],
    config: dict[str, Any],
    left_out: Sequence[dict[str, Any]],
) -> dict[str, Tally]:
    """Write `report.html` into a run whose manifest is written.

    Args:
      run: folder of the run.
      title: heading.
      facts: short lines for the top.
      config: the resolved configuration. The page shows what it names by absolute
        paths without the folders above.
      left_out: images that were not made: source, method, reason.

    Returns:
      What was counted, by method.
    """
    tallies, places = tally(run), Places(config)
    page = render(
        "run.html",
        title=title,
        facts=[(name, places.shorten(words)) for name, words in facts.items()],
        left_out=_grouped(left_out, places),
        methods=[_distributions(*each) for each in tallies.items()],
        per_method=PER_METHOD,
        figures=[_figure(run, row) for row in samples(run, PER_METHOD)],
        config=to_yaml(places.shorten_all(config)),
    )
    atomic_write(run / REPORT, page)
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
    shown = load_example(run, row)
    source = Path(row["source"]).name
    of = f"of {source} by {row['method']}, example {row['example_id']}"
    images = map(data_url, views(shown, SIDE))
    change = np.abs(shown.image.astype(np.int32) - shown.normal.astype(np.int32))
    return {
        "method": row["method"],
        "source": source,
        "number": row["example_id"],
        "area": row["area"],
        "contrast": row["contrast"],
        "levels": int(change.max()),
        "range": int(np.iinfo(shown.image.dtype).max),
        "views": [
            (name, f"{name} {of}", image)
            for name, image in zip(VIEWS, images, strict=True)
        ],
        "files": _files(row),
    }


def _files(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What they are, and where they lie in the run; a shard stands for its records."""
    if in_shard(row["image"]):
        return [("shard", file_of(row["image"]))]
    names = ("normal", "image", "mask")
    return [(name, row[name]) for name in names if row[name] is not None]


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


def _grouped(
    left_out: Sequence[dict[str, Any]], places: Places
) -> list[dict[str, Any]]:
    """One entry for each image and reason, with all its methods."""
    methods: dict[tuple[str, str], list[str]] = {}
    for entry in left_out:
        source = Path(entry["source"])
        reason = entry["reason"].replace(str(source), source.name)
        key = places.shorten_file(source), places.shorten(reason)
        methods.setdefault(key, []).append(entry["method"])
    return [
        {
            "cells": (source, ", ".join(dict.fromkeys(names)), reason),
            "count": len(names),
        }
        for (source, reason), names in methods.items()
    ]
