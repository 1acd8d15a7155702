"""Compositions are synthesizers; exchanges leave the other parts where they were."""

import jax
import numpy as np
import pytest

import anojax
from anojax import compose
from anojax.core import Layered
from anojax.errors import AnojaxError, UnsupportedControl

N = 12


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(90, 160, (N, 48, 56, 3), dtype=np.uint8)
    return images, anojax.Bank(rng.integers(0, 256, (4, 48, 56, 3), dtype=np.uint8))


def run(synth, data, **controls):
    images, bank = data
    inputs = anojax.Inputs(image=images, controls=anojax.Controls(**controls))
    bank = bank if synth.needs else None
    out = anojax.batch(synth, bank=bank, devices=jax.devices()[:1])(
        synth.init(jax.random.key(0), inputs), 0, np.arange(N), inputs
    )
    return jax.tree.map(np.asarray, out)


DESTSEG, CUTPASTE = anojax.get("destseg")(), anojax.get("cutpaste")()


def test_compositions_compare_by_value():
    assert compose.chain(DESTSEG, CUTPASTE) == compose.chain(DESTSEG, CUTPASTE)
    assert hash(compose.maybe(DESTSEG, 0.5)) == hash(compose.maybe(DESTSEG, 0.5))
    assert compose.chain(DESTSEG, CUTPASTE).needs == ("texture",)


def test_chain_unites_the_masks(data):
    both = run(compose.chain(DESTSEG, CUTPASTE), data)
    changed = (both.image != data[0] * np.float32(1 / 255)).any(-1, keepdims=True)
    assert not (changed & (both.mask == 0)).any()
    assert both.mask.mean() > run(DESTSEG, data).mask.mean()


def test_weights_come_in_any_order():
    assert compose.one_of(DESTSEG, CUTPASTE, weights=(3, 1)).weights == (0.75, 0.25)


def test_one_of_follows_its_weights(data):
    out = run(compose.one_of(DESTSEG, CUTPASTE, weights=(0.0, 1.0)), data)
    assert (out.aux["which"] == 1).all()
    out = run(compose.one_of(DESTSEG, CUTPASTE), data)
    assert set(out.aux["which"]) == {0, 1}


def test_maybe_keeps_some_images_clean(data):
    out, always = run(compose.maybe(DESTSEG, 0.5), data), run(DESTSEG, data)
    clean = ~out.anomalous
    assert 0 < clean.sum() < N
    assert np.array_equal(out.image[clean], data[0][clean] * np.float32(1 / 255))
    assert not out.mask[clean].any() and not out.label[clean].any()
    assert always.anomalous.sum() >= out.anomalous.sum()


def test_within_keeps_defects_in_the_box(data):
    out = run(compose.within(CUTPASTE, (0.0, 0.5, 1.0, 1.0)), data)
    assert out.mask.any() and not out.mask[:, :, :28].any()


def test_with_shape_takes_the_other_methods_masks(data):
    out, shapes = run(compose.with_shape(DESTSEG, CUTPASTE), data), run(DESTSEG, data)
    assert not np.array_equal(out.mask, shapes.mask)
    # Paired: the source and the blend drew the same as without the exchange.
    assert np.array_equal(out.aux["texture_weight"], shapes.aux["texture_weight"])


def test_with_source_keeps_the_shapes(data):
    out = run(compose.with_source(CUTPASTE, DESTSEG), data)
    assert out.anomalous.mean() > 0.8 and "texture_weight" in out.aux


def test_with_blend_leaves_no_seam():
    ramp = np.linspace(60, 180, 56).astype(np.uint8)
    images = np.broadcast_to(ramp[None, None, :, None], (N, 48, 56, 3)).copy()
    flat = np.broadcast_to(
        np.uint8([10, 90, 200, 250])[:, None, None, None], (4, 48, 56, 3)
    )
    smooth = images, anojax.Bank(flat.copy())
    blended = compose.with_blend(DESTSEG, "poisson")
    plain, blended = run(DESTSEG, smooth), run(blended, smooth)
    assert np.array_equal(plain.mask, blended.mask)
    # Steps from one pixel to the next across the outline.
    across = np.diff(plain.mask[..., 0], axis=1) != 0
    seams = [np.abs(np.diff(o.image, axis=1))[across].mean() for o in (plain, blended)]
    assert seams[1] < 0.3 * seams[0]


def test_impossible_requests_are_refused(data):
    assert not isinstance(CUTPASTE, Layered)
    with pytest.raises(AnojaxError, match=r"cutpaste draws .* layers: .*destseg"):
        compose.with_shape(CUTPASTE, DESTSEG)
    with pytest.raises(AnojaxError, match="give 2 numbers"):
        compose.one_of(DESTSEG, CUTPASTE, weights=(1.0,))
    with pytest.raises(AnojaxError, match="probability"):
        compose.maybe(DESTSEG, 2.0)
    with pytest.raises(AnojaxError, match="top < bottom"):
        compose.within(DESTSEG, (0.5, 0.0, 0.5, 1.0))
    with pytest.raises(AnojaxError, match="at least one"):
        compose.chain()
    with pytest.raises(UnsupportedControl):
        run(compose.chain(DESTSEG, CUTPASTE), data, count=np.float32(2))
