"""Real defects to learn from: which are chosen, how they are read, what is refused."""

import hashlib
import json

import numpy as np
import pytest

from anojax.data.exemplars import FILE, listed_in, read_exemplars
from anojax.errors import DataError


@pytest.fixture
def category(tmp_path, fake):
    """Two types of defects, numbered beyond nine, under test and ground_truth."""
    base = tmp_path / "widget"
    for kind, first in (("scratch", 0), ("bend", 50)):
        for i in (1, 2, 10):
            fake.save(base / "test" / kind / f"{i}.png", fake.sample_image(first + i))
            mask = fake.mask() if kind == "scratch" else fake.mask()[::-1]
            fake.save(base / "ground_truth" / kind / f"{i}_mask.png", mask)
    fake.save(base / "test" / "good" / "0.png", fake.sample_image(99))
    return base


def test_the_first_of_every_type(category, fake):
    found = read_exemplars(category, (24, 24), per_defect=2)
    assert found.defects == ("bend", "scratch") and len(found) == 4
    names = [f"{one.defect}/{one.path.name}" for one in found.files]
    assert names == ["bend/1.png", "bend/2.png", "scratch/1.png", "scratch/2.png"]
    np.testing.assert_array_equal(found.labels, [1, 1, 2, 2])
    np.testing.assert_array_equal(found.images[3], fake.sample_image(2))
    np.testing.assert_array_equal(found.masks[3, ..., 0], fake.mask() > 0)
    np.testing.assert_array_equal(found.masks[0, ..., 0], fake.mask()[::-1] > 0)


def test_one_of_them(category, fake):
    one = read_exemplars(category, (12, 24), per_defect=3, gray=True)[1]
    assert one.image.shape == (12, 24, 1) and one.image.dtype == np.uint8
    np.testing.assert_array_equal(one.exemplar.image, one.image)
    assert one.exemplar.mask.shape == (12, 24, 1)
    assert set(np.unique(one.exemplar.mask)) == {0, 1}
    assert one.label == 1 and one.label.dtype == np.int32


def test_the_list_of_files_is_kept(category, tmp_path):
    found = read_exemplars(category, (24, 24), per_defect=1)
    text = found.listed()
    rows = json.loads(text)["exemplars"]
    assert [(row["defect"], row["label"]) for row in rows] == [
        ("bend", 1),
        ("scratch", 2),
    ]
    assert listed_in(tmp_path) == {}
    (tmp_path / FILE).write_text(text)
    path = category / "test/bend/1.png"
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    assert listed_in(tmp_path)[content] == str(path)


def test_images_beside_masks(tmp_path, fake):
    for i in range(2):
        fake.save(tmp_path / "images" / f"{i}.jpg", fake.sample_image(i))
        fake.save(tmp_path / "masks" / f"{i}.png", fake.mask())
    found = read_exemplars(tmp_path, (24, 24), per_defect=2)
    assert found.defects == ("defect",) and found.labels.tolist() == [1, 1]
    for kind in ("b", "a"):
        fake.save(tmp_path / "two/images" / kind / "0.png", fake.sample_image(1))
        fake.save(tmp_path / "two/masks" / kind / "0_mask.png", fake.mask())
    found = read_exemplars(tmp_path / "two", (24, 24), per_defect=1)
    assert found.defects == ("a", "b")


def test_known_data_sets(tmp_path, fake):
    assert len(read_exemplars(fake.mvtec(tmp_path), (24, 24), per_defect=3)) == 3
    tiles = read_exemplars(fake.magnetic_tile(tmp_path), (24, 24), per_defect=2)
    assert tiles.defects == ("blowhole", "crack")


def spoiled(kind, folder, fake):
    if kind == "no mask":
        (folder / "ground_truth/bend/10_mask.png").unlink()
    elif kind == "no image":
        (folder / "test/bend/10.png").unlink()
    elif kind == "empty":
        fake.save(folder / "ground_truth/bend/2_mask.png", 0 * fake.mask())
    elif kind == "gray":
        fake.save(folder / "test/scratch/1.png", fake.sample_image(1, 1))
    elif kind == "size":
        fake.save(folder / "ground_truth/bend/2_mask.png", fake.mask(side=30))
    return folder


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no mask", "1 anomalous images have no mask, the first is .*bend/10.png"),
        ("no image", "1 masks have no image, the first is .*10_mask.png"),
        ("empty", "2_mask.png marks no defect at 24 x 24 pixels"),
        ("gray", "1.png has 1 channels, the first exemplar has 3"),
        ("size", "another size than its image"),
    ],
)
def test_what_is_wrong_is_said(category, fake, kind, says):
    with pytest.raises(DataError, match=says):
        read_exemplars(spoiled(kind, category, fake), (24, 24), per_defect=2)


def test_too_few(category, fake):
    for i in (3, 4):
        fake.save(category / "test/bend" / f"{i}.png", fake.sample_image(i))
        fake.save(category / "ground_truth/bend" / f"{i}.png", fake.mask())
    with pytest.raises(DataError, match=r"is 5, but .* has 3 of 'scratch'; .* most 3"):
        read_exemplars(category, (24, 24))


def test_no_defects(tmp_path, fake):
    with pytest.raises(DataError, match="holds no defects; expected images under"):
        read_exemplars(fake.plain(tmp_path), (24, 24))
    with pytest.raises(DataError, match="there is no folder"):
        read_exemplars(tmp_path / "nowhere", (24, 24))
    fake.save(tmp_path / "one/images/0.png", fake.sample_image(0))
    fake.save(tmp_path / "one/masks/1.png", fake.mask())
    with pytest.raises(DataError, match="no ground truth; .* under masks"):
        read_exemplars(tmp_path / "one", (24, 24), per_defect=1)
