"""One rule for the values of masks, and a flag for what it does not decide."""

import numpy as np
import pytest
from PIL import Image

from anojax.data.masks import mask_of, parse_classes, read_mask
from anojax.errors import DataError, SettingError

WHERE = np.zeros((24, 32), bool)
WHERE[4:12, 6:20] = True


def filled(off, on, dtype):
    return np.where(WHERE, on, off).astype(dtype)


BINARY = {
    "1 bit": lambda p: Image.fromarray(WHERE).save(p),
    "0/1": lambda p: Image.fromarray(filled(0, 1, np.uint8)).save(p),
    "0/255": lambda p: Image.fromarray(filled(0, 255, np.uint8)).save(p),
    "0/3": lambda p: Image.fromarray(filled(0, 3, np.uint8)).save(p),
    "16/235": lambda p: Image.fromarray(filled(16, 235, np.uint8)).save(p),
    "16 bit 0/1": lambda p: Image.fromarray(filled(0, 1, np.uint16)).save(p),
    "16 bit 0/4095": lambda p: Image.fromarray(filled(0, 4095, np.uint16)).save(p),
    "16 bit full": lambda p: Image.fromarray(filled(0, 65535, np.uint16)).save(p),
    "16 bit 0/200": lambda p: Image.fromarray(filled(0, 200, np.uint16)).save(p),
    "white paint": lambda p: paint(p, (255, 255, 255)),
    "red paint": lambda p: paint(p, (255, 0, 0)),
    "palette of grays": lambda p: palette(p, [255, 255, 255, 0, 0, 0], WHERE == 0),
    "palette of colors": lambda p: palette(p, [0, 0, 0, 0, 90, 0], WHERE),
    "alpha on black": lambda p: clear(p, 0, 255 * WHERE),
    "alpha on white": lambda p: clear(p, 255, 255 * WHERE),
    "white and clear": lambda p: clear(p, filled(0, 255, np.uint8), 255 * WHERE),
    "leftovers below": lambda p: clear(p, 255 - filled(0, 55, np.uint8), 255 * WHERE),
    "opaque": lambda p: clear(p, filled(0, 255, np.uint8), 255 + 0 * WHERE),
}
TIFF = {
    "32 bit 0/1": np.int32,
    "32 bit 0/100000": np.int32,
    "float 0/1": np.float32,
}


def paint(path, color):
    array = np.zeros((*WHERE.shape, 3), np.uint8)
    array[WHERE] = color
    Image.fromarray(array).save(path)


def palette(path, colors, indices):
    image = Image.fromarray(indices.astype(np.uint8), mode=None).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(colors)
    image.save(path)


def clear(path, level, alpha):
    array = np.zeros((*WHERE.shape, 4), np.uint8)
    array[..., :3] = np.broadcast_to(level, WHERE.shape)[..., None]
    array[..., 3] = alpha
    Image.fromarray(array).save(path)


@pytest.mark.parametrize("kind", BINARY)
def test_binary_masks_mark_the_same_pixels(tmp_path, kind):
    BINARY[kind](tmp_path / "m.png")
    np.testing.assert_array_equal(mask_of(tmp_path / "m.png"), WHERE)


@pytest.mark.parametrize("kind", TIFF)
def test_more_than_sixteen_bits(tmp_path, kind):
    top = 100_000 if "100000" in kind else 1
    Image.fromarray(filled(0, top, TIFF[kind])).save(tmp_path / "m.tif")
    np.testing.assert_array_equal(mask_of(tmp_path / "m.tif"), WHERE)


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_jpeg_and_what_it_leaves_in_a_png(tmp_path, quality):
    large = np.kron(WHERE, np.ones((7, 9), bool))
    Image.fromarray(255 * large.astype(np.uint8)).save(
        tmp_path / "m.jpg", quality=quality
    )
    found = mask_of(tmp_path / "m.jpg")
    assert (found != large).mean() < 0.01
    if quality == 95:
        Image.open(tmp_path / "m.jpg").save(tmp_path / "m.png")
        values = np.unique(np.asarray(Image.open(tmp_path / "m.png")))
        assert len(values) > 2  # or the test shows nothing
        np.testing.assert_array_equal(mask_of(tmp_path / "m.png"), large)


def classes(*values):
    """A mask with a stripe of each value."""
    array = np.zeros((24, 32), np.uint8)
    for place, value in enumerate(values):
        array[2 * place : 2 * place + 2, :6] = value
    return array


