"""Three of ten: the choice, the order, and each operator alone."""

import re

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import texture_augment

NAMES = texture_augment.NAMES
augment = jax.jit(texture_augment.three_of_ten)
apply_operator = jax.jit(texture_augment.apply_operator, static_argnums=0)


@pytest.fixture(scope="module")
def textures():
    """A color and a gray image of 8-bit levels, ``[40, 52, c]``."""
    noise = np.random.default_rng(5).integers(0, 256, (40, 52, 3), np.uint8)
    smooth = cv2.GaussianBlur(noise, (9, 9), 3).astype(np.float32)
    smooth = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    levels = np.floor(smooth).astype(np.float32)
    return {3: jnp.asarray(levels / 255), 1: jnp.asarray(levels[..., :1] / 255)}


def _apply(key, image, *names):
    return augment(key, image, jnp.array([NAMES.index(n) for n in names], jnp.int32))


def _levels(image):
    return np.asarray(image) * 255


@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_levels(channels, textures):
    for seed in range(8):
        out = augment(jax.random.key(seed), textures[channels])
        assert out.shape == textures[channels].shape and out.dtype == jnp.float32
        levels = _levels(out)
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
        assert levels.min() >= 0 and levels.max() <= 255.001


def test_chosen_operators_are_distinct_and_uniform():
    def choose(key):
        choice, _ = jax.random.split(key)
        return texture_augment.choose(choice)

    ids = np.asarray(jax.vmap(choose)(jax.random.split(jax.random.key(0), 3000)))
    assert np.all(ids[:, 0] != ids[:, 1]) and np.all(ids[:, 1] != ids[:, 2])
    assert np.all(ids[:, 0] != ids[:, 2])
    for slot in range(3):
        share = np.bincount(ids[:, slot], minlength=10) / 3000
        assert np.all(np.abs(share - 0.1) < 4.5 * np.sqrt(0.09 / 3000))


def test_drawing_the_operators_equals_naming_them(textures):
    key = jax.random.key(9)
    ids = texture_augment.choose(jax.random.split(key)[0])
    np.testing.assert_array_equal(
        augment(key, textures[3]), augment(key, textures[3], ids)
    )


def test_the_order_matters(key, textures):
    one = _apply(key, textures[3], "posterize", "invert")
    other = _apply(key, textures[3], "invert", "posterize")
    np.testing.assert_allclose(
        _levels(_apply(key, textures[3], "invert", "invert")),
        _levels(textures[3]),
        atol=1e-3,
    )
    assert np.abs(np.asarray(one - other)).max() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_a_chain_equals_its_steps(channels, textures):
    """Pending tables never change the result: every chain equals its single steps."""
    image, key = textures[channels], jax.random.key(4)
    draws = jax.random.uniform(jax.random.split(key)[1], (3, 8))
    for names in (
        ("gamma", "equalize", "rotate"),
        ("solarize", "sharpness", "autocontrast"),
        ("hue_saturation", "posterize", "brightness"),
    ):
        chain = _apply(key, image, *names)
        step = image
        for name, row in zip(names, draws, strict=True):
            step = apply_operator(name, step, row)
        np.testing.assert_array_equal(chain, step)


def test_hue_of_gray_does_nothing(key, textures):
    out = _apply(key, textures[1], "hue_saturation")
    np.testing.assert_allclose(out, textures[1], atol=1e-6)


def test_brightness_of_gray_is_brightness_of_a_gray_pixel(textures):
    gray = textures[1]
    for seed in range(12):
        key = jax.random.key(seed)
        color = _apply(key, jnp.repeat(gray, 3, axis=-1), "brightness")
        np.testing.assert_array_equal(_apply(key, gray, "brightness"), color[..., 1:2])


def test_rotation_follows_opencv(textures):
    h, w, _ = textures[3].shape
    levels = np.round(_levels(textures[3])).astype(np.uint8)
    row = jnp.full((8,), 0.75, jnp.float32)  # -45 + 90 * 0.75 degrees
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), 22.5, 1.0)
    expected = cv2.warpAffine(levels, matrix, (w, h)).astype(float)
    ours = _levels(apply_operator("rotate", textures[3], row))
    # OpenCV rounds coordinates to 1/32 of a pixel.
    assert np.abs(ours - expected).mean() < 0.5
    black = (expected == 0).all(-1)
    assert black.mean() > 0.05 and (ours[black] < 30).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_equals_single_images_bit_for_bit(channels, textures):
    """All ways to compile: alone, one after the other, and grouped by operator."""
    keys = jax.random.split(jax.random.key(7), 48)
    images = jnp.stack([jnp.roll(textures[channels], i, 1) for i in range(48)])
    three = texture_augment.three_of_ten
    together = jax.jit(jax.vmap(three))(keys, images)
    few = jax.jit(jax.vmap(three))(keys[:5], images[:5])
    np.testing.assert_array_equal(few, together[:5])
    in_turn = jax.jit(lambda k, x: jax.lax.map(lambda a: three(*a), (k, x)))
    np.testing.assert_array_equal(in_turn(keys, images), together)
    for i in range(6):
        np.testing.assert_array_equal(augment(keys[i], images[i]), together[i])


def test_images_that_are_not_active_come_back_as_they_were(textures):
    keys = jax.random.split(jax.random.key(3), 6)
    images, active = jnp.stack([textures[3]] * 6), jnp.arange(6) % 2 == 0
    some = jax.jit(
        jax.vmap(lambda k, x, a: texture_augment.three_of_ten(k, x, active=a))
    )(keys, images, active)
    every = jax.jit(jax.vmap(texture_augment.three_of_ten))(keys, images)
    np.testing.assert_array_equal(some[::2], every[::2])
    np.testing.assert_allclose(some[1::2], images[1::2], atol=1e-6)


def test_every_operator_stands_in_the_program_once(textures):
    keys, images = jax.random.split(jax.random.key(3), 6), jnp.stack([textures[3]] * 6)
    run = jax.jit(jax.vmap(texture_augment.three_of_ten))
    text = run.lower(keys, images).as_text()
    # Only rotate takes a sine, and only gamma a power.
    for body in ("sine", "power"):
        assert text.count(f"stablehlo.{body}") == 1
    # On one platform: one choice is among the operators and one among the color spaces.
    choices = run.trace(keys, images).jaxpr.pretty_print(use_color=False)
    found = re.findall(r"(?:cond|platform_index)\[", choices)
    assert found.count("cond[") - found.count("platform_index[") == 2
