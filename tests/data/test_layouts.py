"""Every published layout is recognized from a tiny copy, wherever one points at it."""

import os
from pathlib import Path

import numpy as np
import pytest

from anojax.data.folders import discover, discover_all
from anojax.data.testset import read_test_image
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


def test_mvtec_2(fake, tmp_path):
    base = fake.mvtec2(tmp_path)
    source = discover(base)
    assert (source.layout, source.category) == ("mvtec2", "can")
    assert len(source.paths) == 6
    bad = [t for t in source.test if t.defect == "bad"]
    assert len(bad) == 6 and len(source.test) == 12
    assert all(t.mask.stem == f"{t.path.stem}_mask" for t in bad)
    assert source.left_out == {"images in other folders, such as validation": 12}
    assert discover(base / "train" / "good").layout == "mvtec2"


def test_loco_has_several_masks_of_an_image(fake, tmp_path):
    source = discover(fake.loco(tmp_path))
    assert (source.layout, len(source.paths)) == ("loco", 2)
    bad = [t for t in source.test if t.defect != "good"]
    assert [t.defect for t in bad] == ["logical_anomalies"] * 2 + [
        "structural_anomalies"
    ] * 2
    for one in bad:
        assert [m.name for m in one.masks] == ["000.png", "001.png"]
        assert {m.parent.name for m in one.masks} == {one.path.stem}
        _, mask = read_test_image(one, (24, 24), False)
        whole = (fake.mask() > 0) | (fake.mask()[::-1] > 0)
        np.testing.assert_array_equal(mask, whole)


def test_dagm(fake, tmp_path):
    source = discover(fake.dagm(tmp_path))
    assert (source.layout, source.category) == ("dagm", "Class1")
    assert [p.stem for p in source.paths] == ["0000", "0001", "0002"]
    assert [(t.defect, t.mask and t.mask.name) for t in source.test] == [
        ("good", None), ("good", None), ("good", None), ("defect", "0013_label.PNG"),
    ]  # fmt: skip
    assert source.left_out == {"images of Train with a defect": 1}
    fake.dagm(tmp_path, "Class2")
    assert [s.category for s in discover_all(tmp_path)] == ["Class1", "Class2"]


@pytest.mark.parametrize("image", ["../../secret.png", "/etc/x.png", "a/../../b.png"])
def test_a_split_that_leads_out_of_its_data_set(fake, tmp_path, image):
    base = fake.visa(tmp_path)
    table = tmp_path / "split_csv" / "1cls.csv"
    table.write_text(f"object,split,label,image,mask\ncandle,train,normal,{image},\n")
    with pytest.raises(DataError, match="leads out of"):
        discover(base)


def test_a_split_table_in_another_encoding(fake, tmp_path):
    base = fake.visa(tmp_path)
    table = tmp_path / "split_csv" / "1cls.csv"
    before = discover(base).paths
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert discover(base).paths == before
    table.write_bytes(table.read_text().encode("utf-16"))
    with pytest.raises(DataError, match="is not UTF-8"):
        discover(base)


def test_types_in_masks_of_visa_are_all_defects(fake, tmp_path):
    base = fake.visa(tmp_path)
    several = fake.mask(1) + fake.mask(2)[::-1]
    fake.save(base / "Data" / "Masks" / "Anomaly" / "000.png", several)
    one = next(t for t in discover(base).test if t.defect != "good")
    _, mask = read_test_image(one, (24, 24), False)
    np.testing.assert_array_equal(mask, several > 0)


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


def test_masks_of_test_images_in_subfolders(fake, tmp_path):
    base = fake.mvtec(tmp_path)
    for cam in ("cam1", "cam2"):
        where = fake.mask() if cam == "cam1" else fake.mask()[::-1]
        fake.save(base / "test" / "dent" / cam / "0.png", fake.sample_image(1))
        fake.save(base / "ground_truth" / "dent" / cam / "0_mask.png", where)
    dents = [t for t in discover(base).test if t.defect == "dent"]
    assert [t.mask.parent.name for t in dents] == ["cam1", "cam2"]
    (base / "ground_truth" / "dent" / "cam1" / "0_mask.png").unlink()
    dents = [t for t in discover(base).test if t.defect == "dent"]
    assert [t.mask and t.mask.parent.name for t in dents] == [None, "cam2"]
    # One that could belong to either belongs to none.
    fake.save(base / "ground_truth" / "dent" / "0.png", fake.mask())
    dents = [t for t in discover(base).test if t.defect == "dent"]
    assert [t.mask and t.mask.parent.name for t in dents] == [None, "cam2"]
