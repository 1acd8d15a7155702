"""8-bit color spaces against OpenCV."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import color_spaces

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
    """A grid through the whole cube and random colors, ``[n, 1, 3]`` uint8."""
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
    there, back, where = color_spaces.SPACES[space]
    expected = cv2.cvtColor(levels, CODES[space][0])
    circular = space in ("HSV", "HLS")
    _compare(there(_planes(levels)), expected, THERE[space], circular=circular)
    # Back from changed brightness: colors that may lie outside the cube.
    shift = np.random.default_rng(1).integers(-50, 51, len(levels))[:, None]
    expected[..., where] = np.clip(expected[..., where].astype(int) + shift, 0, 255)
    _compare(
        back(_planes(expected)), cv2.cvtColor(expected, CODES[space][1]), BACK[space]
    )


@pytest.mark.parametrize("space", ["YCrCb", "HSV", "YUV"])
@pytest.mark.parametrize("multiply_first", [True, False])
def test_change_of_brightness_step_by_step(space, multiply_first, levels):
    there, back, where = color_spaces.SPACES[space]
    planes = [np.asarray(p) for p in there(_planes(levels))]
    v = planes[where]
    if multiply_first:
        v = np.clip(np.clip(np.floor(1.125 * v), 0, 255) - 20, 0, 255)
    else:
        v = np.clip(np.floor(1.125 * np.clip(v - 20, 0, 255)), 0, 255)
    planes[where] = v.astype(np.int32)
    expected = back(tuple(jnp.asarray(p) for p in planes))
    ours = color_spaces.change_brightness(
        _planes(levels),
        space=jnp.int32(list(color_spaces.SPACES).index(space)),
        factor=1.125,
        offset=jnp.int32(-20),
        multiply_first=jnp.array(multiply_first),
    )
    apart = np.abs(np.stack(ours) - np.stack(expected))
    # Compiled as one, the way back from HSV rounds a few ties to the other side.
    assert apart.max() <= 1 and (apart > 0).mean() <= (0.001 if space == "HSV" else 0)


def test_hue_and_saturation_shift(levels):
    shift = color_spaces.shift_hue_saturation
    hsv = cv2.cvtColor(levels, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] - 26) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] + 22, 0, 255)
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    ours = shift(_planes(levels), hue=jnp.int32(-37), saturation=jnp.int32(22))
    _compare(ours, expected, BACK["HSV"])
