"""NSA: its distributions, its labels, its presets, and its public code's statistics."""

import os
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anojax
from anojax import Controls, Inputs
from anojax.errors import AnojaxError
from anojax.methods.handcrafted.nsa import Nsa
from anojax.methods.handcrafted.nsa.patches import Patches
from anojax.methods.handcrafted.nsa.settings import _PRESETS

H, W = 64, 80
N = 24


def images(seed, n=N):
    """Colored byte images: a smooth field of their own, and fine noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W]
    phase = rng.uniform(0, 6, (n, 1, 1, 3))
    field = np.sin(x / 9)[None, ..., None] + np.cos(y / 7)[None, ..., None]
    levels = 120 + 40 * np.sin(field + phase) + rng.normal(0, 12, (n, H, W, 3))
    return np.clip(levels, 0, 255).round().astype(np.uint8)


@cache
def run(synth=None, **controls):
    """`N` draws: images before, and a Synthesis of numpy arrays."""
    synth = synth or Nsa()
    batch = anojax.batch(synth, devices=jax.devices()[:1])
    controls = Controls(**{k: np.float32(v) for k, v in controls.items()})
    inputs = Inputs(image=images(0), source=images(1), controls=controls)
    out = jax.tree.map(np.asarray, batch({}, 0, np.arange(N), inputs))
    return inputs.image.astype(np.float32) * np.float32(1 / 255), out


def test_the_mask_is_what_changed_and_alpha_how_much():
    before, out = run()
    change = np.abs(out.image - before) * 255
    assert not change[out.mask[..., 0] == 0].any()
    inside = change.mean(-1)[out.mask[..., 0] > 0]
    # The median filter lets few pixels in that changed by one level or less.
    assert (inside > 1).mean() > 0.85
    assert np.array_equal(out.alpha > 0, out.mask > 0)
    strong = (out.alpha[..., 0] > 0.7) & (out.mask[..., 0] > 0)
    weak = (out.alpha[..., 0] < 0.2) & (out.mask[..., 0] > 0)
    assert change.mean(-1)[strong].mean() > 2 * change.mean(-1)[weak].mean()
    # Blended bytes are bytes.
    assert np.abs(out.image * 255 - np.round(out.image * 255)).max() < 1e-3


def test_alpha_is_half_at_the_midpoint_of_the_logistic():
    synth = Nsa(logistic=(2.0, 10.0))
    before = jnp.full((20, 1, 20), 50.0)
    labeled = jnp.zeros((20, 1, 20)).at[4:16, :, 4:16].set(1)
    mask, alpha = Patches(synth).label(before, before + 10 * labeled, labeled, None)
    assert alpha[10, 10, 0] == 0.5 and mask.sum() > 100
    _, stronger = Patches(synth).label(before, before + 11 * labeled, labeled, None)
    assert stronger[10, 10, 0] > 0.8
    assert not Patches(synth).label(before, before + 1, labeled, None)[0].any()


def test_other_labels_have_the_same_mask():
    _, logistic = run()
    _, binary = run(Nsa(label="binary"))
    _, intensity = run(Nsa(label="intensity"))
    assert np.array_equal(binary.alpha, binary.mask)
    for out in (binary, intensity):
        assert np.array_equal(out.mask, logistic.mask)
        assert np.array_equal(out.image, logistic.image)
    # Both grow with the same change.
    inside = logistic.mask > 0
    order = np.argsort(intensity.alpha[inside])
    assert (np.diff(logistic.alpha[inside][order]) >= 0).all()


def test_a_continuous_label_is_the_strength_of_the_blending():
    before, full = run()
    _, out = run(Nsa(label="continuous"))
    factors = [np.unique(a[m > 0]) for a, m in zip(out.alpha, out.mask, strict=True)]
    assert all(len(f) <= 1 for f in factors)
    factors = np.concatenate(factors)
    assert len(np.unique(factors)) > N // 2
    assert factors.min() >= 0.05 and factors.max() <= 0.95
    assert np.abs(out.image - before).sum() < 0.8 * np.abs(full.image - before).sum()


def test_number_of_patches():
    _, out = run()
    patches = out.aux["patches"]
    assert patches.min() >= 0 and patches.max() <= 4
    assert abs(patches.mean() - 2.5) < 0.8
    for count in (1.0, 6.0):
        _, requested = run(count=count)
        assert (requested.aux["patches"] == count).mean() > 0.6
        assert requested.aux["patches"].max() == count


@pytest.mark.parametrize("aspect", [0.4, 2.5])
def test_aspect_is_as_requested(aspect):
    _, out = run(Nsa(tolerance=0.0), count=1.0, aspect=aspect, area=0.12)
    boxes = []
    for mask in out.mask[..., 0]:
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        if len(rows):
            # Two pixels of the rim and of the median filter are missing at each end.
            boxes.append((np.ptp(columns) + 5) / (np.ptp(rows) + 5))
    assert len(boxes) > 0.8 * N
    assert abs(np.median(boxes) / aspect - 1) < 0.25


@pytest.mark.parametrize("area", [0.05, 0.3])
@pytest.mark.parametrize("count", [1.0, 3.0])
def test_area_is_nearly_reached(area, count):
    _, out = run(area=area, count=count)
    covered = out.mask.mean((1, 2, 3))
    # Patches may overlap.
    assert 0.6 * area < np.median(covered) < 1.3 * area


def test_pasted_patches_keep_to_the_bounds():
    synth = Nsa(bounds_y=(0.1, 0.2), bounds_x=(0.1, 0.3), max_patches=1)
    _, out = run(synth)
    for mask in out.mask[..., 0]:
        assert mask.any(1).sum() <= round(0.2 * H)
        assert mask.any(0).sum() <= round(0.3 * W)
    assert out.anomalous.mean() > 0.5


@pytest.mark.parametrize("clone", ["normal", "mixed"])
def test_a_source_equal_up_to_brightness_changes_nothing(clone):
    """Only gradients are copied, and a patch at its own size has the same ones."""
    flat = jnp.full((H, W, 3), 0.5)
    synth = Nsa(clone=clone)
    for level in (0.5, 0.2):
        source = jnp.full((H, W, 3), level)
        out = synth.apply({}, jax.random.key(3), Inputs(image=flat, source=source))
        assert not out.mask.any() and np.array_equal(out.image, flat)
        assert not bool(out.anomalous) and int(out.label) == 0


def test_a_flat_source_erases_structure_unless_mixed():
    def changed(clone):
        synth = Nsa(clone=clone)
        inputs = Inputs(
            image=jnp.asarray(images(0)[0] / np.float32(255)),
            source=jnp.full((H, W, 3), 0.5),
        )
        return synth.apply({}, jax.random.key(0), inputs).mask.mean()

    assert changed("normal") > 0.005
    assert changed("mixed") == 0


def disc():
    y, x = np.mgrid[:H, :W]
    inside = np.hypot(y - H / 2, x - W / 2) < 20
    return inside[..., None].astype(np.float32)


def on_background(seed):
    """An object on a dark background, as in the classes with a background level."""
    levels = np.where(disc() > 0, images(seed), 10)
    return levels.astype(np.uint8)


def test_objects_are_found_from_the_background_and_kept_to():
    synth = Nsa(preset="metal_nut")
    batch = anojax.batch(synth, devices=jax.devices()[:1])
    inputs = Inputs(image=on_background(0), source=on_background(1))
    out = batch({}, 0, np.arange(N), inputs)
    masks = np.asarray(out.mask)
    assert masks.any((1, 2, 3)).mean() > 0.6
    # A patch holds at least half object and a quarter of that meets the object.
    assert (masks * disc()).sum() / masks.sum() > 0.5
    empty = Inputs(image=on_background(0), source=np.full((N, H, W, 3), 20, np.uint8))
    out = batch({}, 0, np.arange(N), empty)
    assert not np.asarray(out.mask).any() and not np.asarray(out.aux["patches"]).any()


def test_a_given_foreground_replaces_the_background_level():
    synth = Nsa(preset="metal_nut", tries=50)
    none = jnp.zeros((H, W, 1))
    image, source = (jnp.asarray(images(i)[0] / np.float32(255)) for i in (0, 1))
    inputs = Inputs(image=image, source=source, source_foreground=none)
    out = synth.apply({}, jax.random.key(0), inputs)
    assert int(out.aux["patches"]) == 0
    inputs = inputs.replace(source_foreground=1 - none, foreground=1 - none)
    assert int(synth.apply({}, jax.random.key(0), inputs).aux["patches"]) > 0


def test_later_patches_overwrite_labels_only_if_asked():
    _, joined = run(Nsa(), count=6.0)
    _, overwritten = run(Nsa(merge="overwrite"), count=6.0)
    assert (overwritten.mask <= joined.mask).all()
    assert np.array_equal(overwritten.aux["patches"], joined.aux["patches"])


def test_blending_on_the_mask_keeps_to_the_object():
    synth = Nsa(domain="mask")
    image, source = (jnp.asarray(images(i)[0] / np.float32(255)) for i in (0, 1))
    inputs = Inputs(image=image, source=source)
    box = Nsa().apply({}, jax.random.key(0), inputs)
    out = synth.apply({}, jax.random.key(0), inputs)
    assert out.mask.any()
    # Without an object the mask is the box, its rim included.
    assert int(out.aux["patches"]) == int(box.aux["patches"])
    assert float((out.mask * box.mask).sum() / box.mask.sum()) > 0.6


def test_presets_cover_mvtec_and_settings_override_them():
    classes = (
        "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile "
        "toothbrush transistor wood zipper"
    )
    assert set(classes.split()) <= set(_PRESETS)
    assert Nsa(preset="screw").setting("max_patches") == 4
    assert Nsa(preset="screw").setting("bounds_y") == (0.03, 0.12)
    assert Nsa(preset="screw", max_patches=2).setting("max_patches") == 2
    assert Nsa(preset="wood").setting("logistic") == (1 / 6, 15.0)
    assert Nsa(preset="object").setting("background") is None
    with pytest.raises(AnojaxError, match="preset is 'nut'"):
        Nsa(preset="nut")
    with pytest.raises(AnojaxError, match=r"bounds_x is \(0.3, 0.1\)"):
        Nsa(bounds_x=(0.3, 0.1))


REFERENCE = os.environ.get("ANOJAX_REFERENCE")


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE, reason="ANOJAX_REFERENCE is not set")
@pytest.mark.parametrize("name", ["nsa_texture", "nsa_object"])
def test_statistics_are_those_of_the_public_code(name):
    """Kolmogorov-Smirnov distances; 0.07 is exceeded by chance in 1 case in 1000."""
    from scipy.stats import ks_2samp

    images = np.load(Path(REFERENCE) / "inputs.npz")["images"]
    preset = {"nsa_texture": "tile", "nsa_object": "metal_nut"}[name]
    batch = anojax.batch(Nsa(preset=preset), bank=anojax.Bank(images))
    rows = []
    for start in range(0, 1500, 100):
        ids = np.arange(start, start + 100)
        before = images[ids % 96]
        out = jax.tree.map(np.asarray, batch({}, 5, ids, Inputs(image=before)))
        for image, mask, alpha, patches, old in zip(
            out.image,
            out.mask[..., 0] > 0,
            out.alpha,
            out.aux["patches"],
            before,
            strict=True,
        ):
            if not mask.any():
                continue
            change = (image - old / 255.0)[mask]
            rows.append(
                {
                    "area": mask.mean(),
                    "bbox_h": (np.ptp(mask.any(1).nonzero()[0]) + 1) / 256,
                    "cx": (mask.nonzero()[1].mean() + 0.5) / 256,
                    "delta_abs": np.abs(change).mean(),
                    "delta_signed": change.mean(),
                    "delta_std": change.std(),
                    "label_mean": alpha[mask].mean(),
                    "label_max": alpha[mask].max(),
                    "patches": patches,
                }
            )
    assert len(rows) > 1490
    reference = np.load(Path(REFERENCE) / f"{name}.npz")
    for field in rows[0]:
        ours = np.array([row[field] for row in rows], np.float32)
        theirs = reference[field][np.isfinite(reference[field])]
        distance = ks_2samp(ours, theirs).statistic
        assert distance < 0.07, f"{field}: {distance:.3f}"


TASKS = {"train": {"width": 4, "steps": 20, "rate": 0.1, "precomputed": True}}
