"""Finding the test split that a folder holds, and reading it a few images at a time."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from anojax.data.folders import discover
from anojax.data.layouts import GOOD, Source, TestImage, tested_in
from anojax.data.masks import Classes
from anojax.data.reading import AS_STORED, Reading
from anojax.data.testset import TestSet, read_test_image
from anojax.errors import DataError


def find_test_images(
    folder: str | Path, classes: Classes | None = None
) -> tuple[TestImage, ...]:
    """The test images of a category, complete enough to measure a detector on.

    Args:
      folder: of a category in any layout of `folders.LAYOUTS`, its ``test`` folder, or
        a folder of ``test`` and ``ground_truth`` that has no training images. Where
        nothing divides the images in training and test, all are for the test.
      classes: which values of masks count; see `masks.parse_classes`.

    Raises:
      DataError: no such folder, no test split, no normal or no anomalous image, no
        ground truth, an image without its mask or a mask without its image.
    """
    source = find_source(Path(folder).expanduser().resolve(), classes)
    test = source.test
    if source.layout in ("tree", "masks") and all(t.defect != GOOD for t in test):
        # Nothing divides the folder: all of it is for the test.
        test = (*(TestImage(p, GOOD, None) for p in source.paths), *test)
    if not source.test:
        raise DataError(
            f"{folder} holds no test split; expected images under test/good and "
            "test/<defect>, and masks under ground_truth/<defect>"
        )
    normal = {one.path.parent.name for one in test if one.defect == GOOD}
    anomalous = [one for one in test if one.defect != GOOD]
    if not anomalous:
        raise DataError(
            f"the test split of {folder} has no anomalous image; put some under "
            "test/<defect>, with masks under ground_truth/<defect>"
        )
    if not normal:
        raise DataError(
            f"the test split of {folder} has no normal image to compare with; put "
            "some under test/good"
        )
    normal |= {path.parent.name for path in source.paths}
    check_masks(anomalous, expected_pairs(source), folder, normal=normal)
    return test


def expected_pairs(source: Source) -> tuple[Path, ...]:
    """Masks that must belong to an anomalous image: where normal images have masks,
    too, none must."""
    if source.layout not in ("tree", "masks"):
        return source.masks
    return ()


def check_masks(
    anomalous: Sequence[TestImage],
    masks: Sequence[Path],
    folder: str | Path,
    *,
    normal: Collection[str] = (),
    images: str = "test/<defect>",
    truth: str = "ground_truth/<defect>",
) -> None:
    """Raise unless every anomalous image has a mask and every mask an image.

    Args:
      anomalous: the images.
      masks: all that there are.
      folder: they come from, for the message.
      normal: names of folders whose masks may lack an image: some data sets have
        empty masks of normal images, too.
      images: where images belong, for the message.
      truth: where masks belong.

    Raises:
      DataError: there are none, or images and masks do not pair.
    """
    lost = [one.path for one in anomalous if one.mask is None]
    if len(lost) == len(anomalous):
        raise DataError(
            f"{folder} has no ground truth; put a mask of every anomalous image "
            f"under {truth}"
        )
    if lost:
        raise DataError(
            f"{len(lost)} anomalous images have no mask, the first is {lost[0]}; add "
            f"the masks under {truth}, or remove the images"
        )
    used = {mask for one in anomalous for mask in one.masks}
    strays = [m for m in masks if m not in used and m.parent.name not in normal]
    if strays:
        raise DataError(
            f"{len(strays)} masks have no image, the first is {strays[0]}; add the "
            f"images under {images}, or remove the masks"
        )


def find_source(folder: Path, classes: Classes | None = None) -> Source:
    """What a category's folder holds, also where it has no training images."""
    if folder.name == "test" and not (folder / "test").is_dir():
        folder = folder.parent
    trained = any((folder / "train" / name).is_dir() for name in ("good", "ok"))
    if trained or not (folder / "test").is_dir():
        return discover(folder, classes=classes)
    normal = "good" if (folder / "test" / "good").is_dir() else "ok"
    test, masks = tested_in(folder / "test", folder / "ground_truth", normal)
    return Source(folder.name, (), "mvtec", folder, test, masks)


def read_in_parts(
    files: Sequence[TestImage],
    shape: tuple[int, int],
    *,
    gray: bool = False,
    size: int = 16,
    reading: Reading = AS_STORED,
) -> Iterator[TestSet]:
    """Read test images at one size, `size` of them at a time; the last may be fewer.

    Raises:
      DataError: a file cannot be read, a mask is missing or of another size than its
        image, or the images differ in their channels.
    """
    channels = None
    with ThreadPoolExecutor() as pool:
        for begin in range(0, len(files), size):
            part = files[begin : begin + size]
            read = list(
                pool.map(lambda one: read_test_image(one, shape, gray, reading), part)
            )
            for one, (image, _) in zip(part, read, strict=True):
                channels = channels or image.shape[-1]
                if image.shape[-1] != channels:
                    raise DataError(
                        f"{one.path} has {image.shape[-1]} channels, the first test "
                        f"image has {channels}; treat all as gray, or sort them apart"
                    )
            images, masks = zip(*read, strict=True)
            defects = tuple(one.defect for one in part)
            yield TestSet(np.stack(images), np.stack(masks), defects)
