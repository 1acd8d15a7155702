"""The plain calls take what people have, and say in one sentence what cannot be meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anojax
from anojax.arrays import as_inputs, as_plane
from anojax.errors import DataError, UnknownName
from anojax.random import example_key, method_key
from anojax.types import Inputs

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
FLOATS = IMAGE.astype(np.float32) * np.float32(1 / 255)
KINDS = {
    "uint8": IMAGE,
    "float32": FLOATS,
    "float64": FLOATS.astype(np.float64),
    "jax uint8": jnp.asarray(IMAGE),
    "jax float32": jnp.asarray(FLOATS),
    "list": IMAGE.tolist(),
}


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "list"])
def test_every_kind_of_array_is_the_same_image(kind):
    found = as_inputs(KINDS[kind]).image
    assert isinstance(found, jax.Array) and found.dtype == jnp.float32
    np.testing.assert_array_equal(found, FLOATS)


def test_gray_images_and_masks_get_their_axis():
    inputs = as_inputs(Inputs(image=IMAGE[..., 0], foreground=IMAGE[..., 0] > 7))
    assert inputs.image.shape == inputs.foreground.shape == (16, 24, 1)
    assert set(np.unique(inputs.foreground)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (FLOATS * 255, "floats from 0 to 255; expected 0 to 1; divide by 255"),
        (FLOATS - 0.5, "floats from -0.5 to 0.5; expected 0 to 1"),
        (np.full((8, 8), np.nan, np.float32), "floats from nan"),
        (IMAGE.astype(np.int64), "is int64; give uint8, or floats"),
        (IMAGE > 3, "is bool; give uint8"),
        (IMAGE[0, 0], r"shape \(3,\); expected H x W x C"),
        (IMAGE[None], "anojax.batch and jax.vmap take many"),
        (np.moveaxis(IMAGE, -1, 0), r"channels first; .*moveaxis\(image, -3, -1\)"),
        (KINDS["list"], "is int64; give uint8"),
    ],
)
def test_what_cannot_be_meant(value, says):
    with pytest.raises(DataError, match=f"image .*{says}"):
        as_inputs(value)


def test_a_mask_has_one_channel():
    with pytest.raises(DataError, match="a mask has one channel"):
        as_plane(IMAGE, "region", mask=True)


def test_a_batch_stays_small():
    assert as_inputs(IMAGE[None], lead=1).image.dtype == np.uint8
    with pytest.raises(DataError, match=r"channels first"):
        as_inputs(np.moveaxis(IMAGE, -1, 0)[None], lead=1)


def test_a_seed_is_example_0_of_its_run():
    synth = anojax.get("cutpaste")()
    key = example_key(method_key(3, "cutpaste"), 0)
    plain = synth.apply({}, 3, IMAGE)
    exact = synth.apply({}, key, Inputs(image=jnp.asarray(FLOATS)))
    np.testing.assert_array_equal(plain.image, exact.image)
    with pytest.raises(DataError, match="key is 'three'; give an integer seed"):
        synth.apply({}, "three", IMAGE)


def test_misspelt_settings_name_the_nearest():
    says = "draem has no setting 'texture_weigth'; did you mean 'texture_weight'"
    with pytest.raises(UnknownName, match=says):
        anojax.get("draem")(texture_weigth=1)
