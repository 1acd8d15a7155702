"""What every method promises. Runs over the registry: a new method is tested at once.

A method is compiled four times, and all of its tests share these programs:

* plain: one device, one example after the other; the golden vectors are its pixels;
* spread: the same over eight devices, sixteen examples in another order;
* vmapped: the same as one batch, which is how accelerators compute it;
* controlled: an odd gray image with foreground, region and the values of severity and
  area as inputs, so that whatever is asked for, it is this program.

The latter two are compared within tolerances, and hardly optimized.
"""

import dataclasses
import os
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from compiling import quick
from subjects import (
    METHODS,
    NAMES,
    ODD,
    ROOT,
    SIZE,
    N,
    bank,
    content,
    given,
    method,
    object_of,
    params,
    small,
    structure,
)

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

GOLDEN = Path(__file__).parent / "golden"
ORDER = [5, 2, 7, 0, 1, 3, 4, 6, *range(N, 2 * N)]


def batch(name, shape=SIZE, vectorization="map", devices=1):
    return anojax.batch(
        small(name),
        bank=bank(name, shape),
        vectorization=vectorization,
        devices=jax.devices()[:devices],
    )


def run(name, ids=range(N), seed=0, draw=0, **how):
    out = batch(name, **how)(params(name), seed, ids, given(name, ids, SIZE), draw)
    return jax.tree.map(np.asarray, out)


@cache
def plain(name):
    return run(name)


@cache
def spread(name):
    return run(name, ORDER, devices=8)


def has(name, control):
    return control in method(name).card.controls


def keeps_regions(name):
    return method(name).card.level != "full_image"


def halves(shape):
    """A region: the left two thirds."""
    region = np.zeros((*shape[:2], 1), np.uint8)
    region[:, : shape[1] * 2 // 3] = 1
    return region


def everywhere(shape):
    return np.ones((*shape[:2], 1), np.uint8)


@cache
def controlled(name, severity=1.0, area=0.12, masks=False):
    """Sixteen odd gray images, with masks that allow everything or some of it."""
    ids = np.arange(2 * N)
    values = {"severity": severity, "area": area}
    controls = {k: np.float32(v) for k, v in values.items() if has(name, k)}
    places = {"foreground": object_of(ODD) if masks else everywhere(ODD)}
    if keeps_regions(name):
        places["region"] = halves(ODD) if masks else everywhere(ODD)
    spread_out = {k: np.stack([v] * len(ids)) for k, v in places.items()}
    inputs = given(name, ids, ODD, controls=anojax.Controls(**controls), **spread_out)
    with quick():
        out = batch(name, ODD)(params(name, ODD), 0, ids, inputs)
    return jax.tree.map(np.asarray, out)


def before(name, shape=SIZE, ids=range(N)):
    """The images, or features, that the method was given."""
    return content(given(name, list(ids), shape))


def check_values(name, out, old):
    new = content(out)
    assert new.shape == old.shape and new.dtype == np.float32
    assert out.mask.shape == (*old.shape[:-1], 1) == out.alpha.shape
    assert out.mask.dtype == out.alpha.dtype == np.float32
    assert out.label.dtype == np.int32 and out.anomalous.dtype == bool
    for leaf in jax.tree.leaves(out):
        assert np.isfinite(leaf).all()
    if method(name).card.level != "feature":
        assert new.min() >= 0 and new.max() <= 1
    assert out.alpha.min() >= 0 and out.alpha.max() <= 1
    assert set(np.unique(out.mask)) <= {0.0, 1.0}
    has_mask = out.mask.any((1, 2, 3))
    assert np.array_equal(out.anomalous, has_mask)
    assert np.array_equal(out.label > 0, has_mask)
    assert not out.alpha[out.mask == 0].any()


def over(names):
    """One parameter per method: its name, the first of all; see `units`."""
    return pytest.mark.parametrize("name", list(names))


each = over(METHODS)
every = over(NAMES)
local = over(n for n in NAMES if keeps_regions(n))
whole = over(n for n in NAMES if not keeps_regions(n))


def test_stand_ins_are_replaced_by_methods():
    """As soon as the registry has a method of that kind, the stand-in goes."""
    levels = {registry.get(name).card.level for name in METHODS}
    assert "feature" not in levels, "subjects.FeatureNoise has done its work"


@each
def test_card_is_complete_and_in_its_place(name):
    cls, card = registry.get(name), registry.get(name).card
    assert card.title and card.authors and card.venue and 2015 <= card.year <= 2026
    assert card.url.startswith("https://")
    assert cls.__doc__ and cls.__module__.split(".")[2] == card.paradigm
    survey = registry.SURVEY[card.paradigm]
    assert card.family in survey, f"{card.paradigm} has {', '.join(survey)}"
    surveyed = {
        n
        for families in registry.SURVEY.values()
        for of in families.values()
        for n in of
    }
    assert name not in surveyed or name in survey[card.family], (
        "elsewhere in the survey"
    )
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


@every
def test_shapes_without_computing(name):
    """At the settings of the paper, with everything that can be given."""
    synth, inputs = method(name)(), structure(name)
    key = jax.eval_shape(lambda: jax.random.key(0))
    out = jax.eval_shape(
        lambda key, inputs: synth.apply(synth.init(key, inputs), key, inputs),
        key,
        inputs,
    )
    new, old = (x.image if x.features is None else x.features for x in (out, inputs))
    assert new.shape == old.shape
    assert out.mask.shape == (*old.shape[:2], 1)


@each
def test_who_learns_says_so(name):
    """An `init` is what says it; then a Task must give just these parameters."""
    cls, key = registry.get(name), jax.eval_shape(lambda: jax.random.key(0))
    if not cls().learns:
        assert cls().init(jax.random.key(0), anojax.Inputs()) == {}
        return
    synth = small(name)
    wanted = jax.eval_shape(synth.init, key, structure(name, full=False))
    assert jax.tree.leaves(wanted), f"{name} has an init that gives nothing"
    task = tasks.get(name)(synth)
    many = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((2, *x.shape), np.uint8),
        structure(name, full=False),
    )
    ids = jax.ShapeDtypeStruct((2,), np.uint32)
    state = jax.eval_shape(task.init, key, Examples(many, ids))
    made = jax.eval_shape(task.params, state)
    assert jax.tree.structure(made) == jax.tree.structure(wanted)
    assert jax.tree.leaves(made) == jax.tree.leaves(wanted)
    # What the error of `anojax synth` tells the user to train.
    assert (ROOT / "configs" / "train" / f"{name}.yaml").is_file()


