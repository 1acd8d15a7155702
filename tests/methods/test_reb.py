"""REB: what its makers promise, and its statistics against the public code's."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.errors import MissingInput
from anojax.methods.handcrafted.reb import MAKERS, Reb
from anojax.types import Controls, Inputs

BATCH = 24


@pytest.fixture(scope="module")
def examples():
    """Normal images, and other ones to cut from: levels 0..255 over 255."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 110, (BATCH, 96, 80, 3))
    source = rng.integers(150, 170, (BATCH, 96, 80, 3))
    return [jnp.asarray(x.astype(np.float32) / 255) for x in (image, source)]


def run(synth, examples, seed=0, **fields):
    """One image after the other, so that only the drawn branches are computed."""
    keys = jax.random.split(jax.random.key(seed), BATCH)

    @jax.jit
    def many(keys, image, source):
        def one(example):
            key, image, source = example
            inputs = Inputs(image=image, source=source, **fields)
            return synth.apply({}, key, inputs)

        return jax.lax.map(one, (keys, image, source))

    return jax.tree.map(np.asarray, many(keys, *examples))


@pytest.fixture(scope="module")
def drawn(examples):
    return run(Reb(), examples)


def test_label_is_the_maker_and_all_kinds_occur(drawn):
    labels = np.unique(drawn.label[drawn.anomalous])
    assert labels.min() >= 1 and labels.max() <= 6 and len(labels) >= 4


def test_pixels_outside_the_mask_keep_their_bits(drawn, examples):
    outside = np.broadcast_to(drawn.mask == 0, drawn.image.shape)
    np.testing.assert_array_equal(
        drawn.image[outside], np.asarray(examples[0])[outside]
    )
    assert drawn.mask.mean() > 0.005


def test_images_have_eight_bits(drawn):
    levels = drawn.image * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_a_hard_copy_without_jitter_shows_the_source(examples):
    synth = Reb(maker="bezier_cp", smooth=0.0, jitter=0.0)
    out = run(synth, examples)
    inside = out.image[np.broadcast_to(out.mask > 0, out.image.shape)] * 255
    assert inside.min() > 149.5 and inside.max() < 169.5
    # Cut out in one piece: neighbors in the defect are neighbors in the source.
    y, x = np.argwhere(out.mask[0, :, :-1, 0] * out.mask[0, :, 1:, 0] > 0)[0]
    pair, source = out.image[0, y, x : x + 2], np.asarray(examples[1])[0]
    pairs = np.stack([source[:, :-1], source[:, 1:]], axis=2)
    assert np.abs(pairs - pair).max(axis=(2, 3)).min() < 1 / 255


def test_box_of_a_patch_has_the_size_of_the_law(examples):
    out = run(Reb(maker="bezier_cp"), examples)
    box = out.aux["height"] * out.aux["width"] / (96 * 80)
    assert 0.02 * 0.9 < box.min() and box.max() < 0.15 * 1.1
    filled = out.mask.mean(axis=(1, 2, 3)) / box
    assert 0.1 < filled.min() and filled.max() < 0.95
    assert 0.4 < filled.mean() < 0.65


def test_scars_are_small_and_scale_with_the_image(examples):
    out = run(Reb(maker="bezier_scar_noise"), examples)
    longest = np.hypot(21, 30) * 80 / 256
    assert max(out.aux["height"].max(), out.aux["width"].max()) <= longest + 2
    for mask, height in zip(out.mask, out.aux["height"], strict=True):
        assert np.ptp(np.nonzero(mask)[0]) + 1 == height


def test_clumps_are_translucent_pieces(examples):
    synth = Reb(maker="bezier_clump_noise", smooth=0.0)
    out = run(synth, examples)
    alpha = np.where(out.mask > 0, out.alpha, np.nan)[out.anomalous]
    flat = alpha.reshape(len(alpha), -1)
    np.testing.assert_allclose(np.nanmin(flat, 1), np.nanmax(flat, 1), atol=1e-6)
    assert 0.5 <= np.nanmin(flat) and np.nanmax(flat) <= 1.0


