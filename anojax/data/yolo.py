"""A run's masks as labels for YOLO (segmentation): one line for every connected defect
region, a polygon in fractions of the image.

Trainers look for the labels of ``.../images/a.png`` in ``.../labels/a.txt``, so the
images stand in such a folder once more: as hard links, which take no room, or as copies
where the file system has none.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from anojax.data.containment import inside, read_regular
from anojax.data.files import (
    atomic_write,
    cannot_write,
    decode_png,
    make_folder,
    temporary_name,
)
from anojax.data.manifest import read_rows
from anojax.errors import RunError

INSET = 0.05
"""Corners lie this far inside the outermost pixels: a reader that cuts the decimals off
finds those pixels, and the next ones do not become part of the region."""
_EIGHT = np.ones((3, 3), bool)
"""Regions that touch at a corner are one."""
# Along a region's edge, the region on the right: right, down, left, up.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def data_file(category: str) -> str:
    """The name of the description in a run."""
    return f"{category}/yolo/data.yaml"


def names_of(image: str, category: str) -> tuple[str, str]:
    """Where the image and the label of an image of the run stand.

    >>> names_of("parts/test/nsa/000.png", "parts")
    ('parts/yolo/images/nsa/000.png', 'parts/yolo/labels/nsa/000.txt')
    """
    name = image.removeprefix(f"{category}/test/")
    stem = name.removesuffix(".png")
    return f"{category}/yolo/images/{name}", f"{category}/yolo/labels/{stem}.txt"


def yolo_files(run: Path, category: str) -> Iterator[str]:
    """The names of all files, as far as the manifest can be read."""
    yield data_file(category)
    try:
        for row in read_rows(run):
            yield from names_of(row["image"], category)
    except RunError:
        return  # what is wrong with it is said elsewhere


def write_yolo(run: Path, category: str, methods: Sequence[str]) -> None:
    """Write the labels of a run whose manifest is written.

    Args:
      run: its folder.
      category: the folder of the images in it.
      methods: each is a class of defects, numbered from 0 on.

    Raises:
      RunError: a mask cannot be read, or a file cannot be written.
    """
    classes = {name: number for number, name in enumerate(methods)}
    for row in read_rows(run):
        image, label = names_of(row["image"], category)
        lines = []
        if row["mask"] is not None:
            mask = decode_png(read_regular(inside(run, row["mask"])))
            lines = [label_line(classes[row["method"]], p) for p in polygons(mask)]
        make_folder(inside(run, label).parent)
        atomic_write(inside(run, label), "".join(f"{line}\n" for line in lines))
        _link(inside(run, row["image"]), inside(run, image))
    names = "".join(f"  {n}: {json.dumps(m)}\n" for m, n in classes.items())
    atomic_write(
        run / data_file(category),
        "# Made by anojax: all images are in one part. For a validation of your own, "
        "name\n# that of another run, made from other normal images.\n"
        f"train: images\nval: images\nnames:\n{names}",
    )


def label_line(number: int, polygon: Float[np.ndarray, "n 2"]) -> str:
    """The class and the corners of a region, x and y in turn.

    >>> import numpy as np
    >>> label_line(0, np.array([[0.25, 0.5], [0.75, 0.5], [0.5, 1]]))
    '0 0.250000 0.500000 0.750000 0.500000 0.500000 1.000000'
    """
    return " ".join([str(number), *(f"{v:.6f}" for v in polygon.ravel())])


def polygons(mask: UInt8[np.ndarray, "h w 1"]) -> Iterator[Float[np.ndarray, "n 2"]]:
    """The outline of each connected region along the edges of its pixels, (x, y) in
    fractions of the image. Holes are part of the outline, joined to it by a line that
    is passed in both directions.

    >>> import numpy as np
    >>> mask = np.zeros((4, 4, 1), np.uint8)
    >>> mask[1:3, 1:3] = 255
    >>> [len(polygon) for polygon in polygons(mask)]
    [4]
    """
    height, width = mask.shape[:2]
    labels, _ = ndimage.label(mask[..., 0] > 0, _EIGHT)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        first, *holes = _loops(labels[rows, columns] == number)
        outline = np.array(first)
        for hole in map(np.array, holes):
            distance = np.abs(outline - hole[0]).sum(1)
            at = int(distance.argmin())
            there_and_back = [hole, hole[:1], outline[at : at + 1]]
            outline = np.concatenate(
                [outline[: at + 1], *there_and_back, outline[at + 1 :]]
            )
        corner = np.array([columns.start, rows.start])
        yield (outline + corner) / [width, height]


def _loops(region: Bool[np.ndarray, "h w"]) -> Iterator[list[tuple[float, float]]]:
    """The corners of a region's closed edges; the outer edge comes first."""
    inner = np.pad(region, 1)
    here = inner[1:-1, 1:-1]
    outside = inner[:-2, 1:-1], inner[1:-1, 2:], inner[2:, 1:-1], inner[1:-1, :-2]
    # Where the edge at a pixel's top, right, bottom and left begins.
    begins = ((0, 0), (1, 0), (1, 1), (0, 1))
    edges = {
        (x + dx, y + dy, way): False
        for way, (dx, dy) in enumerate(begins)
        for y, x in np.argwhere(here & ~outside[way]).tolist()
    }
    for start in edges:
        if start[2] or edges[start]:  # every closed edge has a top
            continue
        corners, edge = [], start
        while not edges[edge]:
            edges[edge] = True
            x, y, way = edge
            x, y = x + _STEPS[way][0], y + _STEPS[way][1]
            # To the left first: pixels that touch at a corner are one region.
            turn = next(t for t in (3, 0, 1) if (x, y, (way + t) % 4) in edges)
            edge = x, y, (way + turn) % 4
            if turn:
                corners.append(_moved_in(x, y, way, edge[2]))
        yield corners


def _moved_in(x: int, y: int, way: int, following: int) -> tuple[float, float]:
    """A corner between two edges, moved into the region on the right of both."""
    right = [_STEPS[(w + 1) % 4] for w in (way, following)]
    return (
        x + INSET * sum(step[0] for step in right),
        y + INSET * sum(step[1] for step in right),
    )


def _link(source: Path, target: Path) -> None:
    make_folder(target.parent)
    temporary = temporary_name(target)
    try:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # no links on this file system
            shutil.copyfile(source, temporary)
        # Of two links to one file, a rename would leave both.
        target.unlink(missing_ok=True)
        os.replace(temporary, target)
    except OSError as error:
        raise cannot_write(target, error) from error
