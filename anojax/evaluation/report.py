"""Curves and images of an evaluation: PNG files and one page that needs no others."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageDraw

from anojax.errors import DataError
from anojax.evaluation.detection import MEASURES, Result
from anojax.evaluation.ranking import Curve

INK, GRID, LINE, DASHED = "#1b1f24", "#d5d9de", "#0b63c5", "#8a929b"
RAMP = np.array(
    [
        [0, 0, 4],
        [66, 10, 104],
        [147, 38, 103],
        [221, 81, 58],
        [252, 165, 10],
        [252, 255, 164],
    ]
)
"""Colors of the maps from the lowest to the highest score, evenly spaced."""


@dataclass(frozen=True)
class Sample:
    """One image of the sheet."""

    name: str
    image: np.ndarray
    """``[H, W, C]``, float in [0, 1] or uint8; 1 or 3 channels."""
    mask: np.ndarray
    """Truth ``[H, W]``, 0 or 1."""
    map: np.ndarray
    """Anomaly map ``[H, W]``."""


@dataclass(frozen=True)
class Plot:
    """One curve in the unit square."""

    title: str
    x_label: str
    y_label: str
    x: np.ndarray
    y: np.ndarray
    x_max: float = 1.0
    diagonal: bool = False


def write(result: Result, samples: Iterable[Sample], folder: Path | str) -> list[Path]:
    """Write ``scores.json``, ``curves.png``, ``sheet.png`` and ``report.html``.

    The folder is made if need be. Returns the files; without samples or curves there is
    no image of them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines, samples = plots(result), list(samples)
    files = {"scores.json": result.to_json().encode()}
    if lines:
        files["curves.png"] = _png(draw_curves(lines))
    if samples:
        files["sheet.png"] = _png(draw_sheet(samples))
    files["report.html"] = page(result, lines, files.get("sheet.png")).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def plots(result: Result) -> list[Plot]:
    """The curves over everything that are defined: ROC, PR and PRO."""
    found = []
    for what, curve in (("Image", result.image_curve), ("Pixel", result.pixel_curve)):
        if curve is not None:
            found += _roc_and_pr(what, curve)
    pixel = result.pixel_curve
    if pixel is not None and not math.isnan(result["aupro"]):
        found.append(
            Plot(
                "PRO",
                "false positive rate",
                "mean overlap of regions",
                pixel.false_positive_rate,
                pixel.overlap,
                x_max=result.fpr_limit,
            )
        )
    return found


def _roc_and_pr(what: str, curve: Curve) -> list[Plot]:
    roc = Plot(
        f"{what} ROC",
        "false positive rate",
        "recall",
        curve.false_positive_rate,
        curve.recall,
        diagonal=True,
    )
    return [
        roc,
        Plot(f"{what} PR", "recall", "precision", curve.recall, curve.precision),
    ]


def _clipped(plot: Plot) -> list[tuple[float, float]]:
    """Points in the unit square, x divided by its end, cut off there."""
    inside = plot.x <= plot.x_max
    x, y = plot.x[inside], plot.y[inside]
    if not inside.all():
        x = np.append(x, plot.x_max)
        y = np.append(y, np.interp(plot.x_max, plot.x, plot.y))
    return list(zip((x / plot.x_max).tolist(), y.tolist(), strict=True))


# The same geometry for SVG and PNG: a square of 200 px with its left top at (44, 24).
SIDE, LEFT, TOP, WIDTH, HEIGHT = 200, 44, 24, 260, 268


def _place(x: float, y: float) -> tuple[float, float]:
    return round(LEFT + SIDE * x, 2), round(TOP + SIDE * (1 - y), 2)


