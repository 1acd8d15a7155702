"""One HTML file that tells what a run holds; nothing in it is fetched from elsewhere."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anojax.data.files import atomic_write
from anojax.data.manifest import REPORT, read_rows
from anojax.data.readback import example
from anojax.report.sheet import Example, as_bytes, views

PER_METHOD = 12
BINS = 24

_STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --dim: #6a737d; --paper: #fff;
  --line: #d8dee4; --bar: #3b6ea8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9aa4ae;
  --paper: #14181d; --line: #30363d; --bar: #6ea3dd; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
small, .dim, figcaption { color: var(--dim); font-size: .8rem; }
button { font: inherit; color: inherit; background: none; cursor: pointer;
  border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .8rem; }
button[aria-pressed=true] { background: var(--bar); color: #fff; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill,
  minmax(300px, 1fr)); }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px;
  padding: .5rem; }
figure div { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; }
figure img { width: 100%; display: block; }
svg { width: 100%; height: auto; } rect { fill: var(--bar); }
text { fill: var(--dim); font-size: 10px; }
.map { fill: none; stroke: var(--line); } circle { fill: var(--bar); opacity: .45; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem;
  border-bottom: 1px solid var(--line); vertical-align: top; }
pre { overflow-x: auto; } [hidden] { display: none !important; }
"""

_SCRIPT = """
for (const button of document.querySelectorAll("button")) button.onclick = () => {
  for (const other of document.querySelectorAll("button"))
    other.setAttribute("aria-pressed", other === button);
  const method = button.dataset.method;
  for (const item of document.querySelectorAll("[data-of]"))
    item.hidden = method !== "" && item.dataset.of !== method;
};
"""


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
    parts = [
        f"<h1>{_escape(title)}</h1>",
        _table([(name, value) for name, value in facts.items()]),
        _left_out(left_out),
        _buttons(list(tallies)),
        "<h2>Images</h2><p class=dim>normal, anomalous, outline of the mask, "
        f"difference; up to {PER_METHOD} for each method, evenly over the run</p>",
        "<div class=grid>",
        *(_figure(run, row) for row in samples(run, PER_METHOD)),
        "</div>",
        "<h2>Distributions</h2>",
        *(_distributions(name, each) for name, each in tallies.items()),
        "<h2>Configuration</h2>",
        f"<pre>{_escape(config_text)}</pre>",
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_escape(title)}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}<script>{_SCRIPT}</script></body></html>\n"
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


def _figure(run: Path, row: dict[str, Any]) -> str:
    images = "".join(_image(view) for view in views(load_example(run, row), 192))
    name = Path(row["source"]).name
    return (
        f'<figure data-of="{_escape(row["method"])}"><div>{images}</div><figcaption>'
        f"<b>{_escape(row['method'])}</b> {_escape(name)}<br>example "
        f"{row['example_id']}, area {row['area']:.2%}, contrast {row['contrast']:.2f}"
        "</figcaption></figure>"
    )


def _image(image: Image.Image) -> str:
    data = base64.b64encode(as_bytes(image, "JPEG")).decode()
    return f'<img alt="" src="data:image/jpeg;base64,{data}">'


def _distributions(method: str, tally: Tally) -> str:
    notes = f"{tally.images} images, {tally.redrawn} redrawn, {tally.empty} empty"
    plots = (
        _histogram(tally.area, "area of the mask, fraction of the image (log)", True)
        + _map(tally.center)
        + _histogram(tally.contrast, "contrast under the mask", False)
    )
    return (
        f'<section data-of="{_escape(method)}"><h3>{_escape(method)} '
        f"<small>{notes}</small></h3><div class=grid>{plots}</div></section>"
    )


def _histogram(values: Sequence[float], label: str, log: bool) -> str:
    """Bars as SVG; the ends of the axis are written below it."""
    if not values:
        return f"<figure><figcaption>{label}: no images</figcaption></figure>"
    data = np.log10(values) if log else np.asarray(values)
    counts, edges = np.histogram(data, BINS)
    low, high = (10**e if log else e for e in (edges[0], edges[-1]))
    step = 280 / BINS
    bars = "".join(
        f'<rect x="{10 + i * step:.1f}" y="{100 - 90 * n / counts.max():.1f}" '
        f'width="{step - 1:.1f}" height="{90 * n / counts.max():.1f}"/>'
        for i, n in enumerate(counts)
    )
    return (
        f'<figure><svg viewBox="0 0 300 115">{bars}<text x="10" y="112">{low:.3g}'
        f'</text><text x="290" y="112" text-anchor="end">{high:.3g}</text></svg>'
        f"<figcaption>{label}, median {np.median(values):.3g}</figcaption></figure>"
    )


def _map(centers: Sequence[tuple[float, float]]) -> str:
    """Where the boxes' centers lie in the image."""
    shown = centers[:: max(1, len(centers) // 400)]
    dots = "".join(
        f'<circle cx="{100 + 100 * x:.1f}" cy="{5 + 100 * y:.1f}" r="2"/>'
        for x, y in shown
    )
    return (
        '<figure><svg viewBox="0 0 300 115"><rect class="map" x="100" y="5" '
        f'width="100" height="100"/>{dots}</svg><figcaption>position: centers of the '
        f"boxes ({len(shown)} of {len(centers)})</figcaption></figure>"
    )


def _left_out(left_out: Sequence[dict[str, Any]]) -> str:
    if not left_out:
        return ""
    methods: dict[tuple[str, str], list[str]] = {}
    for entry in left_out:
        key = entry["source"], entry["reason"]
        methods.setdefault(key, []).append(entry["method"])
    rows = [
        (source, ", ".join(dict.fromkeys(names)), reason)
        for (source, reason), names in methods.items()
    ]
    more = f"<p class=dim>and {len(rows) - 200} more</p>" if len(rows) > 200 else ""
    return f"<h2>Left out: {len(left_out)}</h2>{_table(rows[:200])}{more}"


def _buttons(methods: Sequence[str]) -> str:
    if len(methods) < 2:
        return ""
    buttons = "".join(
        f'<button data-method="{_escape(m)}" aria-pressed="false">{_escape(m)}</button> '
        for m in methods
    )
    return f'<p><button data-method="" aria-pressed="true">all</button> {buttons}</p>'


def _table(rows: Sequence[tuple]) -> str:
    cells = (
        "<tr>" + "".join(f"<td>{_escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
