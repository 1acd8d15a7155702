"""The files of an evaluation: scores, curves, a sheet and one page that holds all."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageDraw

from anojax.data.files import atomic_write, make_folder
from anojax.errors import DataError
from anojax.evaluation.detection import MEASURES, Result
from anojax.report import curves
from anojax.report.pages import data_url, render
from anojax.report.places import Places
from anojax.report.sheet import as_bytes

INK = "#1b1f24"
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


def write(
    result: Result,
    samples: Iterable[Sample],
    folder: Path | str,
    places: Places | None = None,
) -> list[Path]:
    """Write ``scores.json``, ``curves.csv``, ``sheet.png`` and ``report.html``.

    With matplotlib also ``curves.png``. Without samples or curves there is no file of
    them. The folder is made if need be.

    Args:
      result: of `evaluation.detection.evaluate`.
      samples: images of the sheet.
      folder: of the files.
      places: what the page, which may be handed on, names without the folders above.

    Returns:
      The files.

    Raises:
      DataError: a sample's mask or map is not of its image's size.
      RunError: the folder cannot be written or the disk is full.
    """
    folder = make_folder(Path(folder))
    lines, samples = curves.plots(result), list(samples)
    files: dict[str, bytes] = {"scores.json": result.to_json().encode()}
    if lines:
        files["curves.csv"] = curves.as_csv(lines).encode()
        if curves.can_draw():
            files["curves.png"] = curves.as_png(curves.draw(lines))
    if samples:
        files["sheet.png"] = as_bytes(draw_sheet(samples))
    names = [line.title for line in lines]
    drawings = files.get("curves.png"), files.get("sheet.png")
    files["report.html"] = page(result, names, *drawings, places).encode()
    for name, content in files.items():
        atomic_write(folder / name, content)
    return [folder / name for name in files]


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
            tile = _fitted(Image.fromarray(tile), tile_px)
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


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """An image with its longest side `side` pixels long: a small one in plain squares,
    for its pixels are what was scored."""
    scale = side / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize((width, height), how)


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        image = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the truth tinted red."""
    tinted = 0.45 * image + 0.55 * np.array([255, 0, 0])
    return np.where(mask[..., None] > 0, tinted, image).round().astype(np.uint8)


def page(
    result: Result,
    lines: Sequence[str],
    drawn: bytes | None,
    sheet: bytes | None,
    places: Places | None = None,
) -> str:
    """The report as one HTML page with everything inside.

    Args:
      result: of `evaluation.detection.evaluate`.
      lines: names of the curves, whose points lie beside the page in ``curves.csv``.
      drawn: the curves as PNG.
      sheet: the images as PNG.
      places: what is named without the folders above.
    """
    places = places or Places({})
    rows = [
        (
            row.name,
            row.normal,
            row.anomalous,
            *(_percent(row.measures[m]) for m in MEASURES),
        )
        for row in result.rows
    ]
    return render(
        "detection.html",
        title="Detection report",
        head=("", "normal", "anomalous", *MEASURES.values()),
        rows=rows,
        fpr_limit=result.fpr_limit,
        notes=[places.shorten(note) for note in result.notes],
        curves=lines,
        drawn=data_url(drawn) if drawn else None,
        sheet=data_url(sheet) if sheet else None,
    )


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
