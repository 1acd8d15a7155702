"""The class-level decision, on arrays, files and masks; samples are tested in place."""

import os
from pathlib import Path

import numpy as np
import pytest

from anojax.data.folders import discover
from anojax.data.foregrounds import find_object, foregrounds
from anojax.errors import DataError


def disc(number, background=200, color=60, side=96):
    draw = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side]
    cy, cx = draw.uniform(0.4, 0.6, 2) * side
    inside = np.hypot(y - cy, x - cx) < 0.3 * side
    sample_image = np.where(inside, color, background) + draw.normal(0, 3, (side, side))
    return np.clip(sample_image, 0, 255).astype(np.uint8)[..., None], inside


def noise(number, side=96):
    draw = np.random.default_rng(number)
    return draw.integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("background, color", [(200, 60), (20, 150), (120, 180)])
def test_objects_before_bright_and_dark_backgrounds(background, color):
    drawn = [disc(i, background, color) for i in range(5)]
    decision = foregrounds([sample_image for sample_image, _ in drawn])
    assert decision.kind == "object"
    for sample_image, inside in drawn:
        mask = decision(sample_image)[..., 0] > 0
        assert (mask & inside).sum() > 0.9 * (mask | inside).sum()


def test_texture_means_the_whole_image():
    decision = foregrounds([noise(i) for i in range(5)])
    assert decision.kind == "texture"
    assert decision(noise(0)) is None


def test_nearly_all_images_must_show_an_object():
    objects = [disc(i)[0] for i in range(10)]
    assert foregrounds([*objects[:9], noise(1)]).kind == "object"
    assert foregrounds([*objects[:8], noise(1), noise(2)]).kind == "texture"


def test_a_flat_image_has_no_object():
    found = find_object(np.full((40, 50, 3), 90, np.uint8))
    assert not found.plain_background
    assert found.mask.shape == (40, 50)


def test_asked_for_none():
    assert foregrounds([disc(0)[0]], "none").kind == "texture"


def test_masks_from_a_folder_or_one_for_all(fake, tmp_path):
    for stem in ("a", "b_mask"):
        fake.save(tmp_path / f"{stem}.png", fake.mask())
    images = [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
    decision = foregrounds(images, tmp_path)
    sample_image = fake.sample_image(0)
    for name in ("a.jpg", "b.jpg"):
        np.testing.assert_array_equal(
            decision(sample_image, Path(name))[..., 0], fake.mask(1)
        )
    with pytest.raises(DataError, match=r"no foreground mask for c\.jpg; add c\.png"):
        decision(sample_image, Path("c.jpg"))
    one = foregrounds([], tmp_path / "a.png")
    np.testing.assert_array_equal(
        one(sample_image, Path("any.png"))[..., 0], fake.mask(1)
    )


def test_unreadable_images_are_passed_over(fake, tmp_path):
    paths = [fake.save(tmp_path / f"{i}.png", disc(i)[0]) for i in range(4)]
    (tmp_path / "bad.png").write_text("x")
    assert foregrounds([*paths, tmp_path / "bad.png"]).kind == "object"
    with pytest.raises(DataError, match="none of the images can be read"):
        foregrounds([tmp_path / "bad.png"])


@pytest.mark.skipif(
    "ANOJAX_REAL_DATA" not in os.environ, reason="ANOJAX_REAL_DATA is not set"
)
def test_magnetic_tiles_are_a_texture():
    source = discover(Path(os.environ["ANOJAX_REAL_DATA"]))
    assert foregrounds(source.paths).kind == "texture"
