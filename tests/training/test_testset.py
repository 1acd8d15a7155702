"""The test split in memory: sizes, truth, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from anojax.data.layouts import TestImage
from anojax.data.testset import read_test_set
from anojax.errors import DataError


def save(path, array):
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def split(tmp_path):
    good = save(tmp_path / "good.png", np.full((20, 30), 90, np.uint8))
    bad = save(tmp_path / "bad.png", np.full((20, 30), 200, np.uint8))
    truth = np.zeros((20, 30), np.uint8)
    truth[:10, :15] = 255
    mask = save(tmp_path / "mask.png", truth)
    return [TestImage(good, "good", None), TestImage(bad, "dent", mask)]


def test_images_and_truth_at_one_size(split):
    test = read_test_set(split, (10, 12))
    assert test.images.shape == (2, 10, 12, 1)
    np.testing.assert_array_equal(test.labels, [False, True])
    assert test.defects == ("good", "dent")
    expected = np.zeros((2, 10, 12), bool)
    expected[1, :5, :6] = True
    np.testing.assert_array_equal(test.masks, expected)


def test_what_cannot_be_measured(split, tmp_path):
    with pytest.raises(DataError, match="1 images and none with a defect"):
        read_test_set(split[:1], (10, 12))
    with pytest.raises(DataError, match="has a defect but no mask"):
        read_test_set([TestImage(split[1].path, "dent", None)], (10, 12))
    small = save(tmp_path / "small.png", np.full((10, 10), 255, np.uint8))
    with pytest.raises(DataError, match="another size than its image"):
        read_test_set([TestImage(split[1].path, "dent", small)], (10, 12))
    color = save(tmp_path / "color.png", np.zeros((20, 30, 3), np.uint8))
    mixed = [*split, TestImage(color, "good", None)]
    with pytest.raises(DataError, match="gray and colored"):
        read_test_set(mixed, (10, 12))
    assert read_test_set(mixed, (10, 12), gray=True).images.shape[-1] == 1
