"""The sensor's range: found in the data set, stated, and never left with --native."""

import numpy as np
import pytest
from PIL import Image

from anojax.data.check import check
from anojax.data.manifest import contrast
from anojax.data.native import to_native
from anojax.data.reading import Reading, depth
from anojax.data.records import read_image, to_8bit
from anojax.errors import DataError


def camera(folder, bits, count=4, dark=False):
    """Files of 16 bits with the values of a sensor; the first reaches its top."""
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(bits)
    paths = []
    for i in range(count):
        array = draw.integers(0, 2**bits // (3 if dark else 1), (16, 20)).astype(
            np.uint16
        )
        if i == 0 and not dark:
            array[0, 0] = 2**bits - 1
        paths.append(folder / f"{i}.tif")
        Image.fromarray(array).save(paths[-1])
    return paths


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_depth_is_that_of_the_data_set(tmp_path, bits):
    paths = camera(tmp_path / "in", bits)
    found = depth(paths)
    assert found.bits == bits
    assert f"{bits} bits of 16" in found.sentence and "--bits" in found.sentence
    how = Reading(bits=found.bits)
    small = how.small(paths[0], how.image(paths[0]), (16, 20))
    assert small.dtype == np.uint8 and small.max() == 255
    raw = read_image(paths[0]).array.astype(float)
    np.testing.assert_array_equal(small, np.rint(raw * 255 / (2**bits - 1)))


def test_the_user_knows_better(tmp_path):
    paths = camera(tmp_path / "in", 12, dark=True)
    assert depth(paths).bits == 12  # 1365 needs 11, which no camera has
    assert depth(paths, 14).sentence == "14 bits of 16, as requested"
    assert Reading(bits=14).image(paths[0]).max() < 2**12


def test_eight_bits_and_broken_files_say_nothing(tmp_path, fake):
    paths = [fake.save(tmp_path / "a.png", fake.sample_image(1))]
    (tmp_path / "b.png").write_text("x")
    found = depth([*paths, tmp_path / "b.png"])
    assert (found.bits, found.sentence) == (16, "")


def test_a_value_above_the_depth_is_named(tmp_path):
    paths = camera(tmp_path / "in", 12)
    how = Reading(bits=10)
    with pytest.raises(DataError, match=r"0\.tif .* holds 4095, above the 1023 of 10"):
        how.small(paths[0], how.image(paths[0]), (16, 20))


def test_eight_bits_of_twelve_round_to_the_nearest():
    every = np.arange(4096, dtype=np.uint16).reshape(64, 64, 1)
    expected = np.rint(every * (255 / 4095)).astype(np.uint8)
    np.testing.assert_array_equal(to_8bit(every, 12), expected)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_native_stays_in_the_sensors_range(bits):
    top = 2**bits - 1
    native = np.full((8, 8, 1), top - 3, np.uint16)
    normal, image = np.zeros((8, 8, 1), np.uint8), np.full((8, 8, 1), 255, np.uint8)
    mask = np.full((8, 8, 1), 255, np.uint8)
    changed, _ = to_native(native, normal, image, mask, bits)
    assert (changed == top).all()
    halved, _ = to_native(native * 0, normal, image // 2, mask, bits)
    np.testing.assert_array_equal(halved, round(127 / 255 * top))
    assert contrast(native * 0, halved, mask, bits) == pytest.approx(
        127 / 255, abs=1e-3
    )


def test_the_doctor_says_so(tmp_path):
    camera(tmp_path / "in", 12, count=24)
    found = check(tmp_path / "in", foreground="none")
    hits = [f for f in found if "12 bits of 16" in f.what]
    assert len(hits) == 1 and hits[0].level == "warning"
    given = check(tmp_path / "in", foreground="none", bits=10)
    assert any("above the 1023 of 10 bits" in f.what for f in given)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (
            np.linspace(0, 1, 400, dtype=np.float32),
            r"floating-point values from 0 to 1;",
        ),
        (
            np.full(400, np.nan, np.float32),
            "floating-point values, none of them a number",
        ),
        (np.arange(400, dtype=np.int32) * 1000, "32-bit values from 0 to 399000"),
        (np.arange(400, dtype=np.int32) - 9, "32-bit values from -9 to 390"),
    ],
)
def test_other_numbers_are_refused_with_their_range(tmp_path, array, says):
    Image.fromarray(array.reshape(20, 20)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=says):
        read_image(tmp_path / "a.tif")


def frames(path, count, **options):
    draw = np.random.default_rng(1)
    pages = [
        Image.fromarray(draw.integers(0, 256, (40, 48), np.uint8)) for _ in range(count)
    ]
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    return np.asarray(pages[0])


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.webp"])
def test_several_frames_are_refused_or_chosen(tmp_path, name):
    first = frames(tmp_path / name, 3, **({"lossless": True} if "webp" in name else {}))
    with pytest.raises(DataError, match="holds 3 frames; .* --frames first"):
        read_image(tmp_path / name)
    got = read_image(tmp_path / name, frames="first", gray=True).array[..., 0]
    assert np.abs(got.astype(int) - first).max() <= 1


def test_small_copies_of_a_page_are_no_frames(tmp_path):
    page = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
    )
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page.resize((24, 20))])
    got = read_image(tmp_path / "a.tif").array[..., 0]
    np.testing.assert_array_equal(got, np.asarray(page))
