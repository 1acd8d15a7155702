"""What every method promises. Runs over the registry: a new method is tested at once.

One compiled batch per method and input structure is shared by all tests of that method.
"""

import ast
import dataclasses
import os
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

import anojax
from anojax import registry
from anojax import task as tasks
from anojax.batching import _compiled
from anojax.core import CONTROLS, NEEDS, settings, with_settings
from anojax.errors import (
    AnojaxError,
    MissingInput,
    UnsupportedControl,
    UnsupportedInput,
)
from anojax.task import Examples

NAMES = registry.names()
SIZE = (64, 72)
N = 8
GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


@cache
def small(name):
    """``SMALL = {...}`` of the method's test file: settings that are quick to test.

    It is read, not imported: a test file may need what the battery does not.
    """
    file = ROOT / "tests" / "methods" / f"test_{name}.py"
    for node in ast.parse(file.read_text()).body if file.exists() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SMALL":
            return ast.literal_eval(node.value)
    return {}


def under_test(name):
    return registry.get(name)(**small(name))


@cache
def normal_images(h=SIZE[0], w=SIZE[1], c=3, n=N):
    """Images with an object (a bright disc) on a dark, slightly noisy background."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:h, :w]
    disc = np.hypot((y - h / 2) / h, (x - w / 2) / w) < 0.35
    base = np.where(disc, 170, 30)[None, ..., None] + np.zeros((n, 1, 1, c))
    waves = 25 * np.sin(x / 3)[None, ..., None] * disc[None, ..., None]
    noisy = base + waves + rng.normal(0, 9, (n, h, w, c))
    return np.clip(noisy, 0, 255).astype(np.uint8), disc[None, ..., None] * np.uint8(1)


@cache
def textures(h=SIZE[0], w=SIZE[1], c=3, n=4):
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (n, 8, 9, c)).repeat(h // 8 + 1, 1)
    fine = coarse.repeat(w // 9 + 1, 2)[:, :h, :w]
    return np.clip(fine + rng.normal(0, 20, fine.shape), 0, 255).astype(np.uint8)


def shapes(shape=(*SIZE, 3)):
    """The structure of one example that has everything."""
    image = jax.ShapeDtypeStruct(shape, np.float32)
    mask = jax.ShapeDtypeStruct((*shape[:2], 1), np.float32)
    return anojax.Inputs(image=image, source=image, source_foreground=mask)


@cache
def params(name, shape=(*SIZE, 3)):
    """Random parameters of methods that learn, nothing for others."""
    one = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), shapes(shape))
    found = jax.jit(under_test(name).init)(jax.random.key(0), one)
    if registry.get(name).card.level != "full_image":
        return found
    # Fresh networks of zeros would make the same image of every key.
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: x + np.float32(0.1) * draw.normal(size=x.shape).astype(x.dtype), found
    )


@cache
def make(name, devices=1, strategy="map", shape=(*SIZE, 3)):
    synth = under_test(name)
    images, object_ = normal_images(*shape)
    bank = None
    if "texture" in synth.needs:
        bank = anojax.Bank(textures(*shape))
    elif "normal" in synth.needs:
        bank = anojax.Bank(images, np.broadcast_to(object_, (*images.shape[:3], 1)))
    return anojax.batch(
        synth, bank=bank, strategy=strategy, devices=jax.devices()[:devices]
    )


def run(name, *, ids=range(N), seed=0, shape=(*SIZE, 3), draw=0, masks=False, **kw):
    """Synthesize; `masks` adds foreground and region; further keywords are controls."""
    make_with = {k: kw.pop(k) for k in ("devices", "strategy") if k in kw}
    ids = np.asarray(list(ids))
    images, object_ = normal_images(*shape)
    inputs = anojax.Inputs(
        image=images[ids % N],
        controls=anojax.Controls(**{k: np.float32(v) for k, v in kw.items()}),
    )
    if masks:
        object_ = np.broadcast_to(object_, (len(ids), *shape[:2], 1))
        region = np.zeros_like(object_)
        region[:, :, : shape[1] * 2 // 3] = 1
        inputs = inputs.replace(foreground=object_, region=region)
    given = params(name, shape)
    out = make(name, shape=shape, **make_with)(given, seed, ids, inputs, draw)
    return jax.tree.map(np.asarray, out)


@cache
def plain(name):
    return run(name)


def before(shape=(*SIZE, 3)):
    return normal_images(*shape)[0].astype(np.float32) * np.float32(1 / 255)


def check_values(out, image):
    assert out.image.shape == image.shape and out.image.dtype == np.float32
    assert out.mask.shape == (*image.shape[:-1], 1) == out.alpha.shape
    assert out.mask.dtype == out.alpha.dtype == np.float32
    assert out.label.dtype == np.int32 and out.anomalous.dtype == bool
    for leaf in jax.tree.leaves(out):
        assert np.isfinite(leaf).all()
    assert out.image.min() >= 0 and out.image.max() <= 1
    assert out.alpha.min() >= 0 and out.alpha.max() <= 1
    assert set(np.unique(out.mask)) <= {0.0, 1.0}
    has_mask = out.mask.any((1, 2, 3))
    assert np.array_equal(out.anomalous, has_mask)
    assert np.array_equal(out.label > 0, has_mask)
    assert not out.alpha[out.mask == 0].any()


def over(names):
    """One parameter per method; all tests of a method run in the same worker."""
    marks = pytest.mark.xdist_group
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=marks(n)) for n in names]
    )


each = over(NAMES)
LEVELS = {n: registry.get(n).card.level for n in NAMES}
local = over(n for n in NAMES if LEVELS[n] == "image")
whole = over(n for n in NAMES if LEVELS[n] == "full_image")
imaged = over(n for n in NAMES if LEVELS[n] in ("image", "full_image"))


@each
def test_card_is_complete_and_in_its_place(name):
    cls, card = registry.get(name), registry.get(name).card
    assert card.title and card.authors and card.venue and 2015 <= card.year <= 2026
    assert card.url.startswith("https://")
    assert cls.__doc__ and cls.__module__.split(".")[2] == card.paradigm
    if name not in registry.SURVEY[card.paradigm].get(card.family, ()):
        pytest.fail(f"{name} is not in the survey's family {card.family}")
    assert set(card.needs) <= set(NEEDS) and set(card.controls) <= set(CONTROLS)
    assert card.fidelity in ("vectors", "statistics", "formulas", "adapted")
    for sentence in (*card.differences, *card.unverified):
        assert sentence.endswith(".") and len(sentence) < 300


@each
def test_settings_say_what_they_mean(name):
    cls = registry.get(name)
    synth = cls()
    for field in dataclasses.fields(cls):
        assert field.metadata.get("help"), f"{name}.{field.name} has no help"
        high = field.metadata["high"]
        value = getattr(synth, field.name)
        if high is not None and value is not None:
            bad = (
                tuple(high + 1 for _ in value) if isinstance(value, tuple) else high + 1
            )
            with pytest.raises(AnojaxError, match=field.name):
                with_settings(synth, **{field.name: bad})
    assert cls(**settings(synth)) == synth and hash(synth) == hash(cls())


@imaged
def test_shapes_without_computing(name):
    synth, inputs = registry.get(name)(), shapes()
    key = jax.eval_shape(lambda: jax.random.key(0))
    given = jax.eval_shape(synth.init, key, inputs)
    out = jax.eval_shape(synth.apply, given, key, inputs)
    assert out.image.shape == inputs.image.shape
    assert out.mask.shape == inputs.source_foreground.shape


@each
def test_who_learns_says_so(name):
    """An `init` is what says it; then a Task must give just these parameters."""
    cls, key = registry.get(name), jax.eval_shape(lambda: jax.random.key(0))
    if not cls().learns:
        assert cls().init(jax.random.key(0), anojax.Inputs()) == {}
        return
    synth = under_test(name)
    wanted = jax.eval_shape(synth.init, key, shapes())
    assert jax.tree.leaves(wanted), f"{name} has an init that gives nothing"
    task = tasks.get(name)(synth)
    many = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, *x.shape), np.uint8), shapes()
    )
    ids = jax.ShapeDtypeStruct((2,), np.uint32)
    state = jax.eval_shape(task.init, key, Examples(many, ids))
    given = jax.eval_shape(task.params, state)
    assert jax.tree.structure(given) == jax.tree.structure(wanted)
    assert jax.tree.leaves(given) == jax.tree.leaves(wanted)
    # What the error of `anojax synth` tells the user to train.
    assert (ROOT / "configs" / "train" / f"{name}.yaml").is_file()


@each
def test_values(name):
    check_values(plain(name), before())


@local
def test_something_happens_and_nothing_outside_the_mask(name):
    out = plain(name)
    changed = (out.image != before()).any(-1, keepdims=True)
    assert out.anomalous.mean() >= 0.6
    assert not (changed & (out.mask == 0)).any()
    share = (changed & (out.mask > 0)).sum() / out.mask.sum()
    assert share > 0.5, f"only {share:.2f} of the mask changed"


@each
def test_same_key_same_pixels_other_key_other_pixels(name):
    out, again, other = plain(name), run(name), run(name, seed=1)
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)
    assert (out.image != other.image).any((1, 2, 3)).mean() > 0.7
    redrawn = run(name, draw=1)
    assert (out.image != redrawn.image).any((1, 2, 3)).mean() > 0.7


@each
def test_pixels_do_not_depend_on_batch_or_devices(name):
    out = plain(name)
    other = run(name, devices=8)
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(other), strict=True):
        assert np.array_equal(a, b)
    part = run(name, ids=[5, 2, 7])
    assert np.array_equal(part.image, out.image[[5, 2, 7]])
    assert np.array_equal(part.mask, out.mask[[5, 2, 7]])


@imaged
def test_vmap_agrees_with_one_after_the_other(name):
    """Compilers round differently; a pixel on a threshold may flip, no more."""
    out, vmapped = plain(name), run(name, strategy="vmap")
    assert (out.mask != vmapped.mask).mean() < 2e-3
    assert (np.abs(out.image - vmapped.image) > 1.5 / 255).mean() < 4e-3


@imaged
def test_golden_vectors(name):
    """The pixels of two draws are what they were when the file was last written.

    ``ANOJAX_WRITE_GOLDEN=1 pytest tests/contract -k golden`` writes it anew: a change
    of the distributions or of the keys is a change that users must be told of.
    """
    out = plain(name)
    image = np.round(out.image[:2] * 255).astype(np.uint8)
    mask = out.mask[:2].astype(bool)
    path = GOLDEN / f"{name}.npz"
    if os.environ.get("ANOJAX_WRITE_GOLDEN"):
        np.savez_compressed(path, image=image, mask=mask)
    if not path.exists():
        pytest.skip(f"{name} has no golden vectors yet")
    golden = np.load(path)
    # Other processors round differently: a pixel on a threshold may flip.
    assert (golden["mask"] != mask).mean() < 2e-3
    off = np.abs(golden["image"].astype(int) - image) > 1
    assert off.mean() < 4e-3


@local
def test_mask_within_foreground_and_region(name):
    out = run(name, masks=True, ids=range(16))
    _, object_ = normal_images()
    legal = np.zeros_like(object_)
    legal[:, :, : SIZE[1] * 2 // 3] = 1
    assert not (out.mask * (1 - legal * object_)).any()
    assert out.anomalous.mean() >= 0.5
    image = before()[np.arange(16) % N]
    assert np.array_equal(
        out.image[out.mask[..., 0] == 0], image[out.mask[..., 0] == 0]
    )


@whole
def test_whole_images_keep_no_region(name):
    with pytest.raises(UnsupportedInput, match=f"{name} .* region; methods that can: "):
        run(name, masks=True)


@local
def test_severity_zero_is_the_identity_and_more_is_more(name):
    assert "severity" in registry.get(name).card.controls
    usual = plain(name)  # first, so that it is no new trace below
    misses = _compiled.cache_info().misses
    zero = run(name, severity=0.0)
    assert np.array_equal(zero.image, before()) and not zero.mask.any()
    assert not zero.anomalous.any()
    traces = make(name).traces()
    change = [
        np.abs(run(name, severity=s).image - before()).sum((1, 2, 3))
        for s in (0.25, 0.5, 1.0)
    ]
    # The 8-bit rounding of some methods allows a gray level's worth of noise.
    slack = 1 / 255 * usual.mask.sum((1, 2, 3)) + 1e-3
    assert (change[0] <= change[1] + slack).all()
    assert (change[1] <= change[2] + slack).all()
    assert change[0].sum() < change[2].sum()
    assert make(name).traces() == traces, "a severity sweep must not recompile"
    assert _compiled.cache_info().misses <= misses + 1


@over(n for n in NAMES if "area" in registry.get(n).card.controls)
def test_area_is_as_requested(name):
    sizes = [run(name, ids=range(16), area=a).mask.mean() for a in (0.02, 0.12)]
    assert sizes[0] < sizes[1]
    assert 0.004 < sizes[0] < 0.04 and 0.05 < sizes[1] < 0.2, sizes


@imaged
@pytest.mark.parametrize("shape", [(45, 33, 1)], ids=["odd-gray"])
def test_odd_and_gray_images(name, shape):
    out = run(name, shape=shape)
    check_values(out, before(shape))
    assert out.anomalous.mean() >= 0.5


@each
def test_missing_needs_are_named(name):
    synth = registry.get(name)()
    if not synth.needs:
        pytest.skip("needs nothing")
    with pytest.raises(MissingInput, match=f"{name} needs .* methods that do without"):
        synth.apply({}, jax.random.key(0), anojax.Inputs(image=before()[0]))


@each
def test_unsupported_controls_are_refused(name):
    cls = registry.get(name)
    image = before()[0]
    inputs = anojax.Inputs(image=image, source=image)
    for control in set(CONTROLS) - set(cls.card.controls):
        with pytest.raises(UnsupportedControl, match=f"'{control}'"):
            cls().apply(
                {},
                jax.random.key(0),
                inputs.replace(controls=anojax.Controls(**{control: np.float32(1)})),
            )
