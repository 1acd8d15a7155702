"""The protocol itself: settings, needs, controls, keys, batches."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import anojax
from anojax.batching import over_examples
from anojax.core import settings, with_settings
from anojax.errors import (
    AnojaxError,
    MissingInput,
    SettingError,
    UnknownName,
    UnsupportedControl,
)
from anojax.fields import field_types
from anojax.ops.blend import allowed, local_synthesis
from anojax.random import example_key, method_key, stream


@dataclass(frozen=True)
class Toy(anojax.Synthesizer):
    """Speckles of the source."""

    card: ClassVar[anojax.Card] = anojax.Card(
        title="Toy",
        authors="nobody",
        venue="tests",
        year=2025,
        url="https://example.org",
        paradigm="handcrafted",
        family="external",
        level="image",
        needs=("texture",),
    )
    density: tuple[float, float] = anojax.hp((0.4, 0.6), "share", low=0.0, high=1.0)
    mode: str = anojax.hp("a", "mode", choices=("a", "b"))
    limit: int | None = anojax.hp(None, "limit", low=1)

    def synthesize(self, params, key, inputs):
        shape = (*inputs.image.shape[:2], 1)
        low, high = self.density
        p = jax.random.uniform(stream(key, "p"), minval=low, maxval=high)
        mask = jax.random.uniform(stream(key, "shape"), shape) < p
        return local_synthesis(
            inputs, inputs.source, mask.astype(jnp.float32), aux={"p": p}
        )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (11, 12, 10, 3), dtype=np.uint8)


def run(images, n=8, devices=8, seed=3, ids=None, **kwargs):
    synth = kwargs.pop("synth", Toy())
    bank = anojax.Bank(images)
    batch = anojax.batch(synth, bank=bank, devices=jax.devices()[:devices], **kwargs)
    ids = np.arange(n) if ids is None else np.asarray(ids)
    return batch({}, seed, ids, anojax.Inputs(image=images[ids % 11]))


def same(a, b):
    return all(
        np.array_equal(x, y)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": (0.0, 2.0)}, "at most 1"),
        ({"density": (0.5, 0.2)}, "must not exceed"),
        ({"density": 0.5}, "2 values"),
        ({"mode": "c"}, "choose one of a, b"),
        ({"limit": 0}, "at least 1"),
        ({"limit": 1.5}, "whole number"),
        ({"limit": True}, "whole number"),
        ({"density": (float("nan"), 1.0)}, "at least 0"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(SettingError, match=message):
        Toy(**changes)


def test_settings_round_trip():
    synth = with_settings(Toy(), mode="b", limit=4)
    assert settings(synth) == {"density": (0.4, 0.6), "mode": "b", "limit": 4}
    assert Toy(**settings(synth)) == synth and hash(Toy()) == hash(Toy())
    assert set(field_types(Toy)) == set(settings(synth))
    with pytest.raises(UnknownName, match="did you mean 'density'"):
        with_settings(Toy(), densty=1)


def test_needs_and_controls_name_who_can(images):
    one = anojax.Inputs(image=jnp.zeros((4, 4, 3)))
    with pytest.raises(MissingInput, match="do without.*cutpaste"):
        Toy().apply({}, jax.random.key(0), one)
    with pytest.raises(UnsupportedControl, match="methods that have.*cutpaste"):
        Toy().apply(
            {},
            jax.random.key(0),
            one.replace(source=one.image, controls=anojax.Controls(area=0.1)),
        )


def test_unknown_method_has_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'draem'"):
        anojax.get("drem")
    if planned := anojax.planned():
        with pytest.raises(UnknownName, match="planned"):
            anojax.get(planned[0])


@pytest.mark.parametrize("vectorization", ["map", "vmap"])
def test_pixels_do_not_depend_on_the_batch(images, vectorization):
    whole = run(images, vectorization=vectorization)
    assert same(whole, run(images, devices=1, vectorization=vectorization))
    assert same(whole, run(images, devices=3, vectorization=vectorization))
    for i in (0, 5):
        one = run(images, ids=[i], vectorization=vectorization)
        assert same(one, jax.tree.map(lambda x, i=i: x[i : i + 1], whole))


def test_pixels_depend_on_seed_id_draw_and_method(images):
    base = run(images, ids=[2])
    assert not same(base, run(images, ids=[2], seed=4))
    assert not same(base, run(images, ids=[2], seed=3 + 2**32))
    batch = anojax.batch(Toy(), bank=anojax.Bank(images))
    image = anojax.Inputs(image=images[2:3])
    assert same(base, batch({}, 3, [2], image))
    assert not same(base, batch({}, 3, [2], image, draw=1))
    assert not same(base, batch({}, 3, [13], image))
    data = [jax.random.key_data(method_key(0, n)) for n in ("draem", "nsa")]
    assert not np.array_equal(*data)


def test_streams_are_independent_of_each_other():
    key = example_key(method_key(0, "m"), 5)
    data = {n: tuple(np.asarray(jax.random.key_data(stream(key, n)))) for n in "abc"}
    assert len(set(data.values())) == 3


def test_uint8_is_the_rounded_float(images):
    out, floats = run(images, uint8=True), run(images)
    assert out.image.dtype == np.uint8 and set(np.unique(out.mask)) <= {0, 255}
    assert np.array_equal(out.image, np.round(np.asarray(floats.image) * 255))
    outside = np.asarray(out.mask)[..., 0] == 0
    assert np.array_equal(np.asarray(out.image)[outside], images[:8][outside])


def test_equal_settings_share_one_compilation(images):
    from anojax.batching import _compiled

    run(images, devices=1)
    before = _compiled.cache_info().misses
    run(images, devices=1, synth=Toy(density=(0.4, 0.6)))
    assert _compiled.cache_info().misses == before


def test_the_batch_inside_a_step_gives_the_same_pixels(images):
    step = jax.jit(over_examples(Toy(), "map"))
    ids = np.arange(8, dtype=np.uint32)
    inside = step(
        {},
        method_key(3, Toy().name),
        anojax.Bank(jnp.asarray(images)),
        ids,
        ids * 0,
        anojax.Inputs(image=images[:8]),
    )
    assert same(inside, run(images))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([-1], "whole numbers"),
        ([2**32], "largest"),
        ([0.5], "whole numbers"),
        ([], "empty"),
    ],
)
def test_bad_ids(images, ids, message):
    with pytest.raises(AnojaxError, match=message):
        anojax.batch(Toy())({}, 0, np.asarray(ids), anojax.Inputs(image=images[:1]))


def test_bad_shapes_and_seed(images):
    batch = anojax.batch(Toy(), bank=anojax.Bank(images))
    with pytest.raises(AnojaxError, match=r"inputs.image has shape \(11,"):
        batch({}, 0, [0, 1], anojax.Inputs(image=images))
    with pytest.raises(AnojaxError, match="seed"):
        batch({}, -1, [0], anojax.Inputs(image=images[:1]))


def test_local_synthesis_keeps_its_promises(key):
    image = jax.random.uniform(key, (6, 7, 3))
    fg = jnp.ones((6, 7, 1)).at[:2].set(0)
    region = jnp.ones((6, 7, 1)).at[:, :3].set(0)
    inputs = anojax.Inputs(image=image, foreground=fg, region=region)
    assert np.array_equal(allowed(inputs), fg * region)
    new = jnp.full_like(image, jnp.nan).at[2:].set(2.0)
    out = local_synthesis(inputs, new, jnp.ones_like(fg))
    assert np.array_equal(out.mask, fg * region) and out.anomalous and out.label == 1
    kept = np.asarray(out.mask)[..., 0] == 0
    assert np.array_equal(np.asarray(out.image)[kept], np.asarray(image)[kept])
    assert (np.asarray(out.image)[~kept] == 1).all()
    zero = inputs.replace(controls=anojax.Controls(severity=0.0))
    out = local_synthesis(zero, new, jnp.ones_like(fg))
    assert np.array_equal(out.image, image) and not out.anomalous and out.label == 0
    half = inputs.replace(controls=anojax.Controls(severity=0.5))
    out = local_synthesis(half, image + 0.1, jnp.ones_like(fg), label=3)
    assert out.label == 3 and np.allclose(out.alpha, 0.5 * fg * region)


def test_the_mask_is_computed_once(key):
    def synthesize(noise, image):
        mask = (jnp.floor(noise * 7) > 3).astype(jnp.float32)
        out = local_synthesis(anojax.Inputs(image=image), 1 - image, mask)
        return out.image, out.mask

    image = jax.random.uniform(key, (64, 64, 3))
    compiled = jax.jit(synthesize).lower(image[..., :1], image).compile()
    # Twice, it could round differently for the image and for its mask.
    assert compiled.as_text().count(" floor(") == 1
