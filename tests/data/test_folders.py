"""Finding and reading images: formats, depths, rotations, and clear refusals."""

import threading

import numpy as np
import pytest
from PIL import Image

from anojax.data.folders import discover, find_images
from anojax.data.masks import read_mask
from anojax.data.records import (
    MAX_SIDE_PX,
    read_image,
    to_8bit,
    to_size,
)
from anojax.errors import AnojaxError, DataError

SHAPE = (20, 31)


def values(channels, dtype=np.uint8):
    draw = np.random.default_rng(channels)
    top = np.iinfo(dtype).max + 1
    return draw.integers(0, top, (*SHAPE, channels), dtype).squeeze()


def test_natural_order_subfolders_and_hidden_files(fake, tmp_path):
    found = find_images(fake.plain(tmp_path))
    assert [p.name for p in found] == [
        "part3.TIF", "part1.png", "part2.png", "part10.png",
    ]  # fmt: skip


def test_missing_empty_and_file_instead_of_folder(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image in"):
        find_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="is a file"):
        discover(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats_come_back_exactly(tmp_path, name, channels):
    array = values(channels)
    Image.fromarray(array).save(tmp_path / name, lossless=True)
    sample_image = read_image(tmp_path / name)
    if name == "a.webp":  # WebP has no single-channel form
        array = np.broadcast_to(array.reshape(*SHAPE, channels), (*SHAPE, 3))
    np.testing.assert_array_equal(sample_image.array, array.reshape(*SHAPE, -1))
    assert sample_image.gray == (array.ndim == 2)
    assert sample_image.bits == 8


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_its_channels(tmp_path, channels):
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    array = np.stack([smooth] * channels, -1).squeeze()
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=95)
    got = read_image(tmp_path / "a.jpg").array
    assert got.shape == (64, 64, channels)
    assert np.abs(got.astype(int) - array.reshape(64, 64, channels)).max() < 12


@pytest.mark.parametrize("mode, channels", [("RGBA", 3), ("LA", 1)])
def test_alpha_is_dropped_not_blended(tmp_path, mode, channels):
    array = values(len(mode))
    Image.fromarray(array, mode=None).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(got.array, array[..., :channels])
    assert got.stored == mode


def test_palettes_bilevel_and_cmyk(tmp_path):
    color = Image.fromarray(values(3)).quantize(16)
    color.save(tmp_path / "p.png")
    expected = np.asarray(color.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").array, expected)
    gray = Image.fromarray(values(1)).convert("P")
    gray.save(tmp_path / "g.png")
    assert read_image(tmp_path / "g.png").array.shape == (*SHAPE, 1)
    bits = Image.fromarray(values(1)).convert("1")
    bits.save(tmp_path / "b.png")
    assert set(np.unique(read_image(tmp_path / "b.png").array)) == {0, 255}
    Image.fromarray(values(3)).convert("CMYK").save(tmp_path / "c.tif")
    np.testing.assert_allclose(
        read_image(tmp_path / "c.tif").array.astype(int), values(3), atol=2
    )


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bit_gray(tmp_path, name):
    array = values(1, np.uint16)
    Image.fromarray(array).save(tmp_path / name)
    got = read_image(tmp_path / name)
    assert got.bits == 16
    np.testing.assert_array_equal(got.array[..., 0], array)
    color = read_image(tmp_path / name, gray=False).array
    np.testing.assert_array_equal(color, np.repeat(array[..., None], 3, -1))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_color_keeps_all_bits(tmp_path, name, channels):
    cv2 = pytest.importorskip("cv2")
    array = values(channels, np.uint16)
    order = [2, 1, 0, 3][:channels]
    cv2.imwrite(str(tmp_path / name), array[..., order])
    got = read_image(tmp_path / name)
    assert got.bits == 16
    np.testing.assert_array_equal(got.array, array[..., :3])
    luma = read_image(tmp_path / name, gray=True).array
    expected = array[..., :3] @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(luma[..., 0], expected, atol=0.51)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, name, orientation):
    # Blocks survive JPEG.
    array = np.kron(values(1)[:2, :3], np.ones((16, 16), np.uint8)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / name, exif=exif)
    turned = {
        1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1],
        5: array.T, 6: array.T[:, ::-1], 7: array.T[::-1, ::-1], 8: array.T[::-1],
    }[orientation]  # fmt: skip
    got = read_image(tmp_path / name).array[..., 0]
    assert got.shape == turned.shape
    assert np.abs(got.astype(int) - turned).max() < 12