NOT_BINARY = {
    "classes": (classes(1, 2), "1,2", "the values 0 .*, 1 .*, 2 "),
    "classes and ignore": (classes(1, 2, 255), "1,2", "--mask-classes 1,2"),
    "one class and ignore": (classes(20, 255), "20", "--mask-classes 20"),
    "soft edge": (classes(90, 255), "128-255", "--mask-classes 90"),
    "background is a class": (classes(5) + np.uint8(1), "6", "the values 1 "),
}


@pytest.mark.parametrize("kind", NOT_BINARY)
def test_what_is_not_binary_is_decided_by_a_flag(tmp_path, kind):
    array, flag, says = NOT_BINARY[kind]
    Image.fromarray(array).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=f"m.png is not binary: .*{says}") as caught:
        mask_of(tmp_path / "m.png")
    assert "\n" not in str(caught.value)
    chosen = parse_classes(flag)
    low, _, high = flag.replace(",", "-").partition("-")
    expected = (array >= int(low)) & (array <= int(high or low))
    found = mask_of(tmp_path / "m.png", classes=chosen)
    np.testing.assert_array_equal(found, expected)
    assert expected.any()


def test_a_photo_is_no_mask(tmp_path, fake):
    for name in ("a.png", "a.jpg"):
        fake.save(tmp_path / name, fake.sample_image(1, 1))
        with pytest.raises(DataError, match=r"is not binary: .* more values"):
            mask_of(tmp_path / name)


def test_numbers_of_a_palette_are_the_classes(tmp_path):
    palette(tmp_path / "m.png", [0, 0, 0, 128, 0, 0, 0, 128, 0], classes(1, 2))
    with pytest.raises(DataError, match="the palette's numbers 0 .*, 1 .*, 2 "):
        mask_of(tmp_path / "m.png")
    found = mask_of(tmp_path / "m.png", classes=parse_classes(2))
    np.testing.assert_array_equal(found, classes(1, 2) == 2)


def test_colors_on_a_colored_ground(tmp_path):
    array = np.full((24, 32, 3), 255, np.uint8)
    array[WHERE] = (255, 0, 0)
    Image.fromarray(array).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="is not binary"):
        mask_of(tmp_path / "m.png")


def test_words_of_the_flag():
    values = np.array([0, 1, 2, 128, 255])
    assert parse_classes(None) is None
    assert parse_classes("nonzero")(values).tolist() == [False, True, True, True, True]
    assert parse_classes("1, 128-255")(values).tolist() == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert parse_classes(2)(values).tolist() == [False, False, True, False, False]
    for wrong in ("", "a", "1,,2", "-1", "1-", "0.5"):
        with pytest.raises(SettingError, match=r"give values \(1,2\)"):
            parse_classes(wrong)


def test_several_pages_are_no_mask(tmp_path):
    page = Image.fromarray(WHERE)
    page.save(tmp_path / "m.tif", save_all=True, append_images=[page])
    with pytest.raises(DataError, match="mask .* holds 2 frames"):
        mask_of(tmp_path / "m.tif")


def turned(path, orientation, array):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turns_of_the_image_are_those_of_its_mask(tmp_path, orientation):
    photo = np.kron(WHERE, np.ones((8, 8))).astype(np.uint8) * 200
    image = turned(tmp_path / "a.png", orientation, photo)
    plain = tmp_path / "plain.png"
    Image.fromarray(photo).save(plain)
    same = turned(tmp_path / "same.png", orientation, photo)
    shape = photo.shape[::-1]
    upright = mask_of(same, shape)
    np.testing.assert_array_equal(mask_of(plain, shape, image=image), upright)
    np.testing.assert_array_equal(read_mask(plain, shape, image=image)[..., 0], upright)
    with pytest.raises(DataError, match=r"192 pixels but its image is 192 x 256"):
        mask_of(plain, shape)


def test_one_form_of_every_way_to_ask():
    from anojax.config import override
    from anojax.data.config import DataConfig

    def asked(word):
        return override(DataConfig(), [word])

    assert asked("normal=OK/*").normal == DataConfig(normal="OK/*").normal == ("OK/*",)
    assert asked("normal=OK/*,good/*").normal == ("OK/*", "good/*")
    assert DataConfig().normal == DataConfig(normal="").normal == ()
    for word, form in (("1", "1"), ("1,2", "1,2"), ("128-255", "128-255")):
        assert asked(f"mask_classes={word}").mask_classes == form
    assert DataConfig(mask_classes=(1, 2)) == DataConfig(mask_classes="1,2")
