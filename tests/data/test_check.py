"""The doctor finds what is planted, and nothing in clean data."""

import shutil

import numpy as np
import pytest
from PIL import Image

from anojax.data.check import LEVELS, check


def levels(found):
    return {f.level for f in found}


def the(found, words):
    """The one finding whose text holds `words`."""
    hits = [f for f in found if words in f.what]
    assert len(hits) == 1, [f.what for f in found]
    return hits[0]


@pytest.fixture
def base(fake, tmp_path):
    return fake.mvtec(tmp_path, train=24)


def test_clean_data_has_no_complaint(base):
    found = check(base)
    assert levels(found) == {"ok"}
    first = the(found, "24 normal images of 'widget', mvtec layout")
    assert "3 good, 3 scratch" in first.what
    the(found, "procedural textures")
    the(found, "a batch of 64 at 256 x 256")


def test_unusable_folder_is_the_only_finding(tmp_path):
    (found,) = check(tmp_path / "gone")
    assert found.level == "error" and "no folder" in found.what


def test_findings_come_worst_first(fake, base):
    (base / "train" / "good" / "bad.png").write_text("x")
    fake.save(base / "test" / "scratch" / "new.png", fake.sample_image(900))
    found = check(base, textures=base / "nothing")
    ranks = [LEVELS.index(f.level) for f in found]
    assert ranks == sorted(ranks)
    assert ranks[0] == 0 and ranks[-1] == 3


def test_too_few_and_unreadable(fake, tmp_path):
    base = fake.mvtec(tmp_path, train=3)
    good = base / "train" / "good"
    (good / "0.png").write_bytes(b"")
    found = check(base)
    assert the(found, "only 3 normal").level == "warning"
    broken = the(found, "0 bytes")
    assert broken.level == "warning" and broken.where.endswith("0.png")
    for path in good.iterdir():
        path.write_text("x")
    assert the(check(base), "none of the 3 normal images").level == "error"


def test_gray_as_color_mixed_and_deep(fake, base):
    good = base / "train" / "good"
    for i in range(24):
        fake.save(good / f"{i}.png", np.repeat(fake.sample_image(i, 1), 3, axis=2))
    assert "--gray" in the(check(base), "24 of 24 images are gray but stored").fix
    assert not [f for f in check(base, gray=True) if "gray" in f.what]
    fake.save(good / "1.png", fake.sample_image(1, 1))
    assert the(check(base), "1 gray and 23 color").level == "warning"
    Image.fromarray(fake.sample_image(2, 1)[..., 0].astype(np.uint16) * 257).save(
        good / "2.png"
    )
    fake.save(good / "3.png", fake.sample_image(3, 4))
    fake.save(good / "4.png", fake.sample_image(4, 3, side=40))
    found = check(base)
    assert "--native" in the(found, "1 images have 16 bits").fix
    assert the(found, "1 images are partly transparent").level == "warning"
    the(found, "2 image sizes, 24-40 high")


def test_leak_between_train_and_test_whatever_the_format(base):
    leaked = Image.open(base / "train" / "good" / "7.png")
    leaked.save(base / "test" / "good" / "copy.bmp")
    shutil.copy(base / "train" / "good" / "7.png", base / "train" / "good" / "99.png")
    found = check(base)
    leak = the(found, "1 test images are also training images")
    assert leak.level == "warning" and leak.where.endswith("copy.bmp")
    the(found, "1 normal images repeat another one")


def test_masks_of_the_test_images(fake, base):
    truth = base / "ground_truth" / "scratch"
    fake.save(truth / "000_mask.png", fake.mask(side=30))
    fake.save(truth / "001_mask.png", 255 - fake.mask())
    (truth / "002_mask.png").unlink()
    fake.save(truth / "777_mask.png", fake.mask())
    found = check(base)
    assert the(found, "another size").level == "error"
    assert "inverted" in the(found, "more than half").what
    assert the(found, "1 defect images have no mask").where.endswith("002.png")
    assert the(found, "1 masks have no image").where.endswith("777_mask.png")


def test_jpeg_and_soft_and_empty_masks(fake, base):
    truth = base / "ground_truth" / "scratch"
    for i in range(3):
        (truth / f"{i:03d}_mask.png").unlink()
    soft = fake.mask()
    soft[4, 6:12] = 90
    fake.save(truth / "000_mask.jpg", fake.mask())
    fake.save(truth / "001_mask.png", soft)
    fake.save(truth / "002_mask.png", fake.mask(0))
    found = check(base)
    assert the(found, "JPEG").fix == "save them as PNG"
    the(found, "not binary")
    assert the(found, "are empty").where.endswith("002_mask.png")


def test_class_number_masks_are_fine(fake, tmp_path):
    found = check(fake.visa(tmp_path))
    assert not [f for f in found if "defect masks" in f.what]
    assert levels(found) == {"ok", "warning"}  # there are only three images


@pytest.mark.parametrize("kind", ["region", "foreground"])
def test_masks_for_the_normal_images(fake, base, tmp_path, kind):
    folder = tmp_path / "masks"
    for i in range(24):
        fake.save(folder / f"{i}.png", fake.mask())
    assert levels(check(base, **{kind: folder})) == {"ok"}
    (folder / "5.png").unlink()
    fake.save(folder / "6.png", fake.mask(0))
    fake.save(folder / "7.png", fake.mask(side=9))
    found = check(base, **{kind: folder})
    assert the(found, f"no {kind} mask").where.endswith("5.png")
    assert the(found, "are empty").level == "error"
    assert the(found, "another size").level == "error"


def test_one_region_for_all(fake, base, tmp_path):
    one = fake.save(tmp_path / "roi.png", fake.mask())
    assert levels(check(base, region=one)) == {"ok"}


def test_exact_foregrounds_beside_the_images_are_offered(fake, base):
    fake.save(base / "foreground" / "0.png", fake.mask())
    assert "--foreground" in the(check(base), "foreground:").fix


def test_textures_folder(fake, base, tmp_path):
    (tmp_path / "tex").mkdir()
    assert the(check(base, textures=tmp_path / "tex"), "no image in").level == "error"
    fake.save(tmp_path / "tex" / "a.png", fake.sample_image(1))
    assert the(check(base, textures=tmp_path / "tex"), "1 textures").level == "ok"


def test_memory_warning_names_a_batch_that_fits(base):
    tight = the(check(base, size=4096, batch=4096), "a batch of 4096")
    assert tight.level == "warning"
    fits = int(tight.fix.split("--batch-size ")[1].split()[0])
    assert 1 <= fits < 4096