def test_gray_conversion(tmp_path):
    Image.fromarray(values(3)).save(tmp_path / "c.png")
    expected = np.asarray(Image.fromarray(values(3)).convert("L"))
    got = read_image(tmp_path / "c.png", gray=True)
    assert got.gray
    np.testing.assert_array_equal(got.array[..., 0], expected)


def bad_files(folder):
    whole = folder / "whole.jpg"
    Image.fromarray(np.tile(values(3), (4, 4, 1))).save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:-400])
    (folder / "text.png").write_text("hello, not an image")
    (folder / "zero.png").write_bytes(b"")
    Image.new("L", (1, 1)).save(folder / "dot.png")
    Image.new("1", (20_000, 40)).save(folder / "wide.png")
    Image.new("1", (12_000, 12_000)).save(folder / "huge.png")
    png = folder / "ok.png"
    Image.fromarray(np.tile(values(3), (4, 4, 1))).save(png)
    (folder / "cut.png").write_bytes(png.read_bytes()[:-900])
    Image.fromarray(np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)).save(
        folder / "float.tif"
    )
    (folder / "folder.png").mkdir()


@pytest.mark.parametrize(
    "name, words",
    [
        ("cut.jpg", "damaged"),
        ("cut.png", "damaged"),
        ("text.png", "not an image"),
        ("zero.png", "0 bytes"),
        ("dot.png", "1 x 1 pixels"),
        ("wide.png", "20000 x 40"),
        ("huge.png", "megapixels"),
        ("float.tif", "8 or 16 bits"),
        ("gone.png", "does not exist"),
        ("folder.png", "is a folder"),
    ],
)
def test_bad_files_give_one_sentence(tmp_path, name, words):
    bad_files(tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        read_image(tmp_path / name)
    message = str(caught.value)
    assert str(tmp_path / name) in message
    assert "\n" not in message


def test_largest_allowed_side_is_read(tmp_path):
    Image.new("1", (MAX_SIDE_PX, 10)).save(tmp_path / "line.png")
    assert read_image(tmp_path / "line.png").array.shape == (10, MAX_SIDE_PX, 1)


def test_size_is_pillows_bilinear():
    array = values(3)
    expected = np.asarray(
        Image.fromarray(array).resize((12, 12), Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(to_size(array, 12), expected)
    assert to_size(array, (9, 17)).shape == (9, 17, 3)
    assert to_size(array[..., :1], 12).shape == (12, 12, 1)


def test_eight_bits_of_sixteen_round_to_the_nearest():
    every = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1)
    expected = np.rint(every / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(to_8bit(every), expected)
    eight = np.arange(256, dtype=np.uint16)
    np.testing.assert_array_equal(to_8bit(eight * 257), eight.astype(np.uint8))


def test_masks(fake, tmp_path):
    expected = fake.mask(1)[..., None]
    for value in (255, 1, 3, 200):
        path = fake.save(tmp_path / f"{value}.png", fake.mask(value))
        for kind in ("region", "foreground", "defect"):
            got = read_mask(path, (24, 24), kind=kind)
            assert got.dtype == np.uint8
            np.testing.assert_array_equal(got, expected)
    with pytest.raises(DataError, match=r"24 x 24 .* 30 x 20"):
        read_mask(tmp_path / "255.png", (20, 30))
    empty = fake.save(tmp_path / "empty.png", fake.mask(0))
    with pytest.raises(DataError, match="empty"):
        read_mask(empty, (24, 24))
    assert not read_mask(empty, (24, 24), kind="defect").any()
    inverted = fake.save(tmp_path / "inverted.png", 255 - fake.mask())
    with pytest.raises(DataError, match="inverted"):
        read_mask(inverted, (24, 24), kind="defect")
    assert read_mask(inverted, (24, 24)).sum() == 24 * 24 - 30
    with pytest.raises(AnojaxError, match="mask kind"):
        read_mask(inverted, (24, 24), kind="other")


def test_reading_from_many_threads(tmp_path):
    arrays = [values(3) ^ np.uint8(i) for i in range(8)]
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i}.png")
    wrong = []

    def work(i):
        for _ in range(10):
            got = read_image(tmp_path / f"{i}.png").array
            if not np.array_equal(got, arrays[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
