"""Streaming: every job is done once, whatever the batches, and empties are redrawn."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.batching import Batch, batch
from anojax.core import Card, Synthesizer, hp
from anojax.data import pipeline, visible
from anojax.data.pipeline import synthesize
from anojax.data.plan import DRAWS, Loaded, Plan
from anojax.errors import DataError, SettingError
from anojax.ops.blend import local_synthesis
from anojax.types import Bank


@dataclass(frozen=True)
class Spot(Synthesizer):
    """A bright square at a random place; empty for a share of the draws."""

    card: ClassVar[Card] = Card(
        title="t", authors="a", venue="v", year=2026, url="u",
        paradigm="handcrafted", family="self_contained", level="image",
    )  # fmt: skip
    empty: float = hp(0.0, "share of empty draws", low=0.0, high=1.0)

    def synthesize(self, params, key, inputs):
        image = inputs.image
        where, draw = jax.random.split(key)
        row, column = jax.random.randint(where, (2,), 0, 12)
        y, x = jnp.arange(image.shape[0]), jnp.arange(image.shape[1])
        inside = ((y - row) ** 2 < 9)[:, None] & ((x - column) ** 2 < 9)[None]
        keep = jax.random.uniform(draw) >= self.empty
        mask = (inside & keep).astype(jnp.float32)[..., None]
        return local_synthesis(inputs, jnp.ones_like(image), mask)


def make_plan(images=5, broken=(), channels=lambda i: 1, **options):
    def load(i):
        if i in broken:
            raise DataError(f"image {i} is broken")
        noise = np.random.default_rng(i).integers(0, 200, (16, 16, channels(i)))
        return Loaded(noise.astype(np.uint8))

    def bank(need, channels):
        return Bank(np.zeros((2, 16, 16, channels), np.uint8))

    paths = tuple(Path(f"/p/{i}.png") for i in range(images))
    options = {"methods": (Spot(),), "seed": 3} | options
    return Plan(images=paths, load=load, bank=bank, **options)


def results(plan, **options):
    made = list(synthesize(plan, plan.jobs(), **options))
    assert sorted(m.job.index for m in made) == list(range(plan.total))
    return {m.job.index: m for m in made}


def same(a, b):
    assert a.keys() == b.keys()
    for index in a:
        assert a[index].draw == b[index].draw
        assert a[index].reason == b[index].reason
        for name in ("image", "mask", "normal"):
            np.testing.assert_array_equal(
                getattr(a[index], name), getattr(b[index], name)
            )


def test_batch_size_and_devices_change_nothing():
    plan = make_plan(images=7, methods=(Spot(empty=0.6), Spot()), per_image=2)
    one = results(plan, batch_size=4)
    same(one, results(plan, batch_size=9))
    same(one, results(plan, batch_size=4, devices=jax.devices()[:1], readers=1))


def test_a_part_of_the_jobs_gives_the_same_images():
    plan = make_plan(images=6, methods=(Spot(empty=0.5),))
    whole = results(plan, batch_size=4)
    rest = [job for job in plan.jobs() if job.index >= 3]
    part = {m.job.index: m for m in synthesize(plan, rest, batch_size=4)}
    same({i: whole[i] for i in (3, 4, 5)}, part)


def test_empty_draws_are_redrawn_and_recorded():
    plan = make_plan(images=12, methods=(Spot(empty=0.6),))
    made = results(plan, batch_size=4)
    assert all(m.mask.any() for m in made.values())
    assert {m.draw > 0 for m in made.values()} == {True, False}


def test_keep_empty_keeps_the_first_draw():
    plan = make_plan(images=12, methods=(Spot(empty=0.6),), keep_empty=True)
    made = results(plan, batch_size=4)
    assert {bool(m.mask.any()) for m in made.values()} == {True, False}
    assert all(m.draw == 0 for m in made.values())


def test_a_redraw_is_the_draw_of_that_number():
    plan = make_plan(images=12, methods=(Spot(empty=0.6),))
    made = results(plan, batch_size=4)
    again = [replace(m.job, first_draw=m.draw, draws=1) for m in made.values()]
    again.sort(key=lambda job: job.index)
    same(made, {m.job.index: m for m in synthesize(plan, again, batch_size=5)})


def test_a_method_that_stays_empty_gives_up_with_a_reason():
    plan = make_plan(images=2, methods=(Spot(empty=1.0),))
    made = results(plan, batch_size=4)
    assert all(str(DRAWS) in m.reason and m.image is None for m in made.values())


def test_an_unreadable_image_is_reported_for_each_of_its_jobs():
    plan = make_plan(images=4, broken=(1,), per_image=2)
    made = results(plan, batch_size=4)
    assert [m.job.image for m in made.values() if m.reason] == [1, 1]


def test_gray_and_color_images_mix():
    plan = make_plan(images=6, channels=lambda i: (1, 3)[i % 2])
    made = results(plan, batch_size=4)
    assert [made[i].image.shape[-1] for i in range(6)] == [1, 3] * 3


@pytest.mark.parametrize("count", [1, 3, 5, 12])
def test_count_goes_round_the_images(count):
    plan = make_plan(images=5, count=count)
    jobs = list(plan.jobs())
    assert len(jobs) == plan.total == count
    per_image = np.bincount([j.image for j in jobs], minlength=5)
    assert per_image.max() - per_image.min() <= 1
    assert (np.diff(per_image) <= 0).all()
    for job in jobs:
        assert job.example_id == job.image * plan.draws_per_image + (job.draw_of_image)
        assert plan.first_job(job.image) <= job.index < plan.first_job(job.image + 1)


def test_names_are_unique_even_where_stems_collide():
    plan = make_plan(images=4)
    paths = tuple(map(Path, ("/a/x.png", "/b/x.png", "/b/x-1.png", "/b/y.png")))
    plan = replace(plan, images=paths, per_image=2)
    stems = [plan.stem(job) for job in plan.jobs()]
    assert len(set(stems)) == len(stems)
    assert stems[0] == "x_000"


@dataclass(frozen=True)
class Ramp(Synthesizer):
    """Marks the left half, and raises it by up to `levels` gray levels, from 0 on."""

    card: ClassVar[Card] = replace(Spot.card)
    levels: float = hp(8.0, "largest change", low=0.0, high=255.0)

    def synthesize(self, params, key, inputs):
        width = inputs.image.shape[1]
        x = jnp.arange(width, dtype=jnp.float32)
        rise = self.levels / 255 * jnp.clip(x / (width // 2 - 1), 0, 1)
        mask = jnp.broadcast_to(
            (x < width // 2)[None, :, None], (*inputs.image.shape[:2], 1)
        )
        new = inputs.image + rise[None, :, None]
        return local_synthesis(inputs, new, mask.astype(jnp.float32))


@dataclass(frozen=True)
class RampArea(Ramp):
    """The same, with a mask of the whole half."""

    card: ClassVar[Card] = replace(Spot.card, mask="area")


def test_the_mask_holds_what_changed_after_rounding():
    (made,) = results(make_plan(images=1, methods=(Ramp(levels=3.0),))).values()
    changed = (made.image != made.normal).any(-1, keepdims=True)
    assert 0 < changed.mean() < 0.5
    np.testing.assert_array_equal(made.mask > 0, changed)
    (made,) = results(make_plan(images=1, methods=(RampArea(levels=3.0),))).values()
    assert (made.mask > 0).mean() == 0.5


@pytest.mark.parametrize("method", [Ramp, RampArea])
def test_what_rounding_takes_back_is_left_out(method):
    made = results(make_plan(images=2, methods=(method(levels=0.4),)))
    assert all("gray levels" in m.reason and m.image is None for m in made.values())
    kept = results(make_plan(images=2, methods=(method(levels=0.4),), keep_empty=True))
    assert all(m.reason is None and not m.mask.any() for m in kept.values())


def test_what_is_fainter_than_asked_for_is_left_out():
    for least, kept in ((4.0, True), (5.0, False)):
        plan = make_plan(images=1, methods=(Ramp(levels=8.0),), min_contrast=least)
        (made,) = results(plan).values()
        assert (made.reason is None) == kept


def test_runs_of_earlier_versions_keep_the_methods_masks():
    plan = make_plan(images=1, methods=(Ramp(levels=0.4),), mask_rule=None)
    (made,) = results(plan).values()
    assert made.reason is None and (made.mask > 0).mean() == 0.5
    assert (made.image == made.normal).all()


@pytest.mark.parametrize(("value", "kept"), [(255, False), (120, True)])
def test_at_its_own_resolution_a_defect_shows_or_is_left_out(value, kept):
    own = np.full((40, 40, 1), value, np.uint8)
    plan = make_plan(images=1, methods=(Ramp(levels=6.0),), native=lambda i: own)
    (made,) = results(plan).values()
    assert (made.reason is None) == kept
    if kept:
        final = plan.final(made)
        np.testing.assert_array_equal(final.mask > 0, final.image != own)


@dataclass(frozen=True)
class SmallDevice(Batch):
    """A batch that has room for so many images, and says so at different times."""

    room: int = 0
    when: str = "compile"

    def lower(self, params, size, inputs):
        if self.when == "compile":
            self.refuse(size)
        return super().lower(params, size, inputs)

    def __call__(self, params, seed, ids, inputs, draws):
        if self.when == "call":
            self.refuse(len(ids))
        out = super().__call__(params, seed, ids, inputs, draws)
        fails = self.when == "result" and len(ids) > self.room
        return replace(out, image=Unreadable()) if fails else out

    def refuse(self, size):
        if size > self.room:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


class Unreadable:
    def __array__(self, *_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


def small_device(monkeypatch, room, when):
    def small(*args, **options):
        return SmallDevice(**vars(batch(*args, **options)), room=room, when=when)

    monkeypatch.setattr(pipeline, "batch", small)


@pytest.mark.parametrize("when", ["compile", "call", "result"])
def test_a_batch_that_does_not_fit_is_halved_with_a_sentence(monkeypatch, caplog, when):
    plan = make_plan(images=40, methods=(Spot(empty=0.5), Spot()))
    whole = results(plan, batch_size=64)
    small_device(monkeypatch, 20, when)
    same(whole, results(plan, batch_size=64, devices=jax.devices()[:2]))
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 4  # 64 to 32 to 16, for both methods
    assert "32 images at a time do not fit" in said[0] and "going on with 16" in said[0]
    assert "64 images at a time do not fit" in said[3] and "going on with 32" in said[3]


def test_what_never_fits_is_an_error_that_says_what_to_do(monkeypatch):
    small_device(monkeypatch, 0, "call")
    with pytest.raises(SettingError, match="not even 2 images .* smaller --size"):
        results(make_plan(), batch_size=8, devices=jax.devices()[:1])


def test_other_failures_of_the_device_are_not_hidden(monkeypatch):
    def broken(self, size):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    small_device(monkeypatch, 0, "call")
    monkeypatch.setattr(SmallDevice, "refuse", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        results(make_plan(), batch_size=8)


def test_programs_are_compiled_ahead_and_once():
    """All of them in threads; the batches themselves compile nothing."""
    in_threads, elsewhere = [], []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            ahead = threading.current_thread().name.startswith("compile")
            (in_threads if ahead else elsewhere).append(event)

    plan = make_plan(images=9, methods=(Spot(empty=0.25), Spot(empty=0.125)))
    jax.clear_caches()
    results(plan, batch_size=4)  # the small operations around the programs, too
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        results(replace(plan, methods=(Spot(0.3), Spot(0.4))), batch_size=4)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(in_threads) == 2 and not elsewhere


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_change_under_the_mask_as_numpy_says_it(channels, dtype):
    rng = np.random.default_rng(channels)
    top = np.iinfo(dtype).max
    before, after = rng.integers(0, top, (2, 20, 30, channels), dtype, endpoint=True)
    after = np.where(rng.random((20, 30, 1)) < 0.5, before, after)
    mask = np.zeros((20, 30, 1), np.uint8)
    assert visible.mean_change(before, after, mask) == 0
    mask[3:9, 5:20] = 255 * (rng.random((6, 15, 1)) < 0.7)
    gap = np.abs(after.astype(float) - before)[mask[..., 0] > 0].mean() / top
    assert visible.mean_change(before, after, mask) == gap
    differs = (before != after).any(-1, keepdims=True)
    np.testing.assert_array_equal(visible.changed(before, after), differs)
