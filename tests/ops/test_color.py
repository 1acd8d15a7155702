"""Colour spaces against OpenCV, jitter against its definitions."""

import colorsys

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import color

CODES = {
    "YCrCb": (cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB),
    "HSV": (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB),
    "HLS": (cv2.COLOR_RGB2HLS, cv2.COLOR_HLS2RGB),
    "Lab": (cv2.COLOR_RGB2Lab, cv2.COLOR_Lab2RGB),
    "Luv": (cv2.COLOR_RGB2Luv, cv2.COLOR_Luv2RGB),
    "YUV": (cv2.COLOR_RGB2YUV, cv2.COLOR_YUV2RGB),
}
# Largest difference in levels, and share of values that may differ at all.
THERE = {
    "YCrCb": (0, 0.0),
    "YUV": (0, 0.0),
    "HSV": (0, 0.0),
    "HLS": (1, 0.01),
    "Lab": (3, 0.25),
    "Luv": (2, 0.5),
}
BACK = {
    "YCrCb": (0, 0.0),
    "YUV": (0, 0.0),
    # Some builds of OpenCV truncate the result of HSV, others round it.
    "HSV": (1, 0.5),
    "HLS": (1, 0.01),
    "Lab": (2, 0.1),
    "Luv": (3, 0.1),
}


@pytest.fixture(scope="module")
def levels():
    """A grid through the whole cube and random colours, ``[n, 1, 3]`` uint8."""
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 1, 3)
    some = np.random.default_rng(0).integers(0, 256, (20000, 1, 3), np.uint8)
    return np.concatenate([grid, some])


def _planes(levels):
    return tuple(jnp.asarray(levels[:, 0, c], jnp.int32) for c in range(3))


def _compare(ours, theirs, limits, *, circular=False):
    apart = np.abs(np.stack(ours, -1) - theirs[:, 0].astype(int))
    if circular:
        apart[:, 0] = np.minimum(apart[:, 0], 180 - apart[:, 0])
    assert apart.max() <= limits[0]
    assert (apart > 0).mean(0).max() <= limits[1]


@pytest.mark.parametrize("space", CODES)
def test_spaces_follow_opencv(space, levels):
    there, back, where = color.SPACES[space]
    expected = cv2.cvtColor(levels, CODES[space][0])
    circular = space in ("HSV", "HLS")
    _compare(there(_planes(levels)), expected, THERE[space], circular=circular)
    # Back from changed brightness: colours that may lie outside the cube.
    shift = np.random.default_rng(1).integers(-50, 51, len(levels))[:, None]
    expected[..., where] = np.clip(expected[..., where].astype(int) + shift, 0, 255)
    _compare(
        back(_planes(expected)), cv2.cvtColor(expected, CODES[space][1]), BACK[space]
    )


@pytest.mark.parametrize("space", ["YCrCb", "HSV", "YUV"])
@pytest.mark.parametrize("multiply_first", [True, False])
def test_change_of_brightness_step_by_step(space, multiply_first, levels):
    there, back, where = color.SPACES[space]
    planes = [np.asarray(p) for p in there(_planes(levels))]
    v = planes[where]
    if multiply_first:
        v = np.clip(np.clip(np.floor(1.125 * v), 0, 255) - 20, 0, 255)
    else:
        v = np.clip(np.floor(1.125 * np.clip(v - 20, 0, 255)), 0, 255)
    planes[where] = v.astype(np.int32)
    expected = back(tuple(jnp.asarray(p) for p in planes))
    ours = color.change_brightness(
        _planes(levels),
        space=jnp.int32(list(color.SPACES).index(space)),
        factor=1.125,
        offset=jnp.int32(-20),
        multiply_first=jnp.array(multiply_first),
    )
    apart = np.abs(np.stack(ours) - np.stack(expected))
    # Compiled as one, the way back from HSV rounds a few ties to the other side.
    assert apart.max() <= 1 and (apart > 0).mean() <= (0.001 if space == "HSV" else 0)


def test_hue_and_saturation_shift(levels):
    shift = color.shift_hue_saturation
    hsv = cv2.cvtColor(levels, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] - 26) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] + 22, 0, 255)
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    ours = shift(_planes(levels), hue=jnp.int32(-37), saturation=jnp.int32(22))
    _compare(ours, expected, BACK["HSV"])


def test_luma_of_grey_is_grey(picture):
    grey = jnp.asarray(picture[..., :1])
    np.testing.assert_array_equal(color.luma(grey), grey)
    weights = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(
        color.luma(jnp.asarray(picture))[..., 0], weights, atol=1e-6
    )


def test_hue_turns_as_colorsys(picture):
    for turns in (-0.1, 0.03, 0.4):
        ours = color.adjust_hue(jnp.asarray(picture), turns)
        for y, x in ((0, 0), (13, 40), (50, 7), (63, 79)):
            h, s, v = colorsys.rgb_to_hsv(*picture[y, x].tolist())
            expected = colorsys.hsv_to_rgb((h + turns) % 1.0, s, v)
            np.testing.assert_allclose(ours[y, x], expected, atol=1e-5)


def test_identity_factors_change_nothing(picture):
    for image in (jnp.asarray(picture), jnp.asarray(picture[..., :1])):
        for adjust in (
            color.adjust_brightness,
            color.adjust_contrast,
            color.adjust_saturation,
        ):
            np.testing.assert_allclose(adjust(image, 1.0), image, atol=1e-6)
        np.testing.assert_allclose(color.adjust_hue(image, 0.0), image, atol=1e-6)


def test_contrast_takes_the_mean_where_it_is_told(picture):
    weights = np.zeros((64, 80, 1), np.float32)
    weights[10:20, 30:50] = 1
    flat = color.adjust_contrast(
        jnp.asarray(picture), 0.0, weights=jnp.asarray(weights)
    )
    mean = np.asarray(color.luma(jnp.asarray(picture)))[10:20, 30:50].mean()
    np.testing.assert_allclose(flat, mean, atol=1e-5)


def test_jitter_of_zero_is_the_image(key, picture):
    image = jnp.asarray(picture)
    assert color.jitter(key, image) is image


def test_jitter_draws_within_its_ranges(picture):
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
def test_jitter_stays_in_range_under_vmap_and_jit(channels, picture):
    image = jnp.asarray(picture[..., :channels])
    options = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)

    def one(key):
        return color.jitter(key, image, **options)

    keys = jax.random.split(jax.random.key(3), 4)
    out = jax.jit(jax.vmap(one))(keys)
    assert out.shape == (4, *image.shape) and 0 <= out.min() and out.max() <= 1
    np.testing.assert_allclose(out[2], one(keys[2]), atol=1e-5)
    assert np.abs(np.asarray(out[0] - out[1])).max() > 0.01