def svg(plot: Plot) -> str:
    """The curve as an SVG element."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="{html.escape(plot.title)}" font-size="11">',
        f'<text x="{LEFT}" y="14" class="title">{html.escape(plot.title)}</text>',
    ]
    for i in range(5):
        t = i / 4
        (x0, y0), (x1, y1) = _place(t, 0), _place(t, 1)
        parts.append(f'<path class="grid" d="M{x0} {y0}V{y1}"/>')
        parts.append(f'<text x="{x0}" y="{y0 + 14}" text-anchor="middle">')
        parts.append(f"{t * plot.x_max:.3g}</text>")
        (x0, y0), (x1, y1) = _place(0, t), _place(1, t)
        parts.append(f'<path class="grid" d="M{x0} {y0}H{x1}"/>')
        parts.append(f'<text x="{x0 - 5}" y="{y0 + 4}" text-anchor="end">{t:g}</text>')
    if plot.diagonal:
        (x0, y0), (x1, y1) = _place(0, 0), _place(1, 1)
        parts.append(f'<path class="dashed" d="M{x0} {y0}L{x1} {y1}"/>')
    points = " ".join(f"{x},{y}" for x, y in (_place(*p) for p in _clipped(plot)))
    middle = LEFT + SIDE / 2
    bottom = TOP + SIDE + 32
    parts += [
        f'<polyline class="line" points="{points}"/>',
        f'<text x="{middle}" y="{bottom}" text-anchor="middle">{plot.x_label}</text>',
        f'<text transform="translate(11 {TOP + SIDE / 2}) rotate(-90)" '
        f'text-anchor="middle">{plot.y_label}</text></svg>',
    ]
    return "".join(parts)


def draw_curves(lines: Sequence[Plot]) -> Image.Image:
    """All curves side by side."""
    scale = 2
    canvas = Image.new("RGB", (scale * WIDTH * len(lines), scale * HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)

    def at(i: int, x: float, y: float) -> tuple[float, float]:
        px, py = _place(x, y)
        return scale * (px + i * WIDTH), scale * py

    for i, plot in enumerate(lines):
        shift = scale * i * WIDTH

        def text(x, y, words, anchor, shift=shift):
            place = (shift + scale * x, scale * y)
            draw.text(place, words, INK, anchor=anchor, font_size=11 * scale)

        text(LEFT, 14, plot.title, "ls")
        for j in range(5):
            t = j / 4
            draw.line([at(i, t, 0), at(i, t, 1)], GRID)
            draw.line([at(i, 0, t), at(i, 1, t)], GRID)
            text(LEFT + SIDE * t, TOP + SIDE + 14, f"{t * plot.x_max:.3g}", "ms")
            text(LEFT - 5, TOP + SIDE * (1 - t) + 4, f"{t:g}", "rs")
        if plot.diagonal:
            draw.line([at(i, 0, 0), at(i, 1, 1)], DASHED)
        draw.line([at(i, *p) for p in _clipped(plot)], LINE, width=2 * scale)
        text(LEFT + SIDE / 2, TOP + SIDE + 32, f"{plot.x_label} / {plot.y_label}", "ms")
    return canvas


def draw_sheet(samples: Sequence[Sample], *, tile_px: int = 200) -> Image.Image:
    """One row per sample: image, truth on the image, map.

    All maps share one scale, from the 1st to the 99.9th percentile of all their scores.

    Raises:
      DataError: a sample's mask or map is not of its image's size.
    """
    scores = np.concatenate([s.map.ravel() for s in samples])
    low, high = np.percentile(scores, [1, 99.9])
    gap, label = 4, 16
    tallest = max(s.image.shape[0] / max(s.image.shape[:2]) for s in samples)
    row = math.ceil(tile_px * tallest) + label + gap
    sheet = Image.new("RGB", (3 * (tile_px + gap) + gap, row * len(samples)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, sample in enumerate(samples):
        shape = sample.image.shape[:2]
        if not shape == sample.mask.shape == sample.map.shape:
            raise DataError(
                f"{sample.name}: image {shape}, mask {sample.mask.shape} and map "
                f"{sample.map.shape} differ in size; resize them to the image"
            )
        draw.text((gap, row * i + 1), sample.name, INK, font_size=12)
        image = _rgb(sample.image)
        tiles = (image, _outlined(image, sample.mask), heat(sample.map, low, high))
        for j, tile in enumerate(tiles):
            tile = Image.fromarray(tile)
            tile.thumbnail((tile_px, tile_px))
            sheet.paste(tile, (gap + j * (tile_px + gap), row * i + label))
    return sheet


def heat(
    scores: Float[np.ndarray, "h w"], low: float, high: float
) -> Shaped[np.ndarray, "h w 3"]:
    """Scores as uint8 colors from black (`low`) through red to yellow (`high`)."""
    span = high - low
    position = np.clip((scores - low) / (span if span > 0 else 1), 0, 1)
    position = position * (len(RAMP) - 1)
    channels = [np.interp(position, range(len(RAMP)), RAMP[:, c]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the truth tinted red."""
    tinted = 0.45 * image + 0.55 * np.array([255, 0, 0])
    return np.where(mask[..., None] > 0, tinted, image).round().astype(np.uint8)


STYLE = f"""
:root {{ color-scheme: light }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: {INK}; background: #fff;
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid {GRID}; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
.wide {{ overflow-x: auto }} img {{ max-width: 100% }}
svg text {{ fill: {INK} }} .title {{ font-weight: 600 }}
.grid {{ stroke: {GRID}; fill: none }}
.dashed {{ stroke: {DASHED}; stroke-dasharray: 4 4; fill: none }}
.line {{ stroke: {LINE}; stroke-width: 2; fill: none; stroke-linejoin: round }}
"""


def page(result: Result, lines: Sequence[Plot], sheet: bytes | None) -> str:
    """The report as one HTML page with everything inside."""
    head = "".join(f"<th>{name}</th>" for name in ("", "normal", "anomalous"))
    head += "".join(f"<th>{words}</th>" for words in MEASURES.values())
    body = "".join(
        f"<tr><td>{html.escape(row.name)}</td><td>{row.normal}</td>"
        f"<td>{row.anomalous}</td>"
        + "".join(f"<td>{_number(row.measures[name])}</td>" for name in MEASURES)
        + "</tr>"
        for row in result.rows
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in result.notes)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Detection report</title><style>{STYLE}</style>",
        "<h1>Detection report</h1>",
        f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>',
        f"<p>Each defect type is measured against all normal images. AUPRO is taken "
        f"up to a false positive rate of {result.fpr_limit:g}.</p>",
        f"<ul>{notes}</ul>" if notes else "",
        f"<h2>Curves</h2>{''.join(svg(p) for p in lines)}" if lines else "",
    ]
    if sheet is not None:
        data = base64.b64encode(sheet).decode()
        parts += [
            "<h2>Images</h2><p>Image, true defect in red, anomaly map (one scale "
            "for all).</p>",
            f'<img alt="image, truth and map" src="data:image/png;base64,{data}">',
        ]
    return "\n".join(p for p in parts if p) + "\n</html>\n"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