def test_smoothing_fades_inside_the_mask(examples):
    big = [jnp.repeat(jnp.repeat(x, 3, 1), 3, 2)[:, :200] for x in examples]
    out = run(Reb(maker="bezier_noise", smooth=1.0), big)
    assert np.all(out.alpha[out.mask == 0] == 0)
    assert np.all(out.alpha.max(axis=(1, 2, 3)) > 0.99)
    inside = out.alpha[out.mask > 0]
    assert 0.02 < (inside < 0.5).mean() < 0.5


def test_center_lies_on_the_foreground_and_mask_inside(examples):
    foreground = np.zeros((96, 80, 1), np.float32)
    foreground[70:, 50:] = 1
    out = run(Reb(), examples, foreground=jnp.asarray(foreground))
    assert not np.any(out.mask * (1 - foreground))
    assert out.anomalous.mean() > 0.7


@pytest.mark.parametrize("maker", MAKERS[:3])
def test_controls_over_size_and_direction(examples, maker):
    synth = Reb(maker=maker, smooth=0.0)

    def mean_area(area):
        requested = Controls(
            area=jnp.float32(area), aspect=jnp.float32(4.0), angle=jnp.float32(0.0)
        )
        return run(synth, examples, controls=requested)

    # A clump fills a third of its outline on average: its box must be larger.
    share = 0.4 if maker == "bezier_clump_cp" else 1.0
    small, large = mean_area(0.01 * share), mean_area(0.04 * share)
    areas = [out.mask.mean() for out in (small, large)]
    assert areas[1] == pytest.approx(0.04 * share, rel=0.25)
    assert 2.5 < areas[1] / areas[0] < 5
    if maker != "bezier_clump_cp":
        ratio = large.aux["width"] / large.aux["height"]
        assert np.median(ratio) == pytest.approx(4, rel=0.25)

    requested = Controls(aspect=jnp.float32(6.0), angle=jnp.float32(np.pi / 2))
    upright = run(synth, examples, controls=requested)
    assert np.median(upright.aux["height"] / upright.aux["width"]) > 2


def test_noise_needs_no_source_but_copies_do(key):
    image = jnp.full((48, 64, 1), 0.5)
    out = Reb(maker="bezier_noise").apply({}, key, Inputs(image=image))
    assert out.image.shape == image.shape and bool(out.anomalous)
    with pytest.raises(MissingInput, match="another normal image"):
        Reb().apply({}, key, Inputs(image=image))


REFERENCE = os.environ.get("ANOJAX_REFERENCE")


@pytest.mark.slow
@pytest.mark.skipif(REFERENCE is None, reason="ANOJAX_REFERENCE is not set")
@pytest.mark.parametrize("maker", MAKERS)
def test_statistics_agree_with_the_public_code(maker):
    from scipy import stats

    import anojax
    from anojax.types import Bank

    folder, count = Path(REFERENCE), 384
    images = np.load(folder / "inputs.npz")["images"]
    reference = np.load(folder / f"reb_{maker}.npz")
    synth = anojax.batch(Reb(maker=maker), bank=Bank(images), uint8=True)
    got = {name: [] for name in ("area", "bbox_w", "bbox_h", "delta_abs", "delta_std")}
    for start in range(0, count, 96):
        out = synth({}, 5, np.arange(start, start + 96), Inputs(image=images))
        for before, after, mask in zip(
            images, np.asarray(out.image), np.asarray(out.mask)[..., 0] > 0, strict=True
        ):
            delta = (after[mask].astype(float) - before[mask]) / 255
            rows, columns = np.nonzero(mask)
            got["area"].append(mask.mean())
            got["bbox_h"].append((np.ptp(rows) + 1) / 256)
            got["bbox_w"].append((np.ptp(columns) + 1) / 256)
            got["delta_abs"].append(np.abs(delta).mean())
            got["delta_std"].append(delta.std())
    for name, values in got.items():
        distance = stats.ks_2samp(reference[name], values).statistic
        # 1.95 sqrt(1/n + 1/m) is exceeded in one case out of a thousand.
        assert distance < 1.95 * np.sqrt(1 / count + 1 / len(reference[name])), name
