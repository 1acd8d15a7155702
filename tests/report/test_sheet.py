"""Contact sheets show what they should, where they should."""

import numpy as np
import pytest
from PIL import Image

from anojax.report import sheet


def example(title="spot", size=(40, 30), channels=1, kind="uint8"):
    top = np.iinfo(kind).max
    normal = np.full((*size, channels), top // 4, kind)
    mask = np.zeros((*size, 1), np.uint8)
    mask[10:25, 5:20] = 255
    image = np.where(mask > 0, np.array(top, kind), normal)
    return sheet.Example(title, normal, image, mask)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_the_four_views(channels, kind):
    views = sheet.views(example(channels=channels, kind=kind), 40)
    assert all(view.mode == "RGB" and view.size == (30, 40) for view in views)
    normal, image, outline, difference = map(np.asarray, views)
    assert (normal == 63).all()
    assert (image[12:24, 7:18] == 255).all() and image[0, 0, 0] == 63
    assert tuple(outline[10, 10]) == sheet.OUTLINE
    assert tuple(outline[15, 10]) == (255, 255, 255)
    assert (difference[12:24, 7:18] == 255).all() and not difference[:9].any()


def test_a_sheet_has_a_column_for_each_example():
    one = sheet.contact_sheet([example()], tile=40)
    three = sheet.contact_sheet([example()] * 3, tile=40)
    nine = sheet.contact_sheet([example()] * 9, columns=3, tile=40)
    assert three.width - one.width == 2 * (40 + sheet.GAP)
    assert nine.width == three.width
    assert nine.height - sheet.MARGIN == 3 * (three.height - sheet.MARGIN)


def test_a_gallery_has_methods_as_rows_and_products_as_columns():
    rows = {"a": [example(), example()], "b": [example(), example()]}
    sample_image = sheet.gallery(rows, ["tile", "nut"], tile=50)
    one = sheet.gallery({"a": rows["a"]}, ["tile", "nut"], tile=50)
    assert sample_image.height - one.height == 50 + sheet.GAP
    assert sample_image.width == one.width
    narrow = sheet.gallery({"a": rows["a"][:1]}, ["tile"], tile=50)
    assert one.width - narrow.width == 2 * 50 + sheet.GAP


def test_a_gallery_shows_results_clean_and_outlined():
    shown = example(size=(40, 40))
    drawn = np.asarray(sheet.gallery({"a": [shown]}, ["tile"], tile=50))
    top = sheet.MARGIN + sheet.TITLE + 50 + sheet.GAP
    row = drawn[top : top + 50, sheet.MARGIN + 80 :]
    assert np.array_equal(row[:, :50], np.asarray(sheet.thumbnail(shown.image, 50)))
    with_mask = np.asarray(sheet.outlined(shown.image, shown.mask, 50))
    assert np.array_equal(row[:, 50:100], with_mask)
    assert not np.array_equal(row[:, :50], row[:, 50:100])


def test_a_gallery_stays_below_half_a_megabyte_as_jpeg(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (112, 112, 3), "uint8")
    cell = sheet.Example("m", noise, noise, np.zeros((112, 112, 1), np.uint8))
    sample_image = sheet.gallery(
        {f"m{i}": [cell] * 6 for i in range(7)}, list("abcdef")
    )
    sheet.save(sample_image, tmp_path / "g.jpg")
    assert (tmp_path / "g.jpg").stat().st_size < 1_000_000
    with Image.open(tmp_path / "g.jpg") as image:
        assert image.format == "JPEG" and image.size == sample_image.size


def test_an_unchanged_image_has_a_black_difference():
    normal = example().normal
    assert not np.asarray(sheet.difference(normal, normal, 30)).any()


def test_long_titles_end_before_the_next_column():
    long = sheet.contact_sheet([example("m" * 80), example("")], tile=40)
    left = sheet.MARGIN + 74
    beyond = np.asarray(long)[: sheet.MARGIN + sheet.TITLE, left + 41 :]
    assert (beyond == 255).all()
