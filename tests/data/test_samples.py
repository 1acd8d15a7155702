"""Procedural products: exact foregrounds, variation, and the layout on disk."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from anojax.data import samples
from anojax.data.folders import discover
from anojax.data.foregrounds import find_object, foregrounds
from anojax.errors import AnojaxError, DataError, UnknownName

SIDE = 128


@pytest.fixture(scope="module")
def made():
    return {name: samples.make(name, 6, SIDE) for name in samples.products()}


def test_there_are_enough_products():
    needed = {"brushed_metal", "fabric", "wood", "tile", "circuit_board", "bottle"}
    assert needed | {"capsule", "leather", "nut"} == set(samples.products())


@pytest.mark.parametrize("name", samples.products())
def test_shapes_foregrounds_and_variation(made, name):
    images, masks = made[name]
    assert images.shape == (6, SIDE, SIDE, 3) and images.dtype == np.uint8
    assert masks.shape == (6, SIDE, SIDE, 1) and masks.dtype == np.uint8
    assert set(np.unique(masks)) <= {0, 1}
    if name in samples.OBJECTS:
        assert 0.1 < masks.mean() < 0.75
        assert not masks[:, [0, -1]].any() and not masks[:, :, [0, -1]].any()
    else:
        assert masks.all()
    # The same product: alike on the whole, and no two images equal.
    assert np.ptp(images.mean(axis=(1, 2, 3))) < 40
    for i in range(5):
        assert (images[i] != images[i + 1]).mean() > 0.5
    assert images.std() > 8


@pytest.mark.parametrize("name", samples.products())
def test_images_depend_on_seed_and_number_alone(made, name):
    images, masks = samples.make(name, 2, SIDE)
    np.testing.assert_array_equal(images, made[name][0][:2])
    np.testing.assert_array_equal(masks, made[name][1][:2])
    assert (samples.make(name, 1, SIDE, seed=1)[0] != images[:1]).mean() > 0.5


@pytest.mark.parametrize("name", sorted(samples.OBJECTS))
def test_foreground_is_where_the_image_leaves_the_background(made, name):
    """Along the edge of the mask lies the strongest step of the image."""
    for image, mask in zip(*made[name], strict=True):
        gray = image.astype(np.float32).mean(axis=-1)
        gy, gx = np.gradient(gray)
        step = np.hypot(gy, gx)
        inside = mask[..., 0] > 0
        edge = inside & ~(
            np.roll(inside, 1, 0) & np.roll(inside, -1, 0)
            & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
        )  # fmt: skip
        background = ~inside
        assert step[edge].mean() > 4 * step[background].mean()


@pytest.mark.parametrize("name", samples.products())
def test_automatic_foreground_decides_rightly(made, name):
    images, masks = made[name]
    decision = foregrounds(list(images))
    if name not in samples.OBJECTS:
        assert decision.kind == "texture"
        assert decision(images[0]) is None
        return
    assert decision.kind == "object"
    assert "6 of 6" in decision.sentence
    for image, mask in zip(images, masks, strict=True):
        found = decision(image)
        assert found.shape == mask.shape and found.dtype == np.uint8
        # Holes are filled by the estimate, so only the object's own pixels count.
        assert (found & mask).sum() > 0.7 * mask.sum()


def test_estimated_mask_of_a_nut_is_close(made):
    for image, mask in zip(*made["nut"], strict=True):
        found = find_object(image).mask
        filled = ndimage.binary_fill_holes(mask[..., 0])
        assert (found & filled).sum() > 0.93 * (found | filled).sum()


def test_oblong_images():
    images, masks = samples.make("capsule", 1, (48, 80))
    assert images.shape == (1, 48, 80, 3)
    assert masks.shape == (1, 48, 80, 1)


def test_written_samples_are_a_data_set(tmp_path):
    folder = samples.write_samples(tmp_path / "s", ["nut", "wood"], 3, SIDE, seed=5)
    images, masks = samples.make("nut", 3, SIDE, seed=5)
    source = discover(folder / "nut")
    assert source.layout == "mvtec"
    assert source.foreground == folder / "nut" / "foreground"
    assert [p.name for p in source.paths] == ["000.png", "001.png", "002.png"]
    decision = foregrounds(source.paths, source.foreground)
    for path, image, mask in zip(source.paths, images, masks, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
        np.testing.assert_array_equal(decision(image, path), mask)


def test_wrong_requests(tmp_path):
    with pytest.raises(UnknownName, match="did you mean 'bottle'"):
        samples.make("botle", 1)
    with pytest.raises(AnojaxError, match="count of at least 1"):
        samples.make("nut", 0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        samples.write_samples(tmp_path / "file", ["wood"], 1, SIDE)
