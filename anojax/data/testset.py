"""The test split of a data set in memory: what a detector is measured on."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from anojax.data.layouts import GOOD, TestImage
from anojax.data.masks import mask_of, parse_classes
from anojax.data.reading import AS_STORED, Reading, with_gray
from anojax.errors import DataError


@dataclass(frozen=True)
class TestSet:
    """Images with their truth, all of one size."""

    # Not a test class, whatever its name says to pytest.
    __test__ = False

    images: UInt8[np.ndarray, "n h w c"]
    masks: Bool[np.ndarray, "n h w"]
    """Where the defect is; nothing in normal images."""
    defects: tuple[str, ...]
    """Type of each image's defect, ``"good"`` for none."""

    @property
    def labels(self) -> Bool[np.ndarray, " n"]:
        """True for anomalous images."""
        return np.array([defect != GOOD for defect in self.defects])


def read_test_set(
    files: Sequence[TestImage],
    shape: tuple[int, int],
    *,
    gray: bool = False,
    reading: Reading = AS_STORED,
) -> TestSet:
    """Read a test split at one size: images bilinear, masks nearest.

    Raises:
      DataError: there is no image, no anomalous one, a mask is missing or of another
        size, or the images differ in their channels.
    """
    if not any(one.defect != GOOD for one in files):
        raise DataError(
            f"the test split has {len(files)} images and none with a defect; "
            "put some under test/<defect> with masks under ground_truth/<defect>"
        )
    with ThreadPoolExecutor() as pool:
        read = list(
            pool.map(lambda one: read_test_image(one, shape, gray, reading), files)
        )
    images, masks = zip(*read, strict=True)
    channels = {image.shape[-1] for image in images}
    if len(channels) > 1:
        raise DataError(
            "the test split holds gray and colored images; treat all as gray"
        )
    defects = tuple(one.defect for one in files)
    return TestSet(np.stack(images), np.stack(masks), defects)


def read_test_image(
    one: TestImage, shape: tuple[int, int], gray: bool, reading: Reading = AS_STORED
) -> tuple[UInt8[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    """An image of the test split and its mask, at one size; several masks united.

    Raises:
      DataError: a file cannot be read, or the mask is missing, of another size, or not
        binary (see `data.masks`).
    """
    reading = with_gray(reading, gray)
    array = reading.image(one.path)
    image = reading.small(one.path, array, shape)
    if one.defect == GOOD:
        return image, np.zeros(shape, bool)
    if one.mask is None:
        raise DataError(f"{one.path} has a defect but no mask in the ground truth")
    classes = reading.classes or parse_classes(one.mask_classes)
    mask = np.zeros(array.shape[:2], bool)
    for path in one.masks:
        mask |= mask_of(path, array.shape[:2], classes=classes, image=one.path)
    full = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    small = full.resize(shape[::-1], Image.Resampling.NEAREST)
    return image, np.asarray(small) > 0
