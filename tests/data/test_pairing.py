"""Which mask belongs to which image: by path, by name, or an error that names both."""

from pathlib import Path

import numpy as np
import pytest

from anojax.data.fit import fitted
from anojax.data.mask_files import mask_files
from anojax.data.pairing import pair
from anojax.errors import DataError

IN, OUT = Path("/in"), Path("/out")


def pairs(images, masks, several=False):
    found = pair(
        [IN / i for i in images], IN, [OUT / m for m in masks], OUT, several=several
    )
    of = {
        image.relative_to(IN).as_posix(): tuple(
            m.relative_to(OUT).as_posix() for m in mine
        )
        for image, mine in found.of.items()
    }
    return of, [m.relative_to(OUT).as_posix() for m in found.orphans]


def test_by_path_and_never_across_folders():
    images = ["cam1/0.png", "cam2/0.png", "cam1/1.png"]
    of, orphans = pairs(images, ["cam2/0.png", "cam1/0.png"])
    assert of == {"cam1/0.png": ("cam1/0.png",), "cam2/0.png": ("cam2/0.png",)}
    of, orphans = pairs(images, ["cam2/0.png", "cam2/1.png"])
    assert of == {"cam2/0.png": ("cam2/0.png",)}
    assert orphans == ["cam2/1.png"]
    # Also where cam2 has other images only.
    assert pairs(["cam1/0.png", "cam2/7.png"], ["cam2/0.png"]) == ({}, ["cam2/0.png"])


def test_the_last_folders_count_where_one_path_is_longer():
    images = ["train/good/cam1/0.png", "train/good/cam2/0.png"]
    of, _ = pairs(images, ["cam1/0.png", "cam2/0.png"])
    assert of == dict(zip(images, [("cam1/0.png",), ("cam2/0.png",)], strict=True))
    of, _ = pairs(["0.png"], ["masks/left/0.png"])
    assert of == {"0.png": ("masks/left/0.png",)}


def test_by_name_where_it_can_mean_one_file_only():
    assert pairs(["a/0.jpg"], ["b/0_mask.png"])[0] == {"a/0.jpg": ("b/0_mask.png",)}


@pytest.mark.parametrize(
    "mask",
    [
        "7.png", "7_mask.png", "7_GT.bmp", "7-seg.png", "7.jpg.png", "7_label.png",
        "mask_7.png", "7.ground_truth.png", "7_ROI.png", "7_foreground.png", "7 mask.png",
    ],
)  # fmt: skip
def test_endings(mask):
    assert pairs(["7.jpg", "17.jpg"], [mask])[0] == {"7.jpg": (mask,)}


def test_an_ending_that_is_part_of_an_images_own_name():
    images = ["a.png", "a_seg.png"]
    assert pairs(images, ["a_seg.png", "a.png"])[0] == {
        "a.png": ("a.png",),
        "a_seg.png": ("a_seg.png",),
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["0.png"], ["a/0.png", "b/0.png"]),
        (["0.png"], ["0.png", "0.bmp"]),
        (["0.png"], ["0_mask.png", "0_gt.png"]),
        (["cam1/0.png", "cam2/0.png"], ["0.png"]),
        (["0.png", "0.jpg"], ["0_mask.png"]),
    ],
)
def test_two_candidates_are_an_error_that_names_both(images, masks):
    with pytest.raises(DataError) as caught:
        pairs(images, masks)
    named = [OUT / m for m in masks] if len(masks) > 1 else [IN / i for i in images]
    assert all(str(path) in str(caught.value) for path in named)


def test_several_masks_of_an_image():
    masks = ["0/000.png", "0/001.png", "1_mask_0.png", "1_mask_1.png"]
    of, orphans = pairs(["0.png", "1.png"], masks, several=True)
    assert of == {"0.png": tuple(masks[:2]), "1.png": tuple(masks[2:])}
    assert orphans == []
    # An image that is called as a mask of another one does not get it.
    images = ["000.png", "001.png"]
    masks = [f"{i}/{k}.png" for i in ("000", "001") for k in ("000", "001")]
    of, _ = pairs(images, masks, several=True)
    assert of == {"000.png": tuple(masks[:2]), "001.png": tuple(masks[2:])}


def test_regions_by_folder(fake, tmp_path):
    for cam in ("cam1", "cam2"):
        for i in range(2):
            fake.save(tmp_path / "in" / cam / f"{i}.png", fake.sample_image(i))
            where = fake.mask() if cam == "cam1" else fake.mask()[::-1]
            fake.save(tmp_path / "region" / cam / f"{i}.png", where)
    images = sorted((tmp_path / "in").rglob("*.png"))
    files = mask_files(tmp_path / "region", images, tmp_path / "in", "region")
    half = fitted((24, 24), (12, 12), "stretch")
    for image in images:
        assert files.of(image).parts[-2:] == image.parts[-2:]
        expected = fake.mask() if image.parent.name == "cam1" else fake.mask()[::-1]
        got = files.read(image, (24, 24))[..., 0]
        np.testing.assert_array_equal(got, expected > 0)
        assert files.read_at(image, (24, 24), half).shape == (12, 12, 1)
    (tmp_path / "region/cam1/0.png").unlink()
    files = mask_files(tmp_path / "region", images, tmp_path / "in", "region")
    with pytest.raises(DataError, match=r"holds no region mask for .*cam1/0\.png; add"):
        files.of(images[0])


def test_masks_among_the_images(fake, tmp_path):
    path = fake.save(tmp_path / "0.png", fake.mask())
    with pytest.raises(DataError, match="both an image and its region mask"):
        mask_files(tmp_path, [path], tmp_path, "region")


def test_folders_of_images_and_of_masks_do_not_count():
    images = [f"{split}/images/{i}.png" for split in ("train", "test") for i in "01"]
    masks = [name.replace("images", "masks") for name in images]
    of, orphans = pairs(images, masks)
    assert of == {i: (m,) for i, m in zip(images, masks, strict=True)} and not orphans
    # Unless they are types of defects themselves.
    names = ["label/0.png", "print/0.png"]
    assert pairs(names, names)[0] == {name: (name,) for name in names}
