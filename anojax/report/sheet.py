"""Contact sheets: normal, anomalous, outline of the mask and difference, side by side."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageDraw, ImageFont

from anojax.data.files import atomic_write

Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]

ROWS = ("normal", "anomalous", "mask", "difference")
OUTLINE = (255, 40, 60)
INK, PAPER = (40, 44, 52), (255, 255, 255)
GAP, MARGIN, TITLE = 4, 12, 20


@dataclass(frozen=True)
class Example:
    """A normal image and what became of it."""

    title: str
    normal: Pixels
    image: Pixels
    mask: UInt8[np.ndarray, "h w 1"]
    """0, or anything above 0 inside the defect."""


def contact_sheet(
    examples: Sequence[Example], *, columns: int = 8, tile: int = 144
) -> Image.Image:
    """All examples, `columns` side by side, each with its four views below its title.

    Args:
      examples: at least one.
      columns: examples in one band.
      tile: longest side of a view in pixels.

    Example:
      >>> normal = np.full((32, 32, 1), 60, np.uint8)
      >>> mask = np.zeros((32, 32, 1), np.uint8)
      >>> mask[8:16, 8:16] = 255
      >>> sheet = contact_sheet([Example("spot", normal, normal | mask, mask)], tile=64)
      >>> sheet.mode
      'RGB'
    """
    columns = min(columns, len(examples))
    bands = -(-len(examples) // columns)
    height = TITLE + len(ROWS) * (tile + GAP) + MARGIN
    left = MARGIN + 74
    sheet = Image.new(
        "RGB",
        (left + columns * (tile + GAP) + MARGIN, MARGIN + bands * height),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    for number, example in enumerate(examples):
        band, column = divmod(number, columns)
        x, y = left + column * (tile + GAP), MARGIN + band * height
        _write(draw, (x, y), example.title, tile)
        for row, view in enumerate(views(example, tile)):
            top = y + TITLE + row * (tile + GAP)
            sheet.paste(view, (x, top))
            if column == 0:
                _write(draw, (MARGIN, top + tile // 2 - 8), ROWS[row], 74)
    return sheet


def gallery(
    rows: Mapping[str, Sequence[Example]],
    columns: Sequence[str],
    *,
    tile: int = 112,
) -> Image.Image:
    """Methods by products: a row of normal images, then one row for each method, whose
    results stand there as they are and, to the right, with the outline of the mask.

    Args:
      rows: by name of the method, one example for each column.
      columns: names of the products.
      tile: side of an image in pixels.
    """
    left, pair = MARGIN + 80, 2 * tile
    width = left + len(columns) * (pair + GAP) + MARGIN
    top = MARGIN + TITLE
    height = top + (1 + len(rows)) * (tile + GAP) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        _write(draw, (left + column * (pair + GAP), MARGIN), name, pair)
    first = next(iter(rows.values()))
    lines: dict[str, list[tuple[Image.Image, ...]]] = {
        "normal": [(thumbnail(e.normal, tile),) for e in first]
    }
    for name, examples in rows.items():
        lines[name] = [
            (thumbnail(e.image, tile), outlined(e.image, e.mask, tile))
            for e in examples
        ]
    for row, (name, cells) in enumerate(lines.items()):
        y = top + row * (tile + GAP)
        _write(draw, (MARGIN, y + tile // 2 - 8), name, 80)
        for column, images in enumerate(cells):
            for place, image in enumerate(images):
                x = left + column * (pair + GAP) + place * tile
                sheet.paste(image, (x, y))
    return sheet


def grid(
    images: Sequence[Pixels],
    masks: Sequence[UInt8[np.ndarray, "h w 1"]] | None = None,
    *,
    tile: int,
) -> Image.Image:
    """Images of one size in rows and columns, as many of them, without words.

    Args:
      images: at least one.
      masks: each is shown to the right of its image.
      tile: longest side of an image; pixels stay what they are at their own side and
        at its multiples.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    width, height = _fit(images[0], tile)
    cell = width * (1 if masks is None else 2)
    size = columns * (cell + GAP) + GAP, rows * (height + GAP) + GAP
    sheet = Image.new("RGB", size, PAPER)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        x, y = GAP + column * (cell + GAP), GAP + row * (height + GAP)
        sheet.paste(thumbnail(image, tile), (x, y))
        if masks is not None:
            sheet.paste(thumbnail(masks[number], tile), (x + width, y))
    return sheet


def views(example: Example, tile: int) -> tuple[Image.Image, ...]:
    """The four views of an example, in the order of `ROWS`."""
    return (
        thumbnail(example.normal, tile),
        thumbnail(example.image, tile),
        outlined(example.image, example.mask, tile),
        difference(example.normal, example.image, tile),
    )


def thumbnail(image: Pixels, tile: int) -> Image.Image:
    """An image as RGB, its longest side `tile` pixels."""
    eight_bits = image if image.dtype == np.uint8 else image // 257
    planes = np.broadcast_to(eight_bits, (*image.shape[:2], 3)).astype(np.uint8)
    return Image.fromarray(planes).resize(_fit(image, tile), Image.Resampling.BOX)


def outlined(image: Pixels, mask: np.ndarray, tile: int) -> Image.Image:
    """An image with a line around its defect."""
    small = thumbnail(image, tile)
    shape = Image.fromarray((mask[..., 0] > 0).astype(np.uint8) * 255)
    inside = np.asarray(shape.resize(small.size, Image.Resampling.BOX)) > 0
    padded = np.pad(inside, 1)
    shifted = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    core = np.logical_and.reduce(shifted)
    pixels = np.array(small)
    pixels[inside & ~core] = OUTLINE
    return Image.fromarray(pixels)


def difference(normal: Pixels, image: Pixels, tile: int) -> Image.Image:
    """Absolute change, white where it is largest in this image."""
    change = np.abs(image.astype(np.float32) - normal.astype(np.float32)).max(-1)
    scaled = np.rint(change * (255 / max(change.max(), 1))).astype(np.uint8)
    return thumbnail(scaled[..., None], tile)


def as_bytes(image: Image.Image, kind: str = "PNG") -> bytes:
    """A drawn image as a PNG or JPEG file."""
    buffer = io.BytesIO()
    options = {"quality": 85} if kind == "JPEG" else {"optimize": False}
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def save(image: Image.Image, path: Path) -> None:
    """Write a drawn image, JPEG for ``.jpg`` and PNG otherwise; whole or not at all."""
    jpeg = Path(path).suffix.lower() in (".jpg", ".jpeg")
    atomic_write(Path(path), as_bytes(image, "JPEG" if jpeg else "PNG"))


def _fit(image: Pixels, tile: int) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = tile / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _write(draw: ImageDraw.ImageDraw, place, text: str, room: int) -> None:
    """Text that ends before `room` pixels."""
    font = ImageFont.load_default(size=13)
    while text and draw.textlength(text, font) > room:
        text = text[:-1]
    draw.text(place, text, INK, font)
