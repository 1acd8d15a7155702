"""Adjustments and jitter against their definitions."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import color


def test_luma_of_gray_is_gray(sample_image):
    gray = jnp.asarray(sample_image[..., :1])
    np.testing.assert_array_equal(color.luma(gray), gray)
    weights = sample_image @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(
        color.luma(jnp.asarray(sample_image))[..., 0], weights, atol=1e-6
    )


def test_hue_turns_as_colorsys(sample_image):
    for turns in (-0.1, 0.03, 0.4):
        ours = color.merge_channels(
            color.adjust_hue(color.split_channels(jnp.asarray(sample_image)), turns)
        )
        for y, x in ((0, 0), (13, 40), (50, 7), (63, 79)):
            h, s, v = colorsys.rgb_to_hsv(*sample_image[y, x].tolist())
            expected = colorsys.hsv_to_rgb((h + turns) % 1.0, s, v)
            np.testing.assert_allclose(ours[y, x], expected, atol=1e-5)


def test_identity_factors_change_nothing(sample_image):
    for image in (jnp.asarray(sample_image), jnp.asarray(sample_image[..., :1])):
        for adjust in (
            color.adjust_brightness,
            color.adjust_contrast,
            color.adjust_saturation,
        ):
            out = color.merge_channels(adjust(color.split_channels(image), 1.0))
            np.testing.assert_allclose(out, image, atol=1e-6)
        out = color.merge_channels(color.adjust_hue(color.split_channels(image), 0.0))
        np.testing.assert_allclose(out, image, atol=1e-6)


def test_contrast_takes_the_mean_where_it_is_told(sample_image):
    weights = np.zeros((64, 80), np.float32)
    weights[10:20, 30:50] = 1
    planes, weights = (
        color.split_channels(jnp.asarray(sample_image)),
        jnp.asarray(weights),
    )
    flat = color.merge_channels(color.adjust_contrast(planes, 0.0, weights=weights))
    mean = np.asarray(color.luma(jnp.asarray(sample_image)))[10:20, 30:50].mean()
    np.testing.assert_allclose(flat, mean, atol=1e-5)


def test_jitter_of_zero_is_the_image(key, sample_image):
    image = jnp.asarray(sample_image)
    assert color.jitter(key, image) is image


def test_jitter_draws_within_its_ranges(sample_image):
    flat = jnp.full((4, 4, 1), 0.5)
    keys = jax.random.split(jax.random.key(1), 400)

    def bright(key):
        return color.jitter(key, flat, brightness=0.2).mean()

    means = np.asarray(jax.vmap(bright)(keys))
    assert 0.4 <= means.min() < 0.41 and 0.59 < means.max() <= 0.6
    assert abs(means.mean() - 0.5) < 4 * 0.2 * 0.5 / np.sqrt(3 * 400)


def test_jitter_uses_every_order():
    # Clipping makes the order visible: bright then contrast, or the reverse.
    image = jnp.tile(jnp.array([0.0, 1.0], jnp.float32), 8).reshape(4, 4, 1)
    keys = jax.random.split(jax.random.key(2), 64)

    def both(key):
        return color.jitter(key, image, brightness=0.5, contrast=0.5)

    out = np.asarray(jax.vmap(both)(keys))
    lowest, highest = out.min((1, 2, 3)), out.max((1, 2, 3))
    # Contrast last leaves both ends off; brightness last keeps (or clips) zero.
    assert 0 < (lowest > 0).sum() < 64 and np.all(highest <= 1) and np.all(lowest >= 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_stays_in_range_under_vmap_and_jit(channels, sample_image):
    image = jnp.asarray(sample_image[..., :channels])
    options = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)

    def one(key):
        return color.jitter(key, image, **options)

    keys = jax.random.split(jax.random.key(3), 4)
    out = jax.jit(jax.vmap(one))(keys)
    assert out.shape == (4, *image.shape) and 0 <= out.min() and out.max() <= 1
    np.testing.assert_allclose(out[2], one(keys[2]), atol=1e-5)
    assert np.abs(np.asarray(out[0] - out[1])).max() > 0.01
