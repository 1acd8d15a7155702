"""DeSTSeg: the blend, its controls, and the distribution of the public code."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp

import anojax
from anojax.types import Controls, Inputs


def scene(shape=(64, 80, 3), n=16):
    rng = np.random.default_rng(0)
    image, source = rng.random((2, *shape), dtype=np.float32)
    repeat = (n, 1, 1, 1)
    return np.tile(image[None], repeat), np.tile(source[None], repeat)


def draw(image, source, synth=None, seed=0, **controls):
    synth = synth or anojax.get("destseg")()
    inputs = Inputs(image=image, source=source, controls=Controls(**controls))
    out = anojax.batch(synth, devices=jax.devices()[:1])(
        {}, seed, np.arange(len(image)), inputs
    )
    return jax.tree.map(np.asarray, out)


@pytest.fixture(scope="module")
def plain():
    image, source = scene(n=64)
    return image, source, draw(image, source)


def test_outside_the_mask_every_bit_stays(plain):
    image, _, out = plain
    outside = np.broadcast_to(out.mask == 0, image.shape)
    np.testing.assert_array_equal(out.image[outside], image[outside])
    assert 0.8 < out.anomalous.mean() <= 1


def test_inside_is_the_weighted_mean_of_image_and_texture(plain):
    image, source, out = plain
    weight = out.aux["texture_weight"][:, None, None, None]
    expected = (1 - weight) * image + weight * source
    inside = np.broadcast_to(out.mask == 1, image.shape)
    np.testing.assert_allclose(out.image[inside], expected[inside], atol=1e-6)
    np.testing.assert_allclose(out.alpha, weight * out.mask, atol=1e-7)


def test_weights_are_uniform_in_their_range(plain):
    weight = plain[2].aux["texture_weight"]
    assert 0.2 <= weight.min() < 0.3 and 0.9 < weight.max() <= 1.0
    assert abs(weight.mean() - 0.6) < 0.08


def test_severity_is_the_weight_and_leaves_the_mask(plain):
    image, source, out = plain
    full = draw(image, source, severity=np.float32(1.0))
    np.testing.assert_array_equal(full.mask, out.mask)
    np.testing.assert_array_equal(full.image, np.where(out.mask == 1, source, image))
    faint = draw(image, source, severity=np.float32(0.1))
    np.testing.assert_allclose(
        faint.image - image, 0.1 * (full.image - image), atol=1e-6
    )


def test_area_is_the_area_asked_for(plain):
    image, source, _ = plain
    for area in (0.02, 0.3, 0.9):
        out = draw(image[:8], source[:8], area=np.float32(area))
        np.testing.assert_allclose(out.mask.mean((1, 2, 3)), area, atol=0.01)


def test_settings_of_the_shape_are_as_requested(plain):
    image, source, out = plain
    Destseg = anojax.get("destseg")
    seldom = draw(image, source, Destseg(threshold=0.8))
    assert 0 < seldom.mask.mean() < 0.3 * out.mask.mean()
    upright = draw(image, source, Destseg(exponents=(0, 0), rotation="none"))
    empty = 1 - upright.anomalous.mean()
    assert 0.3 < empty < 0.75
    again = draw(
        image, source, Destseg(exponents=(0, 0), rotation="none", on_empty="retry")
    )
    assert again.anomalous.mean() > 0.95
    np.testing.assert_array_equal(
        again.mask[upright.anomalous], upright.mask[upright.anomalous]
    )


@pytest.mark.parametrize("shape", [(33, 21, 1), (16, 50, 3)])
def test_any_size_and_gray(shape):
    image, source = scene(shape, n=8)
    out = draw(image, source)
    assert out.image.shape == (8, *shape)
    assert out.mask.shape == (8, *shape[:2], 1)
    assert out.anomalous.any()


def test_one_example_needs_no_batch():
    image, source = (jnp.asarray(x[0]) for x in scene())
    synth = anojax.get("destseg")()
    inputs = Inputs(image=image, source=source)
    out = jax.jit(synth.apply)({}, jax.random.key(1), inputs)
    assert out.image.shape == image.shape


@pytest.mark.slow
@pytest.mark.skipif("ANOJAX_REFERENCE" not in os.environ, reason="no reference figures")
def test_same_distribution_as_the_public_code():
    folder = Path(os.environ["ANOJAX_REFERENCE"])
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "destseg.npz") as r:
        ids = np.arange(480)
        image = inputs["images"][ids % 96]
        source = inputs["textures"][np.random.default_rng(0).integers(0, 8, 480)]
        out = draw(image, source)
        ref = {k: r[k] for k in ("area", "delta_abs", "delta_signed")}
    full = out.anomalous
    delta = (out.image - image / np.float32(255))[full] * out.mask[full]
    size = out.mask[full].sum((1, 2, 3)) * 3
    ours = {
        "area": out.mask.mean((1, 2, 3)),
        "delta_abs": np.abs(delta).sum((1, 2, 3)) / size,
        "delta_signed": delta.sum((1, 2, 3)) / size,
    }
    for name, values in ours.items():
        reference = ref[name][~np.isnan(ref[name])]
        # 1 % of pairs of such samples from one distribution exceed 0.085.
        assert ks_2samp(values, reference).statistic < 0.085, name
