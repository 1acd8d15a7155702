"""CutPaste: the distributions of patch and scar, and what is pasted where."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anojax
from anojax.methods.handcrafted.cutpaste import PATCH, SCAR, Cutpaste

N = 200


def _run(synth, image, *, n=N, masks=None, **controls):
    """`n` draws on one image, as numpy."""
    many = jnp.broadcast_to(image, (n, *image.shape))
    if masks is not None:
        masks = jnp.broadcast_to(masks, (n, *masks.shape))
    inputs = anojax.Inputs(
        image=many,
        foreground=masks,
        controls=anojax.Controls(**{k: np.float32(v) for k, v in controls.items()}),
    )
    devices = jax.devices()[:1]
    out = anojax.batch(synth, devices=devices)({}, 0, np.arange(n), inputs)
    return jax.tree.map(np.asarray, out)


def _box(mask):
    rows, columns = np.flatnonzero(mask.any((1, 2))), np.flatnonzero(mask.any((0, 2)))
    return rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1


@pytest.fixture(scope="module")
def codes():
    """An image in which every pixel says where it is, ``[96, 80, 3]``."""
    y, x = np.mgrid[:96, :80].astype(np.float32)
    return jnp.asarray(np.stack([y / 96, x / 80, np.full_like(y, 0.5)], -1))


@pytest.fixture(scope="module")
def patches(codes):
    return _run(Cutpaste(jitter=0.0), codes)


def test_patch_is_a_box_of_the_right_size(patches):
    sizes = []
    for mask in patches.mask:
        _, _, h, w = _box(mask)
        assert mask.sum() == h * w, "the mask is a full box"
        slack = (h + w + 1) / (96 * 80)
        assert 0.02 - slack <= mask.mean() <= 0.15 + slack
        assert (w - 0.5) / (h + 0.5) <= 1 / 0.3 and (w + 0.5) / (h - 0.5) >= 0.3
        sizes.append((mask.mean(), np.log(w / h)))
    areas, aspects = np.array(sizes).T
    assert abs(areas.mean() - 0.085) < 4 * 0.13 / np.sqrt(12 * N)
    assert abs(aspects.mean()) < 4 * 2 * np.log(1 / 0.3) / np.sqrt(12 * N) + 0.02
    assert (patches.label == PATCH).all()


def test_patch_is_a_shifted_copy(patches, codes):
    for image, mask in zip(patches.image[:40], patches.mask, strict=False):
        y, x, h, w = _box(mask)
        inside = image[y : y + h, x : x + w]
        sy, sx = np.round(inside[0, 0, 0] * 96), np.round(inside[0, 0, 1] * 80)
        sy, sx = int(sy), int(sx)
        np.testing.assert_array_equal(inside, codes[sy : sy + h, sx : sx + w])


def test_places_are_uniform(patches):
    boxes = np.array([_box(m) for m in patches.mask], float)
    for place, side, full in ((0, 2, 96), (1, 3, 80)):
        where = (boxes[:, place] + 0.5) / (full - boxes[:, side])
        assert abs(where.mean() - 0.5) < 4 / np.sqrt(12 * N)
        assert where.min() < 0.1 and where.max() > 0.9


def test_jitter_changes_the_color_but_not_the_mask(codes):
    plain = _run(Cutpaste(jitter=0.0), codes, n=16)
    jittered = _run(Cutpaste(jitter=0.1), codes, n=16)
    np.testing.assert_array_equal(plain.mask, jittered.mask)
    change = np.abs(plain.image - jittered.image).max((1, 2, 3))
    assert (change > 0.005).all() and (change < 0.8).all()


def test_constant_image_keeps_its_mask():
    flat = jnp.full((48, 48, 1), 0.4)
    out = _run(Cutpaste(jitter=0.0), flat, n=8)
    np.testing.assert_array_equal(out.image, np.broadcast_to(flat, out.image.shape))
    assert out.anomalous.all() and out.mask.any((1, 2, 3)).all()


def test_two_interval_law_tosses_a_coin(codes):
    out = _run(Cutpaste(aspect_law="two_interval", jitter=0.0), codes)
    aspect = np.array([_box(m)[3] / _box(m)[2] for m in out.mask])
    assert abs((aspect < 1).mean() - 0.5) < 4 * 0.5 / np.sqrt(N) + 0.03
    # Uniform in (0.3, 1) and in (1, 3.3).
    assert abs(aspect[aspect < 1].mean() - 0.65) < 0.09
    assert abs(aspect[aspect > 1].mean() - 2.17) < 0.35


def test_scar_fits_its_sides():
    image = jnp.asarray(np.random.default_rng(0).random((256, 256, 1)), jnp.float32)
    out = _run(Cutpaste(variant="scar"), image, n=60)
    areas = out.mask.sum((1, 2, 3))
    assert areas.min() >= 2 * 10 * 0.7 and areas.max() <= 16 * 25 + 40
    extents = np.array([_box(m)[2:] for m in out.mask])
    assert extents.max() <= 32 and (out.label == SCAR).all()
    assert abs(areas.mean() - 9 * 17.5) < 40


def test_upright_scar_is_a_box_and_a_copy(codes):
    out = _run(Cutpaste(variant="scar", jitter=0.0), codes, n=24, angle=0.0)
    for image, mask in zip(out.image, out.mask, strict=True):
        y, x, h, w = _box(mask)
        assert mask.sum() == h * w
        inside = image[y : y + h, x : x + w]
        sy, sx = (
            int(np.round(inside[0, 0, 0] * 96)),
            int(np.round(inside[0, 0, 1] * 80)),
        )
        np.testing.assert_array_equal(inside, codes[sy : sy + h, sx : sx + w])


def test_turned_piece_samples_turned_content(codes):
    # A quarter turn counter-clockwise: the piece's columns run along the rows.
    out = _run(Cutpaste(variant="scar", jitter=0.0), codes, n=24, angle=np.pi / 2)
    for image, mask in zip(out.image, out.mask, strict=True):
        y, x, h, w = _box(mask)
        inside = image[y : y + h, x : x + w]
        if h > 1:
            steps = np.diff(inside[..., 1], axis=0) * 80
            np.testing.assert_allclose(steps, -1, atol=1e-3)
        if w > 1:
            steps = np.diff(inside[..., 0], axis=1) * 96
            np.testing.assert_allclose(steps, 1, atol=1e-3)


def test_union_is_a_fair_coin(codes):
    out = _run(Cutpaste(variant="union"), codes)
    assert set(out.label.tolist()) == {PATCH, SCAR}
    assert abs((out.label == SCAR).mean() - 0.5) < 4 * 0.5 / np.sqrt(N)
    small = out.mask.mean((1, 2, 3)) < 0.015
    np.testing.assert_array_equal(small, out.label == SCAR)


@pytest.mark.parametrize("variant", ["normal", "scar"])
def test_controls_set_area_and_aspect(variant, codes):
    synth = Cutpaste(variant=variant, scar_rotation_deg=0.0)
    out = _run(synth, codes, n=12, area=0.08, aspect=2.0)
    for mask in out.mask:
        _, _, h, w = _box(mask)
        assert abs(mask.mean() - 0.08) < 0.008 and abs(w / h - 2.0) < 0.2


def test_area_is_a_fraction_of_the_foreground(codes):
    foreground = np.zeros((96, 80, 1), np.float32)
    foreground[16:80, 10:70] = 1
    out = _run(
        Cutpaste(), codes, n=40, masks=jnp.asarray(foreground), area=0.04, aspect=1.0
    )
    assert not (out.mask * (1 - foreground)).any() and out.anomalous.all()
    share = out.mask.sum((1, 2, 3)) / foreground.sum()
    assert share.max() < 0.045 and np.median(share) > 0.03


@pytest.mark.parametrize("variant", ["normal", "scar", "union"])
def test_stays_on_a_small_object(variant):
    image = jnp.asarray(np.random.default_rng(1).random((64, 50, 3)), jnp.float32)
    disc = np.hypot(*np.mgrid[-20:44, -30:20]) < 9
    disc = jnp.asarray(disc[..., None], jnp.float32)
    out = _run(Cutpaste(variant=variant), image, n=64, masks=disc)
    assert out.anomalous.all() and not (out.mask * (1 - np.asarray(disc))).any()


_REFERENCE = os.environ.get("ANOJAX_REFERENCE")


@pytest.mark.slow
@pytest.mark.skipif(not _REFERENCE, reason="ANOJAX_REFERENCE names no folder")
@pytest.mark.parametrize("variant", ["normal", "scar"])
def test_follows_the_public_code(variant):
    """Areas, extents and places have the distribution of the public code."""
    reference = np.load(Path(_REFERENCE) / f"cutpaste_{variant}.npz")
    n = 600
    image = jnp.zeros((256, 256, 1))
    out = _run(Cutpaste(variant=variant, jitter=0.0), image, n=n)
    boxes = np.array([_box(m) for m in out.mask], float)
    ours = {
        "area": out.mask.mean((1, 2, 3)),
        "bbox_h": boxes[:, 2] / 256,
        "bbox_w": boxes[:, 3] / 256,
        "cy": (boxes[:, 0] + boxes[:, 2] / 2) / 256,
        "cx": (boxes[:, 1] + boxes[:, 3] / 2) / 256,
    }
    for name, values in ours.items():
        both = np.sort(np.concatenate([values, reference[name]]))
        below = [
            np.searchsorted(np.sort(v), both, side="right") / len(v)
            for v in (values, reference[name])
        ]
        distance = np.abs(below[0] - below[1]).max()
        # 0.1 % point for 600 against 1500 samples.
        assert distance < 1.95 * np.sqrt(1 / n + 1 / 1500), name


TASKS = {
    "train": {
        "blocks": (1, 1, 1, 1),
        "width": 4,
        "head_width": 8,
        "steps": 20,
        "rate": 0.03,
        "precomputed": True,
    }
}
