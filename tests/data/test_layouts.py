"""Every published layout is recognized from a tiny copy, wherever one points at it."""

import os
from pathlib import Path

import pytest

from anojax.data.folders import discover
from anojax.errors import DataError


@pytest.mark.parametrize("inner", [".", "train", "train/good"])
def test_mvtec(fake, tmp_path, inner):
    base = fake.mvtec(tmp_path)
    source = discover(base / inner)
    assert (source.layout, source.category, source.root) == ("mvtec", "widget", base)
    assert [p.name for p in source.paths] == [f"{i}.png" for i in range(12)]
    by_defect = {}
    for one in source.test:
        by_defect.setdefault(one.defect, []).append(one)
    assert {k: len(v) for k, v in by_defect.items()} == {"good": 3, "scratch": 3}
    assert all(t.mask is None for t in by_defect["good"])
    assert [t.mask.name for t in by_defect["scratch"]] == [
        f"{i:03d}_mask.png" for i in range(3)
    ]
    assert len(source.masks) == 3
    assert source.foreground is None


def test_btad(fake, tmp_path):
    base = fake.btad(tmp_path)
    for folder in (base, base / "train" / "ok"):
        source = discover(folder)
        assert (source.layout, source.category, len(source.paths)) == ("btad", "01", 4)
        bad = [t for t in source.test if t.defect == "ko"]
        assert len(bad) == 4
        assert all(t.mask.stem == t.path.stem for t in bad)
        assert sum(t.defect == "good" for t in source.test) == 4


def test_visa_with_its_split(fake, tmp_path):
    source = discover(fake.visa(tmp_path))
    assert (source.layout, source.category) == ("visa", "candle")
    assert [p.stem for p in source.paths] == ["0000", "0001", "0002"]
    assert [(t.path.stem, t.defect) for t in source.test] == [
        ("0003", "good"), ("0004", "good"), ("000", "anomaly"), ("001", "anomaly"),
    ]  # fmt: skip
    assert all(t.mask.is_file() for t in source.test if t.defect == "anomaly")


def test_visa_without_split_and_with_a_broken_one(fake, tmp_path):
    base = fake.visa(tmp_path, split=False)
    for folder in (base, base / "Data" / "Images" / "Normal"):
        source = discover(folder)
        assert len(source.paths) == 5
        assert len(source.test) == 2
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("name,part\ncandle,train\n")
    with pytest.raises(DataError, match=r"1cls\.csv lacks 'object'"):
        discover(base)


def test_magnetic_tile(fake, tmp_path):
    base = fake.magnetic_tile(tmp_path)
    for folder in (base, base / "MT_Free", base / "MT_Free" / "Imgs"):
        source = discover(folder)
        assert (source.layout, source.category) == ("magnetic_tile", "magnetic_tile")
        # The masks beside the images are no images.
        assert [p.suffix for p in source.paths] == [".jpg"] * 4
        assert [t.defect for t in source.test] == ["blowhole"] * 2 + ["crack"] * 2
        assert all(t.mask == t.path.with_suffix(".png") for t in source.test)


def test_plain_folder(fake, tmp_path):
    source = discover(fake.plain(tmp_path))
    assert (source.layout, source.category, len(source.paths)) == ("plain", "photos", 4)
    assert source.test == ()


def test_several_categories_are_an_error_that_names_one(fake, tmp_path):
    first, _ = fake.mvtec(tmp_path, "bolt"), fake.mvtec(tmp_path, "washer")
    with pytest.raises(DataError, match=r"2 categories \(bolt, washer\)") as caught:
        discover(tmp_path)
    assert str(first) in str(caught.value)


def test_the_only_category_of_a_data_set_is_taken(fake, tmp_path):
    base = fake.mvtec(tmp_path, "bolt")
    assert discover(tmp_path).root == base


def test_a_named_layout_must_fit(fake, tmp_path):
    base = fake.mvtec(tmp_path)
    assert len(discover(base, "plain").paths) == 12 + 3 + 3 + 3
    with pytest.raises(DataError, match="not laid out as 'btad'"):
        discover(base, "btad")
    with pytest.raises(DataError, match="did you mean 'mvtec'"):
        discover(base, "mvtek")


def test_layout_without_images(tmp_path):
    (tmp_path / "bolt" / "train" / "good").mkdir(parents=True)
    with pytest.raises(DataError, match="no image in"):
        discover(tmp_path / "bolt")


def test_relative_paths(fake, tmp_path, monkeypatch):
    base = fake.mvtec(tmp_path)
    monkeypatch.chdir(base / "train" / "good")
    source = discover(".")
    assert source.category == "widget"
    assert all(p.is_absolute() for p in source.paths)


@pytest.mark.skipif(
    "ANOJAX_REAL_DATA" not in os.environ, reason="ANOJAX_REAL_DATA is not set"
)
def test_real_data():
    source = discover(Path(os.environ["ANOJAX_REAL_DATA"]))
    assert source.layout == "mvtec"
    bad = [t for t in source.test if t.defect != "good"]
    assert bad and all(t.mask.is_file() for t in bad)
