"""The images of a run that no defect is made from: read, written and compared."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from anojax.data.containment import inside, read_regular
from anojax.data.files import atomic_write, decode_png, encode_png, make_folder
from anojax.data.fit import fitted
from anojax.data.plan import Pixels
from anojax.environment import workers
from anojax.errors import AnojaxError
from anojax.synthesis.prepare import Prepared


def check_clean(job: Prepared) -> None:
    """Read every image of these before any other is made.

    Raises:
      DataError: about the first that cannot be used.
    """
    with ThreadPoolExecutor(workers()) as pool:
        for _ in pool.map(lambda path: _pixels(job, path) is None, job.clean.values()):
            pass


def write_clean(job: Prepared, run: Path) -> None:
    """Write them as the images beside them are: at the working size, or their own.

    Raises:
      AnojaxError: an image cannot be used, or a file cannot be written.
    """

    def write(name: str) -> None:
        path = inside(run, name)
        make_folder(path.parent)
        atomic_write(path, encode_png(_pixels(job, job.clean[name])))

    with ThreadPoolExecutor(workers()) as pool:
        for _ in pool.map(write, job.clean):
            pass


def clean_problems(job: Prepared, run: Path) -> Iterator[tuple[str, str]]:
    """Name of such an image, and how it differs from its source of today."""

    def problem(name: str) -> str | None:
        try:
            found = decode_png(read_regular(inside(run, name)))
            expected = _pixels(job, job.clean[name])
        except AnojaxError as error:
            return str(error)
        same = found.dtype == expected.dtype and np.array_equal(found, expected)
        return None if same else f"is not its source {job.clean[name]}"

    with ThreadPoolExecutor(workers()) as pool:
        for name, what in zip(job.clean, pool.map(problem, job.clean), strict=True):
            if what is not None:
                yield name, what


def _pixels(job: Prepared, path: Path) -> Pixels:
    reading = job.data.reading
    own = reading.image(path)
    if job.config.native:
        return own
    way = fitted(own.shape[:2], job.data.config.shape, job.config.fit)
    return way.image(reading.small(path, own[way.source], way.filled))
