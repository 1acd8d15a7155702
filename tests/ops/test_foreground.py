"""Thresholds against scikit-image and OpenCV, object masks on drawn objects."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.filters import threshold_otsu

from anojax.ops import foreground


def disc(shape, background, color, radius=0.3):
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    far = np.hypot(y - shape[0] / 2, x - shape[1] / 2)
    inside = (far < radius * min(shape))[..., None]
    noise = np.random.default_rng(0).normal(size=(*shape, len(color))) * 0.02
    sample_image = np.where(inside, np.array(color), np.array(background)) + noise
    return jnp.asarray(np.clip(sample_image, 0, 1).astype(np.float32)), inside


@pytest.mark.parametrize("seed", range(4))
def test_otsu_equals_scikit_image(seed):
    draw = np.random.default_rng(seed)
    low, high = draw.normal(0.3, 0.08, 900), draw.normal(0.7, 0.1, 300 * (seed + 1))
    levels = np.clip(np.concatenate([low, high]) * 255, 0, 255).astype(np.uint8)
    expected = threshold_otsu(levels)
    values = jnp.asarray((levels.astype(np.float32) / 256)[:, None, None])
    got = int(foreground.otsu_threshold(values) * 256)
    # Neighboring bins can be equally good: scikit-image takes the first.
    assert expected <= got <= expected + 1


def test_otsu_of_two_levels_lies_between_them():
    values = jnp.asarray(np.repeat([0.2, 0.8], 50).astype(np.float32)[:, None, None])
    assert 0.3 < float(foreground.otsu_threshold(values)) < 0.7


def test_threshold_foreground(sample_image):
    gray = cv2.cvtColor((sample_image * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    levels = jnp.asarray((sample_image * 255).astype(np.uint8).astype(np.float32) / 255)
    bright = foreground.threshold_foreground(levels, 120.5 / 255)
    assert (np.asarray(bright[..., 0] > 0) != (gray > 120)).mean() < 0.01
    dark = foreground.threshold_foreground(levels, 120.5 / 255, bright=False)
    np.testing.assert_array_equal(dark, 1 - bright)


@pytest.mark.parametrize(
    "background, color",
    [
        ((0.9,), (0.3,)),
        ((0.1,), (0.6,)),
        ((0.5, 0.5, 0.5), (0.8, 0.4, 0.3)),
        ((0.2, 0.4, 0.2), (0.2, 0.2, 0.6)),
    ],
)
@pytest.mark.parametrize("shape", [(64, 64), (97, 130)])
def test_object_mask_whatever_the_polarity(background, color, shape):
    sample_image, inside = disc(shape, background, color)
    mask = np.asarray(jax.jit(foreground.object_mask)(sample_image))
    assert set(np.unique(mask)) == {0, 1}
    both = (mask > 0) & inside
    assert both.sum() / ((mask > 0) | inside).sum() > 0.85


def test_object_mask_falls_back_to_everything():
    tiny, _ = disc((64, 64), (0.9,), (0.3,), radius=0.05)
    assert np.asarray(jax.jit(foreground.object_mask)(tiny)).all()
    assert np.asarray(jax.jit(foreground.object_mask)(jnp.full((40, 40, 3), 0.5))).all()


def test_saliency_finds_the_odd_one_out():
    y, x = np.mgrid[:96, :96]
    waves = 0.5 + 0.2 * np.sin(x / 3.0) * np.sin(y / 3.0)
    waves[40:52, 60:72] = 0.95
    sample_image = jnp.asarray(waves.astype(np.float32)[..., None])
    got = np.asarray(jax.jit(foreground.saliency)(sample_image))[..., 0]
    assert got.shape == (96, 96)
    assert got.min() == 0 and got.max() <= 1
    peak = np.unravel_index(got.argmax(), got.shape)
    assert 36 <= peak[0] <= 56 and 56 <= peak[1] <= 76
    assert got[36:56, 56:76].mean() > 3 * got.mean()


def test_batched_equals_single():
    images = jnp.stack(
        [disc((48, 48), (0.9,), (0.3,))[0], disc((48, 48), (0.1,), (0.6,))[0]]
    )
    for function in (foreground.object_mask, foreground.saliency):
        both = jax.jit(jax.vmap(function))(images)
        one = jax.jit(function)(images[1])
        np.testing.assert_allclose(both[1], one, atol=1e-4)
