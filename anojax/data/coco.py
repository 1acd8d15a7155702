"""A run's masks as COCO instances: one annotation for every connected defect region.

The images are those of the run in MVTec AD layout; ``file_name`` is relative to the
category's folder. Masks are exact: run-length encoded, column by column, as
`pycocotools` reads them. Images without a defect are listed without annotations.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from anojax.data.containment import inside, read_regular
from anojax.data.files import cannot_write, decode_png, make_folder, temporary_name
from anojax.data.manifest import read_rows

_EIGHT = np.ones((3, 3), bool)
"""Regions that touch at a corner are one."""


def coco_file(category: str) -> str:
    """The name of the file in a run."""
    return f"{category}/annotations/instances_test.json"


def write_coco(run: Path, category: str, methods: Sequence[str]) -> None:
    """Write the annotations of a run whose manifest is written; row by row, so that
    memory does not grow with the run.

    Args:
      run: its folder.
      category: the folder of the images in it.
      methods: each is a category of defects, numbered from 1 on.

    Raises:
      RunError: a mask cannot be read, or the file cannot be written.
    """
    target = run / coco_file(category)
    make_folder(target.parent)
    numbers = {name: number for number, name in enumerate(methods, 1)}
    kinds = [
        {"id": n, "name": m, "supercategory": "defect"} for m, n in numbers.items()
    ]
    try:
        with temporary_name(target).open("w") as file:
            file.write('{"info": {"description": "made by anojax"}, "licenses": [],\n')
            file.write(f'"categories": {json.dumps(kinds)},\n"images": [')
            _write(file, _images(run, category))
            file.write('],\n"annotations": [')
            _write(file, _annotations(run, numbers))
            file.write("]}\n")
        os.replace(temporary_name(target), target)
    except OSError as error:
        raise cannot_write(target, error) from error


def instances(mask: UInt8[np.ndarray, "h w 1"]) -> Iterator[dict[str, Any]]:
    """The connected regions of a mask as COCO has them: run lengths, box and area.

    >>> import numpy as np
    >>> mask = np.zeros((3, 4, 1), np.uint8)
    >>> mask[0, 1] = mask[2, 3] = 255
    >>> [one["bbox"] for one in instances(mask)]
    [[1, 0, 1, 1], [3, 2, 1, 1]]
    """
    labels, _ = ndimage.label(mask[..., 0] > 0, _EIGHT)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        region = labels == number
        height, width = rows.stop - rows.start, columns.stop - columns.start
        yield {
            "segmentation": {"size": [*region.shape], "counts": run_lengths(region)},
            "bbox": [columns.start, rows.start, width, height],
            "area": int(region.sum()),
            "iscrowd": 0,
        }


def run_lengths(region: np.ndarray) -> list[int]:
    """How many pixels are outside, inside, outside and so on, column by column.

    >>> import numpy as np
    >>> run_lengths(np.array([[False, True], [True, True]]))
    [1, 3]
    """
    flat = region.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate([[0], changes, [flat.size]])
    lengths = np.diff(ends).tolist()
    return [0, *lengths] if flat[0] else lengths


def _write(file, items: Iterator[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write(f"{',' if number else ''}\n{json.dumps(item)}")


def _images(run: Path, category: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(read_rows(run), 1):
        height, width = row["size"]
        name = row["image"].removeprefix(f"{category}/")
        yield {"id": number, "file_name": name, "height": height, "width": width}


def _annotations(run: Path, numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    count = 0
    for number, row in enumerate(read_rows(run), 1):
        if row["mask"] is None:
            continue
        mask = decode_png(read_regular(inside(run, row["mask"])))
        for one in instances(mask):
            count += 1
            kind = numbers[row["method"]]
            yield {"id": count, "image_id": number, "category_id": kind, **one}
