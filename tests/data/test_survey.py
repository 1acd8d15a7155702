"""Which images of a user's own folders are normal: decided, or one sentence."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from anojax.data.folders import discover, discover_all
from anojax.data.testfolder import find_test_images
from anojax.errors import DataError


@pytest.fixture
def put(fake, tmp_path):
    """Writes images, and masks where a name starts with ``!`` (marked) or ``?``
    (empty), below ``tmp_path / "parts"``."""

    def write(*names, side=24):
        for number, name in enumerate(names):
            path = tmp_path / "parts" / name.lstrip("!?")
            if name[0] in "!?":
                fake.save(path, fake.mask(255 if name[0] == "!" else 0, side))
            else:
                fake.save(path, fake.sample_image(number, 1, side))
        return tmp_path / "parts"

    return write


def names(source):
    return [p.relative_to(source.root).as_posix() for p in source.paths]


def types(source):
    return sorted((t.defect, t.path.name, t.mask and t.mask.name) for t in source.test)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("OK", "NG"), ("ok", "ng"), ("Ok", "Ko"), ("good", "bad"), ("Good", "Defective"),
        ("normal", "anomaly"), ("NORMAL", "ABNORMAL"), ("pass", "fail"),
        ("01_OK_parts", "02_NG_parts"), ("non-defective", "defective"), ("良品", "不良品"),
    ],
)  # fmt: skip
def test_trees_of_good_and_bad_parts(put, good, bad):
    root = put(f"{good}/1.png", f"{good}/2.png", f"{bad}/3.png", f"{bad}/dent/4.png")
    source = discover(root)
    assert (source.layout, source.category) == ("tree", "parts")
    assert names(source) == [f"{good}/1.png", f"{good}/2.png"]
    assert types(source) == sorted([(bad, "3.png", None), ("dent", "4.png", None)])


def test_a_tree_with_splits_in_any_case_and_masks(put):
    root = put(
        "Train/Good/1.png", "Train/Bad/2.png", "Test/Good/3.png", "Test/Bad/4.png",
        "!Ground Truth/Bad/4_mask.png", "Val/Good/5.png", "6.png",
    )  # fmt: skip
    source = discover(root)
    assert names(source) == ["Train/Good/1.png"]
    assert types(source) == [("Bad", "4.png", "4_mask.png"), ("good", "3.png", None)]
    assert source.left_out == {
        "anomalous images that are not of the test split": 1,
        "images for validation": 1,
        "images in no folder of good or bad parts": 1,
    }
    assert "left out: 1 images for validation" in source.notes


def test_folders_beside_a_good_one_are_types_of_defects(put):
    root = put("test/good/1.png", "test/dull/2.png", "test/loose/3.png")
    assert names(discover(root)) == ["test/good/1.png"]
    assert [t.defect for t in discover(root / "test").test] == ["dull", "loose"]
    with pytest.raises(
        DataError, match=r"not certain: it lies beside .*--layout plain"
    ):
        discover(root / "test" / "dull")


def test_several_trees_are_several_categories(put):
    root = put(
        *(f"cam{i}/{k}/{j}.png" for i in (1, 2) for k in ("OK", "NG") for j in "ab")
    )
    assert [s.category for s in discover_all(root)] == ["cam1", "cam2"]
    with pytest.raises(DataError, match=r"2 categories \(cam1, cam2\).*--normal"):
        discover(root)
    assert len(discover(root, normal=("*/OK/*",)).paths) == 4


def test_real_iad(put, fake):
    root = put("OK/S1/a_OK_C1.jpg", "OK/S1/a_OK_C2.jpg", "NG/BX/S2/b_NG_C1.jpg")
    fake.save(root / "NG/BX/S2/b_NG_C1.png", fake.mask())
    source = discover(root)
    assert names(source) == ["OK/S1/a_OK_C1.jpg", "OK/S1/a_OK_C2.jpg"]
    assert types(source) == [("BX", "b_NG_C1.jpg", "b_NG_C1.png")]
    tested = find_test_images(root)
    assert [t.defect for t in tested] == ["good", "good", "BX"]


@pytest.mark.parametrize(
    "mask",
    [
        "{}_label.bmp", "{}_mask.png", "{}_GT.png", "{}_seg.png", "{}.jpg.png",
        "{}_MASK.tif", "{}-label.png", "{}.mask.png", "mask_{}.png", "{}_annotation.png",
        "{}.png",
    ],
)  # fmt: skip
def test_masks_beside_the_images(put, mask):
    masks = [
        sign + "k1/" + mask.format(n) for sign, n in zip("??!", "abc", strict=True)
    ]
    root = put("k1/a.jpg", "k1/b.jpg", "k1/c.jpg", *masks)
    source = discover(root)
    assert (source.layout, names(source)) == ("masks", ["k1/a.jpg", "k1/b.jpg"])
    assert types(source) == [("defect", "c.jpg", mask.format("c"))]


def test_masks_in_a_folder_of_their_own(put):
    images = [f"images/{n}.jpg" for n in "abc"]
    root = put(*images, "?masks/a.png", "?masks/b_mask.png", "!masks/c_GT.png")
    assert names(discover(root)) == ["images/a.jpg", "images/b.jpg"]
    (root / "masks/a.png").unlink()
    with pytest.raises(DataError, match=r"1 images have none, the first is .*a\.jpg"):
        discover(root)
    assert names(discover(root, "masks")) == ["images/a.jpg", "images/b.jpg"]


def test_kolektor_2_has_splits(put):
    root = put(
        "train/1.png", "?train/1_GT.png", "train/2.png", "!train/2_GT.png",
        "test/3.png", "?test/3_GT.png", "test/4.png", "!test/4_GT.png",
    )  # fmt: skip
    source = discover(root)
    assert names(source) == ["train/1.png"]
    assert types(source) == [("defect", "4.png", "4_GT.png"), ("good", "3.png", None)]
    assert sum(source.left_out.values()) == 1


def test_only_defects_are_no_normal_images(put):
    root = put("images/a.jpg", "!masks/a.png")
    with pytest.raises(DataError, match="no normal image: each of its 1 images"):
        discover(root)


UNCERTAIN = {
    "bad folder": ["1.png", "2.png", "NG/3.png"],
    "defects deeper": ["cam1/1.png", "cam1/defects/2.png"],
    "test folder": ["train/1.png", "test/2.png"],
    "label folder": ["1.png", "label/2.png", "Labels/x.png"],
    "masks alone": ["1.png", "2.png", "!7_mask.png"],
    "named as bad": ["part_1_OK.png", "part_2_NG.png"],
    "two values": ["1.png", "2.png", "3.png", "!1x.png"],
    "types of defects": ["crack/1.png", "hole/2.png"],
    "which is good?": ["Positive/1.png", "Negative/2.png"],
    "YOLO": ["images/train/1.png", "labels/train/1.txt"],
    "COCO": ["images/1.png", "annotations/instances.json"],
    "a table": ["1.png", "2.png", "labels.csv"],
    "a text for an image": ["1.png", "2.png", "1.txt"],
}


@pytest.mark.parametrize("kind", UNCERTAIN)
def test_uncertain_folders_stop_with_one_sentence(put, kind):
    listed = UNCERTAIN[kind]
    root = put(*(n for n in listed if n.endswith(".png")))
    for name in listed:
        if not name.endswith(".png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("x")
    with pytest.raises(DataError, match="is not certain: ") as caught:
        discover(root)
    message = str(caught.value)
    assert "--normal GLOB" in message and "--layout plain" in message
    assert "\n" not in message
    every = discover(root, "plain")
    assert len(every.paths) == sum(n.endswith(".png") for n in listed)
    assert names(discover(root, normal=("*1*.png",)))


@pytest.mark.parametrize("name", ["NG", "mask", "Test", "Ground_Truth", "defects"])
def test_the_name_of_the_folder_itself_counts(put, name):
    root = put(f"{name}/1.png", f"{name}/2.png") / name
    with pytest.raises(DataError, match=f"the folder is called '{name}'"):
        discover(root)
    assert len(discover(root, "plain").paths) == 2


def test_plain_folders_stay_plain(put):
    root = put(
        "cam1/1.png", "cam1/2.png", "io_module/1.png", "2024-05/Clean Room/1.png"
    )
    (root / "notes.txt").write_text("night shift")
    source = discover(root)
    assert (source.layout, len(source.paths), source.test) == ("plain", 4, ())


def test_images_that_all_have_two_values_are_images(fake, tmp_path):
    for i in range(3):
        fake.save(tmp_path / "prints" / f"{i}.png", np.roll(fake.mask(), i, 0))
    assert len(discover(tmp_path / "prints").paths) == 3


def test_thumbnails_and_what_systems_leave(put):
    root = put(
        "1.png", "2.png", "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/1.png",
        "__MACOSX/._1.png", "._2.png", "#recycle/1.png", ".@__thumb/1.png",
    )  # fmt: skip
    (root / "Thumbs.db").write_bytes(b"x")
    source = discover(root)
    assert names(source) == ["1.png", "2.png"]
    assert source.left_out == {"folders of thumbnails or of the system": 3}


def test_runs_of_anojax_are_no_input(put):
    root = put(
        "1.png", "run/parts/test/nsa/1.png", "train/model/a.png", "old/sheet.png"
    )
    for run, files in {
        "run": ["config.yaml", "manifest.jsonl"],
        "train": ["config.yaml"],
        "old": ["scores.json", "report.html"],
    }.items():
        for name in files:
            (root / run / name).write_text("{}")
    (root / "begun" / ".anojax").mkdir(parents=True)
    put("begun/parts/train/good/1.png")
    source = discover(root)
    assert names(source) == ["1.png"]
    assert source.left_out == {"runs of anojax": 4}
    # What is pointed at is read, also where it is in a run.
    assert len(discover(root / "run" / "parts" / "test" / "nsa", "plain").paths) == 1


def test_links_to_folders_are_followed_once(put, tmp_path):
    root = put("c/1.png")
    store = tmp_path / "store"
    shutil.copytree(root / "c", store)
    os.symlink(store, root / "a")
    os.symlink(root / "c", root / "again")
    os.symlink(root, root / "c" / "loop")
    os.symlink(tmp_path / "gone.png", root / "gone.png")
    source = discover(root)
    assert names(source) == ["a/1.png", "c/1.png"]
    assert source.left_out == {
        "links that lead nowhere": 1,
        "links to folders that are read already": 2,
    }
    os.makedirs(tmp_path / "cat" / "train")
    os.symlink(store, tmp_path / "cat" / "train" / "good")
    linked = discover(tmp_path / "cat" / "train" / "good")
    assert (linked.category, linked.layout) == ("cat", "mvtec")


def test_what_is_dropped_is_counted(put):
    root = put("1.png")
    (root / "2.gif").write_bytes(b"GIF89a")
    (root / "3.heic").write_bytes(b"x")
    os.mkfifo(root / "4.png")
    with open(os.fsencode(root) + b"/caf\xe9.png", "wb") as file:
        file.write((root / "1.png").read_bytes())
    source = discover(root)
    assert names(source) == ["1.png"]
    assert source.left_out == {
        ".gif files, which are not read": 1,
        ".heic files, which are not read": 1,
        "pipes or devices": 1,
        "names that are not UTF-8": 1,
    }


def test_nothing_but_other_formats(put, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "1.jp2").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image in .*left out: 1 \.jp2 files"):
        discover(tmp_path / "scans")


def test_superscripts_and_long_numbers_have_an_order(put):
    root = put("²5.png", "part²10.png", "part²9.png", "1" * 80 + ".png")
    assert len(discover(root).paths) == 4


def test_patterns(put):
    root = put("OK_1.png", "OK_2.png", "NG_1.png", "more/OK_3.png")
    source = discover(root, normal=("OK*", "more/*"))
    assert names(source) == ["more/OK_3.png", "OK_1.png", "OK_2.png"]
    assert source.left_out == {"images that --normal does not name": 1}
    with pytest.raises(
        DataError, match=r"--normal Good\* matches none of the 4 images"
    ):
        discover(root, normal=("Good*",))
    with pytest.raises(DataError, match="and so does --layout mvtec"):
        discover(root, "mvtec", normal=("OK*",))


def test_images_beside_a_data_set(fake, tmp_path):
    fake.mvtec(tmp_path, "bolt")
    fake.save(tmp_path / "1.png", fake.sample_image(1))
    with pytest.raises(
        DataError, match="1 images lie in it beside the folder of a data"
    ):
        discover(tmp_path)


def test_mixed_twins_of_jpegs(put, fake):
    root = put("a.jpg", "b.jpg")
    fake.save(root / "a.png", fake.mask())
    fake.save(root / "b.png", fake.sample_image(5))
    with pytest.raises(DataError, match=r"1 of 2 files beside a JPEG.*b\.png does not"):
        discover(root)
    fake.save(root / "a.png", fake.sample_image(6))
    assert len(discover(root).paths) == 4  # photos in two formats


def test_an_image_has_two_masks(put):
    root = put("a.jpg", "b.jpg", "?a_mask.png", "!a_gt.png", "?b_mask.png")
    with pytest.raises(DataError, match=r"a\.jpg has two masks, .*a_gt.* and .*a_mask"):
        discover(root)


def test_multi_page_files_are_no_masks(tmp_path, fake):
    pages = [Image.fromarray(fake.mask()) for _ in range(3)]
    fake.save(tmp_path / "in" / "a.png", fake.sample_image(1))
    pages[0].save(tmp_path / "in" / "a.tif", save_all=True, append_images=pages[1:])
    assert len(discover(tmp_path / "in").paths) == 2


def test_a_folder_whose_name_is_not_utf8(put):
    root = os.fsencode(put("1.png")) + b"\xe9"
    os.rename(put("1.png"), root)
    with pytest.raises(DataError, match=r"\\udce9' is not UTF-8; rename it"):
        discover(os.fsdecode(root))


def test_images_and_masks_in_splits(put):
    root = put(
        "train/images/1.png", "?train/masks/1.png", "train/images/2.png",
        "!train/masks/2.png", "test/images/1.png", "!test/masks/1.png",
    )  # fmt: skip
    source = discover(root)
    assert names(source) == ["train/images/1.png"]
    assert types(source) == [("defect", "1.png", "1.png")]
    with pytest.raises(DataError, match="masks lie beside it, in .*masks"):
        discover(root / "train" / "images")


def test_foreground_masks_beside_images_are_no_defects(put):
    root = put("a.jpg", "b.jpg", "!a_mask.png", "!b_mask.png")
    with pytest.raises(DataError, match="no normal image: .*--normal GLOB"):
        discover(root)
    assert names(discover(root, normal=("*.jpg",))) == ["a.jpg", "b.jpg"]


def test_mvtec_3d(put):
    root = put(
        "train/good/rgb/0.png", "test/good/rgb/0.png", "?test/good/gt/0.png",
        "test/hole/rgb/0.png", "!test/hole/gt/0.png",
    )  # fmt: skip
    xyz = np.zeros((24, 24), np.float32)
    (root / "train/good/xyz").mkdir()
    Image.fromarray(xyz).save(root / "train/good/xyz/0.tiff")
    source = discover(root)
    assert (source.layout, names(source)) == ("mvtec3d", ["train/good/rgb/0.png"])
    assert types(source) == [("good", "0.png", None), ("hole", "0.png", "0.png")]
    assert source.test[1].mask == root / "test/hole/gt/0.png"
    assert source.left_out == {"depth images": 1}
    assert len(find_test_images(root)) == 2
