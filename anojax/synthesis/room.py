"""Whether a run can fit at all: found before the first image, not after the disk is
full."""

import os
import shutil
from pathlib import Path

from anojax.errors import RunError, SettingError
from anojax.synthesis.prepare import Prepared

LARGEST_ID = 2**32 - 1
FILES_PER_IMAGE = 2
"""An image and its mask."""
LEAST_BYTES = 100
"""Of an image with its mask, where many share a file."""


def check_ids(job: Prepared) -> None:
    """Raise unless every image has a number of its own.

    Raises:
      SettingError: there are more than 2**32.
    """
    plan = job.plan
    last = len(plan.images) * plan.draws_per_image - 1
    if last > LARGEST_ID:
        raise SettingError(
            f"{plan.total} images are more than can be told apart (2**32 for each "
            "method); lower --count or --per-image, or make several runs"
        )


def check_room(job: Prepared, run: Path, start: int) -> None:
    """Raise if the disk cannot hold what is to come, however small it turns out.

    What is certain is counted only: a file takes at least one block.

    Args:
      job: what is made.
      run: an existing folder.
      start: images that are there.

    Raises:
      RunError: too little room, or too few files that can still be made.
    """
    images = job.plan.total - start
    files = 0 if job.config.format == "tfds" else FILES_PER_IMAGE * images
    files += len(job.clean)
    disk = os.statvfs(run) if hasattr(os, "statvfs") else None
    least = files * disk.f_frsize if disk and files else LEAST_BYTES * images
    free = shutil.disk_usage(run).free
    if least > free:
        raise RunError(
            f"{images} images take at least {_words(least)}, and {run} has "
            f"{_words(free)} free; lower --count or --per-image, or choose another "
            "--output"
        )
    if disk and 0 < disk.f_favail < files:
        raise RunError(
            f"{images} images are {files} files, and the disk of {run} takes "
            f"{disk.f_favail} more; use --format tfds, or lower --count or --per-image"
        )


def _words(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
