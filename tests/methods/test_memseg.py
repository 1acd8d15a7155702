"""MemSeg: both sources, the object, 8-bit truncation, and the distribution of the public code."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import ks_2samp

import anojax
from anojax.errors import MissingInput, SettingError
from anojax.types import Controls, Inputs

Memseg = anojax.get("memseg")
N = 64


def scene(shape=(64, 80, 3)):
    rng = np.random.default_rng(0)
    image, source = rng.integers(0, 256, (2, N, *shape), dtype=np.uint8)
    return image, source


def draw(image, texture, foreground=None, **options):
    controls = {k: options.pop(k) for k in ("severity", "area") if k in options}
    inputs = Inputs(
        image=image,
        source=texture,
        foreground=foreground,
        controls=Controls(**{k: np.float32(v) for k, v in controls.items()}),
    )
    run = anojax.batch(Memseg(**options), devices=jax.devices()[:1])
    return jax.tree.map(np.asarray, run({}, 0, np.arange(len(image)), inputs))


@pytest.fixture(scope="module")
def textured():
    image, source = scene()
    return image, source, draw(image, source, source="texture")


def test_a_texture_blend_is_truncated_to_8_bits(textured):
    image, source, out = textured
    opacity = out.aux["transparency"][:, None, None, None]
    assert 0.15 <= opacity.min() and opacity.max() <= 1
    blend = opacity * source + (1 - opacity) * image
    expected = np.where(out.mask == 1, blend, image)
    error = out.image * 255 - expected
    assert -1.01 < error.min() < -0.9 and error.max() < 0.01
    levels = out.image * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_a_texture_equal_to_the_image_changes_nothing():
    image, _ = scene()
    out = draw(image, image, source="texture")
    np.testing.assert_allclose(out.image * 255, image, atol=1e-3)


def test_without_truncation_the_blend_is_exact(textured):
    image, source, _ = textured
    out = draw(image, source, source="texture", truncate=False, severity=0.3)
    expected = np.where(out.mask == 1, 0.3 * source + 0.7 * image, image)
    np.testing.assert_allclose(out.image * 255, expected, atol=1e-3)


def test_structure_needs_no_texture_and_shuffles_levels_of_the_image():
    # Black and white tiles: every one of the ten operators keeps a tile constant,
    # up to the smoothing of its rim and the corners of a turn.
    dark_left = np.zeros((N, 64, 64, 1), np.uint8)
    dark_left[:, :, 32:] = 200
    out = draw(dark_left, None, source="structure", severity=1, area=1)
    assert out.aux["structural"].all()
    assert out.mask.mean() > 0.99
    # The image alone is bright on the right; shuffled tiles are as bright anywhere.
    left, right = out.image[:, :, :32].mean(), out.image[:, :, 32:].mean()
    assert abs(left - right) < 0.06
    assert out.image.std((1, 2, 3)).mean() > 0.1


def test_the_tiles_are_a_setting():
    # One tile per image leaves the order of the pixels to the operators alone.
    image = np.zeros((N, 64, 64, 1), np.uint8)
    image[:, :, 32:] = 200
    one = draw(image, None, source="structure", grid_rows=1, grid_columns=1, severity=1)
    inside = one.mask[..., 0] == 1
    halves = [
        [sample_image[half & shape].std() for half in (columns < 24, columns >= 40)]
        for sample_image, shape in zip(one.image[..., 0], inside, strict=True)
        for columns in [np.broadcast_to(np.arange(64), (64, 64))]
        if (shape & (columns < 24)).any() and (shape & (columns >= 40)).any()
    ]
    assert np.median(halves) < 0.01


def test_both_sources_come_at_even_odds(textured):
    image, source, alone = textured
    out = draw(image, source)
    structural = out.aux["structural"]
    assert abs(structural.mean() - 0.5) < 0.2
    np.testing.assert_array_equal(out.mask, alone.mask)
    textures = ~structural
    np.testing.assert_array_equal(out.image[textures], alone.image[textures])
    assert not np.array_equal(out.image[structural], alone.image[structural])


def test_defects_stay_on_the_object():
    image = np.full((N, 64, 64, 3), 20, np.uint8)
    image[:, 10:40, 12:50] = 160
    source = np.full_like(image, 255)
    bright = image[..., :1] == 160
    given = np.zeros((N, 64, 64, 1), np.uint8)
    given[:, 20:, :] = 1
    cases = [
        ({"object_above": 100}, bright),
        ({"preset": "hazelnut"}, bright),
        ({"object_below": 100}, ~bright),
        ({"preset": "pill", "foreground": given}, bright & (given == 1)),
        ({"object_above": 200}, np.zeros_like(bright)),
    ]
    for options, expected in cases:
        out = draw(image, source, source="texture", area=0.9, **options)
        assert not (out.mask[~expected] > 0).any()
        covered = out.mask[expected].mean() if expected.any() else 0.9
        assert abs(covered - 0.9) < 0.05
        assert out.anomalous.all() == expected.any()


def test_errors_say_what_to_do():
    image, _ = scene()
    with pytest.raises(MissingInput, match="texture"):
        draw(image, None)
    with pytest.raises(SettingError, match="preset"):
        Memseg(preset="pill", object_above=3)
    assert Memseg(source="structure").needs == ()


def test_sizes_that_tiles_do_not_divide():
    image, _ = scene((35, 50, 1))
    out = draw(image, None, source="structure")
    assert out.image.shape == image.shape
    assert out.anomalous.any()


@pytest.mark.slow
@pytest.mark.skipif("ANOJAX_REFERENCE" not in os.environ, reason="no reference figures")
@pytest.mark.parametrize("source", ["texture", "structure"])
def test_same_distribution_as_the_public_code(source):
    folder = Path(os.environ["ANOJAX_REFERENCE"])
    inputs = np.load(folder / "inputs.npz")
    reference = np.load(folder / f"memseg_{source}_fg.npz")
    ids = np.arange(480)
    image = inputs["images"][ids % 96]
    texture = inputs["textures"][np.random.default_rng(0).integers(0, 8, 480)]
    out = draw(image, texture, source=source, preset="metal_nut")
    full = out.anomalous
    delta = (out.image - image / np.float32(255))[full] * out.mask[full]
    size = out.mask[full].sum((1, 2, 3)) * 3
    ours = {
        "area": out.mask.mean((1, 2, 3)),
        "delta_abs": np.abs(delta).sum((1, 2, 3)) / size,
        "delta_signed": delta.sum((1, 2, 3)) / size,
    }
    for name, values in ours.items():
        theirs = reference[name][~np.isnan(reference[name])]
        # 1 % of pairs of such samples from one distribution exceed 0.085.
        assert ks_2samp(values, theirs).statistic < 0.085, name
