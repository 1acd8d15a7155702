"""Tables against Pillow, and against applying the operators one after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from anojax.ops import lookup


@pytest.fixture(scope="module", params=[1, 3])
def levels(request):
    """An 8-bit image that uses part of the range unevenly, ``[37, 53, c]``."""
    draws = np.random.default_rng(3).beta(2, 5, (37, 53, request.param))
    return (20 + 200 * draws).astype(np.uint8)


def _words(levels):
    return lookup.pack(jnp.asarray(levels, jnp.float32) / 255)


def _through(levels, table):
    channels = levels.shape[-1]
    table = jnp.broadcast_to(table, (channels, 256))
    words = lookup.apply_table(_words(levels), table)
    return np.asarray(lookup.unpack(words, channels=channels) * 255 + 0.5, np.uint8)


def _pillow(operation, levels, *args, **options):
    bands = [
        np.asarray(operation(Image.fromarray(levels[..., c]), *args, **options))
        for c in range(levels.shape[-1])
    ]
    return np.stack(bands, -1)


def test_packing_is_lossless_on_8_bits(levels):
    image = jnp.asarray(levels, jnp.float32) / 255
    back = lookup.unpack(lookup.pack(image), channels=levels.shape[-1])
    np.testing.assert_array_equal(back, image)


def test_packing_rounds_and_clips():
    image = jnp.array([-0.2, 1.3, 100.4 / 255, 100.6 / 255], jnp.float32)
    assert lookup.pack(image.reshape(2, 2, 1)).ravel().tolist() == [0, 255, 100, 101]


def test_invert_posterize_solarize_equal_pillow(levels):
    np.testing.assert_array_equal(
        _through(levels, lookup.invert()), _pillow(ImageOps.invert, levels)
    )
    for bits in range(1, 9):
        np.testing.assert_array_equal(
            _through(levels, lookup.posterize(bits)),
            _pillow(ImageOps.posterize, levels, bits),
        )
    for threshold in (0, 32, 77, 128, 256):
        np.testing.assert_array_equal(
            _through(levels, lookup.solarize(float(threshold))),
            _pillow(ImageOps.solarize, levels, threshold),
        )


def test_equalize_equals_pillow(levels):
    counts = lookup.histogram(_words(levels), channels=levels.shape[-1])
    np.testing.assert_array_equal(
        _through(levels, lookup.equalize(counts)), _pillow(ImageOps.equalize, levels)
    )


@pytest.mark.parametrize("cutoff", [0, 1, 7, 20])
def test_autocontrast_equals_pillow_except_on_exact_quotients(levels, cutoff):
    words = _words(levels)
    counts = lookup.histogram(words, channels=levels.shape[-1])
    table = lookup.autocontrast(counts, cutoff_percent=cutoff)
    ours = _through(levels, table)
    theirs = _pillow(ImageOps.autocontrast, levels, cutoff=cutoff)
    # Pillow divides in double precision and truncates: 84.999... where 85 is exact.
    off = ours != theirs
    assert np.all((ours.astype(int) - theirs)[off] == 1)
    for c in range(levels.shape[-1]):
        stretched = np.asarray(table[c], int)
        lo, hi = (
            np.flatnonzero(stretched > 0)[0] - 1,
            np.flatnonzero(stretched == 255)[0],
        )
        exact = (levels[..., c].astype(int) - lo) * 255 % (hi - lo) == 0
        assert not np.any(off[..., c] & ~exact)


def test_brightness_and_contrast_equal_pillow(levels):
    # Factors with a short binary form: Pillow multiplies in float32 as well.
    for factor in (0.5, 0.75, 1.25, 1.5):
        np.testing.assert_array_equal(
            _through(levels, lookup.brightness(factor)),
            _pillow(lambda i, f: ImageEnhance.Brightness(i).enhance(f), levels, factor),
        )
        gray = levels[..., :1]
        mean = float(int(gray.mean(dtype=np.float64) + 0.5))
        np.testing.assert_array_equal(
            _through(gray, lookup.contrast(factor, mean)),
            _pillow(lambda i, f: ImageEnhance.Contrast(i).enhance(f), gray, factor),
        )


def test_gamma_is_the_floored_power():
    exponents = np.array([0.5, 1.0, 1.7], np.float32)
    table = np.asarray(lookup.gamma(jnp.asarray(exponents)), int)
    power = 255 * (np.arange(256)[None] / 255) ** exponents[:, None].astype(float)
    # Where the power is a whole number, float32 may fall on either side of it.
    assert np.all((table == np.floor(power)) | (np.abs(power - np.round(power)) < 1e-3))
    assert np.abs(table - power).max() < 1.001
    np.testing.assert_array_equal(table[1], np.arange(256))


@pytest.mark.parametrize("side", [1, 33])
def test_all_ways_to_count_agree(side):
    """Every platform has its own; all of them run anywhere."""
    draw = np.random.default_rng(side)
    levels = draw.integers(0, 256, (3, side * side)).astype(np.int32)
    levels[0], levels[1, : side // 2] = 255, 0
    expected = np.stack([np.bincount(row, minlength=256) for row in levels])
    for count in (lookup._by_adding, lookup._by_sort, lookup._by_product):
        np.testing.assert_array_equal(jax.jit(count)(jnp.asarray(levels)), expected)


def test_histogram_counts_and_pushes(levels):
    words, channels = _words(levels), levels.shape[-1]
    counts = lookup.histogram(words, channels=channels)
    for c in range(channels):
        expected = np.bincount(levels[..., c].ravel(), minlength=256)
        np.testing.assert_array_equal(counts[c], expected)
    table = lookup.compose(lookup.identity(channels), lookup.posterize(3))
    after = lookup.histogram(lookup.apply_table(words, table), channels=channels)
    np.testing.assert_array_equal(lookup.push(counts, table), after)


def test_a_composed_chain_equals_its_steps(levels):
    channels = levels.shape[-1]
    words = start = _words(levels)
    table, counts = (
        lookup.identity(channels),
        lookup.histogram(words, channels=channels),
    )
    exponents = jnp.linspace(0.6, 1.8, channels)
    chain = (
        lambda counts: lookup.gamma(exponents),
        lambda counts: lookup.autocontrast(counts, cutoff_percent=5),
        lambda counts: lookup.solarize(90.0),
        lookup.equalize,
        lambda counts: lookup.posterize(5),
    )
    for make in chain:
        now = lookup.histogram(words, channels=channels)
        step = jnp.broadcast_to(make(now), (channels, 256))
        words = lookup.apply_table(words, step)
        table = lookup.compose(table, make(lookup.push(counts, table)))
    np.testing.assert_array_equal(lookup.apply_table(start, table), words)


def test_flat_images_stay():
    words = _words(np.full((8, 8, 1), 77, np.uint8))
    counts = lookup.histogram(words, channels=1)
    for table in (lookup.equalize(counts), lookup.autocontrast(counts)):
        np.testing.assert_array_equal(table[0], np.arange(256))


def test_works_under_jit_and_vmap(levels):
    batch = jnp.stack([_words(levels), _words(levels[::-1])])
    channels = levels.shape[-1]

    def flatten(words):
        return lookup.apply_table(
            words, lookup.equalize(lookup.histogram(words, channels=channels))
        )

    together = jax.jit(jax.vmap(flatten))(batch)
    np.testing.assert_array_equal(together[0], flatten(batch[0]))
    np.testing.assert_array_equal(together[1], together[0][::-1])
