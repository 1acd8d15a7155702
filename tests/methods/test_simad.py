"""SimAD: cut and paste on the object, warped and recolored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anojax
from anojax.errors import SettingError
from anojax.methods.handcrafted.simad import COLOR, GEOMETRIC, PATCH, SCAR, Simad

SHAPE = (80, 96)
PLAIN = Simad(geometric=(), color=())


def _run(synth, image, *, n=100, masks=None, **controls):
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


@pytest.fixture(scope="module")
def codes():
    """An image in which every pixel says where it is, ``[80, 96, 3]``."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    return jnp.asarray(np.stack([y / 80, x / 96, np.full_like(y, 0.5)], -1))


@pytest.fixture(scope="module")
def disc():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return jnp.asarray(np.hypot(y - 42, x - 50) < 24, jnp.float32)[..., None]


@pytest.fixture(scope="module")
def textures(codes):
    return _run(PLAIN, codes, n=200)


def test_texture_follows_the_boxes_of_cutpaste(textures):
    area = textures.mask.mean((1, 2, 3))
    assert 0.015 < area.min() and area.max() < 0.16
    assert abs(area.mean() - 0.085) < 4 * 0.13 / np.sqrt(12 * 200)
    rows = textures.mask.any((2, 3)).sum(1)
    columns = textures.mask.any((1, 3)).sum(1)
    np.testing.assert_array_equal(rows * columns, textures.mask.sum((1, 2, 3)))
    aspect = np.log(columns / rows)
    assert abs(aspect.mean()) < 0.25 and np.abs(aspect).max() < np.log(3.34) + 0.25
    top = textures.mask.any((2, 3)).argmax(1) / np.maximum(SHAPE[0] - rows, 1)
    assert abs(top.mean() - 0.5) < 0.12 and top.min() < 0.1 and top.max() > 0.85


def test_plain_piece_is_a_shifted_copy(textures, codes):
    for image, mask in zip(textures.image[:20], textures.mask, strict=False):
        y, x = np.argwhere(mask[..., 0])[0]
        h, w = mask.any((1, 2)).sum(), mask.any((0, 2)).sum()
        inside = image[y : y + h, x : x + w]
        sy, sx = round(inside[0, 0, 0] * 80), round(inside[0, 0, 1] * 96)
        expected = codes[sy : sy + h, sx : sx + w]
        np.testing.assert_allclose(inside, expected, atol=1e-4)


def test_cut_and_paste_stay_on_the_object(codes, disc):
    out = _run(PLAIN, codes, masks=disc)
    on = np.asarray(disc)
    assert out.anomalous.all() and not (out.mask * (1 - on)).any()
    # The image codes its own coordinates: what was pasted came from the object.
    for image, mask in zip(out.image, out.mask[..., 0] > 0, strict=True):
        y = np.round(image[mask][:, 0] * 80).astype(int)
        x = np.round(image[mask][:, 1] * 96).astype(int)
        assert on[y, x].all()
    share = out.mask.sum((1, 2, 3)) / on.sum()
    assert 0.005 < share.min() and share.max() < 0.17 and 0.04 < share.mean() < 0.1


def test_switches_act_one_by_one(codes, disc):
    anywhere = _run(
        Simad(object_paste=False, geometric=(), color=()), codes, masks=disc
    )
    off = (anywhere.mask * (1 - np.asarray(disc))).any((1, 2, 3))
    assert off.mean() > 0.3
    free = _run(Simad(object_extract=False, geometric=(), color=()), codes, masks=disc)
    assert not (free.mask * (1 - np.asarray(disc))).any()
    foreign = 0
    for image, mask in zip(free.image, free.mask[..., 0] > 0, strict=True):
        y = np.round(image[mask][:, 0] * 80).astype(int)
        x = np.round(image[mask][:, 1] * 96).astype(int)
        foreign += not np.asarray(disc)[y, x].all()
    assert foreign > 30