@every
def test_values(name):
    check_values(name, plain(name), before(name))


@local
def test_something_happens_and_nothing_outside_the_mask(name):
    out, old = spread(name), before(name, ids=ORDER)
    changed = (content(out) != old).any(-1, keepdims=True)
    assert out.anomalous.mean() >= 0.6
    assert not (changed & (out.mask == 0)).any()
    share = (changed & (out.mask > 0)).sum() / out.mask.sum()
    assert share > 0.5, f"only {share:.2f} of the mask changed"


@every
def test_same_key_same_pixels_other_key_other_pixels(name):
    out, again = plain(name), run(name)
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)
    for other in (run(name, seed=1), run(name, draw=1)):
        assert (content(out) != content(other)).any((1, 2, 3)).mean() > 0.7


@every
def test_pixels_do_not_depend_on_batch_order_or_devices(name):
    out, other = plain(name), spread(name)
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(other), strict=True):
        assert np.array_equal(a[ORDER[:N]], b[:N])


@every
def test_vmap_agrees_with_one_after_the_other(name):
    """Compilers round differently; a pixel on a threshold may flip, no more."""
    with quick():
        vmapped = run(name, vectorization="vmap")
    out = plain(name)
    assert (out.mask != vmapped.mask).mean() < 2e-3
    assert (np.abs(content(out) - content(vmapped)) > 1.5 / 255).mean() < 4e-3


@over(n for n in METHODS if registry.get(n).card.level != "feature")
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


@every
def test_odd_and_gray_images(name):
    out = controlled(name)
    check_values(name, out, before(name, ODD, range(2 * N)))
    assert out.anomalous.mean() >= 0.5


@local
def test_mask_within_foreground_and_region(name):
    out = controlled(name, masks=True)
    assert not (out.mask * (1 - halves(ODD) * object_of(ODD))).any()
    assert out.anomalous.mean() >= 0.5
    old, outside = before(name, ODD, range(2 * N)), out.mask[..., 0] == 0
    assert np.array_equal(content(out)[outside], old[outside])


@whole
def test_whole_images_keep_no_region(name):
    region = np.stack([halves(SIZE)] * N)
    with pytest.raises(UnsupportedInput, match=f"{name} .* region; methods that can: "):
        batch(name)(
            params(name), 0, range(N), given(name, range(N), SIZE, region=region)
        )


@local
def test_severity_zero_is_the_identity_and_more_is_more(name):
    assert has(name, "severity")
    old = before(name, ODD, range(2 * N))
    zero = controlled(name, severity=0.0)
    assert np.array_equal(content(zero), old) and not zero.mask.any()
    assert not zero.anomalous.any()
    swept = [controlled(name, severity=s) for s in (0.25, 0.5, 1.0)]
    change = [np.abs(content(out) - old).sum((1, 2, 3)) for out in swept]
    # The 8-bit rounding of some methods allows a gray level's worth of noise.
    slack = 1 / 255 * swept[-1].mask.sum((1, 2, 3)) + 1e-3
    assert (change[0] <= change[1] + slack).all()
    assert (change[1] <= change[2] + slack).all()
    assert change[0].sum() < change[2].sum()


@over(n for n in NAMES if has(n, "area"))
def test_area_is_as_requested(name):
    sizes = [controlled(name, area=a).mask.mean() for a in (0.02, 0.12)]
    assert sizes[0] < sizes[1]
    assert 0.004 < sizes[0] < 0.04 and 0.05 < sizes[1] < 0.2, sizes


@every
def test_equal_settings_and_swept_controls_are_one_program(name):
    plain(name), controlled(name)  # first, so that they are no new programs below
    misses = _compiled.cache_info().misses
    equal = anojax.batch(
        with_settings(small(name)),
        bank=bank(name, ODD),
        vectorization="map",
        devices=jax.devices()[:1],
    )
    programs = equal.traces()
    controlled(name, severity=0.3, area=0.07), controlled(name, masks=True)
    assert _compiled.cache_info().misses == misses, "equal settings compiled anew"
    assert equal.traces() == programs, "a sweep must not compile anew"


@every
def test_missing_needs_are_named(name):
    synth = method(name)()
    if not synth.needs:
        pytest.skip("needs nothing")
    image = before("cutpaste")[0]
    with pytest.raises(MissingInput, match=f"{name} needs .* methods that do without"):
        synth.apply({}, jax.random.key(0), anojax.Inputs(image=image))


@every
def test_unsupported_controls_are_refused(name):
    cls, inputs = method(name), given(name, range(2), SIZE)
    one = jax.tree.map(lambda x: x[0], inputs)
    one = one.replace(source=one.image)
    for control in set(CONTROLS) - set(cls.card.controls):
        asked = anojax.Controls(**{control: np.float32(1)})
        with pytest.raises(UnsupportedControl, match=f"'{control}'"):
            cls().apply({}, jax.random.key(0), one.replace(controls=asked))