def test_scaling_scales_the_area(codes):
    out = _run(Simad(geometric=("scale",), color=()), codes, n=200)
    plain = _run(PLAIN, codes, n=200)
    ratio = out.mask.sum((1, 2, 3)) / plain.mask.sum((1, 2, 3))
    # U(0.7, 1.3) squared.
    assert 0.4 < ratio.min() < 0.62 and 1.5 < ratio.max() < 1.85
    assert abs(ratio.mean() - (1.3**3 - 0.7**3) / 1.8) < 0.1


def test_flip_reverses_the_content(codes):
    out = _run(Simad(geometric=("flip_x",), color=()), codes, n=10)
    for image, mask in zip(out.image, out.mask[..., 0] > 0, strict=True):
        y, x = np.argwhere(mask)[0]
        w = mask.any(0).sum()
        np.testing.assert_allclose(np.diff(image[y, x : x + w, 1]) * 96, -1, atol=1e-2)
        np.testing.assert_allclose(np.diff(image[y, x : x + w, 0]), 0, atol=1e-4)


def test_squeeze_makes_scars_of_label_two():
    image = jnp.zeros((256, 256, 1))
    out = _run(Simad(geometric=("squeeze",), color=()), image, n=40)
    assert (out.label == SCAR).all()
    area = out.mask.sum((1, 2, 3))
    assert 15 < area.min() and area.max() < 16 * 25 + 20 and 100 < area.mean() < 220


def test_one_or_two_operations(codes):
    # With one name it is always applied; with six, scars are 1/6 of the first draws
    # and, half of the time, 1/6 of the second.
    out = _run(Simad(), codes, n=400)
    share = (out.label == SCAR).mean()
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)
    assert set(out.label.tolist()) == {PATCH, SCAR}


@pytest.mark.parametrize("operation", COLOR)
def test_each_color_operation_changes_the_piece(operation):
    image = jnp.asarray(np.random.default_rng(0).random((48, 40, 3)), jnp.float32)
    plain = _run(PLAIN, image, n=6)
    out = _run(Simad(geometric=(), color=(operation,)), image, n=6)
    np.testing.assert_array_equal(out.mask, plain.mask)
    assert (np.abs(out.image - plain.image).max((1, 2, 3)) > 1e-3).all()
    assert out.image.min() >= 0 and out.image.max() <= 1
    if operation == "grayscale":
        inside = out.image[out.mask[..., 0] > 0]
        assert np.ptp(inside, axis=-1).max() < 1e-5


def test_area_is_that_of_the_pasted_piece(codes, disc):
    for synth in (Simad(), Simad(geometric=("squeeze",))):
        out = _run(synth, codes, n=60, area=0.06)
        assert abs(np.median(out.mask.mean((1, 2, 3))) - 0.06) < 0.006
    out = _run(Simad(), codes, n=60, masks=disc, area=0.1)
    share = out.mask.sum((1, 2, 3)) / np.asarray(disc).sum()
    assert share.max() < 0.12 and np.median(share) > 0.07


def test_aspect_and_angle_are_as_requested(codes):
    synth = Simad(geometric=("squeeze",), color=())
    out = _run(synth, codes, n=20, area=0.05, aspect=0.5, angle=0.0)
    rows, columns = out.mask.any((2, 3)).sum(1), out.mask.any((1, 3)).sum(1)
    np.testing.assert_allclose(columns / rows, 0.5, atol=0.07)
    turned = _run(synth, codes, n=20, area=0.05, aspect=0.5, angle=np.pi / 2)
    rows, columns = turned.mask.any((2, 3)).sum(1), turned.mask.any((1, 3)).sum(1)
    np.testing.assert_allclose(rows / columns, 0.5, atol=0.07)


def test_unknown_operations_are_named():
    with pytest.raises(SettingError, match="'swirl'; choose from rotate"):
        Simad(geometric=("swirl",))
    with pytest.raises(SettingError, match="'sepia'; choose from brightness"):
        Simad(color=("sepia",))
    assert Simad().geometric == GEOMETRIC
