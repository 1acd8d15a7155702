"""Sheets of what a method generates while it is trained: when, with what, at whose cost."""

import dataclasses
import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toy_task import Stripe, StripeTask, grouped, images, source

import anojax
from anojax.core import Synthesizer
from anojax.errors import SettingError
from anojax.ops.blend import local_synthesis
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.report.sheet import GAP
from anojax.task import GradientTask
from anojax.training import metrics_log
from anojax.training.loop import Timetable
from anojax.training.parallel import Pmap
from anojax.training.run import synthesizer_params, train
from anojax.training.sample_sheets import sample_sheets
from anojax.types import Inputs

SEED, COUNT, STEPS = 7, 5, 10


@dataclass(frozen=True)
class Gray(Synthesizer):
    """Generates everything, or a half chosen at random, in the gray it has learned."""

    card: ClassVar = Stripe.card
    half: bool = True

    def init(self, key, inputs):
        return {"level": jnp.float32(0.0)}

    def synthesize(self, params, key, inputs):
        upper = jax.random.bernoulli(stream(key, "shape"))
        height, width, _ = inputs.image.shape
        inside = (jnp.arange(height) < height // 2) == upper
        mask = jnp.broadcast_to(
            inside[:, None, None] | (not self.half), (height, width, 1)
        )
        noise = 0.1 * jax.random.normal(stream(key, "noise"), inputs.image.shape)
        level = params["level"] + noise
        return local_synthesis(inputs, level, mask.astype(jnp.float32))


@dataclass(frozen=True)
class GrayTask(GradientTask):
    def init_networks(self, key, batch):
        return self.synth.init(key, None), {}

    def loss(self, params, state, key, batch, reduce):
        return jnp.mean((params["level"] - batch.images) ** 2), (state.statistics, {})

    def params(self, state):
        return state.params


TASK = GrayTask(Gray(), steps=STEPS, optimizer=Optimizer("sgd", 0.1), ema_decay=0.8)
TIMETABLE = Timetable(STEPS, log_every=2, save_every=2, sample_every=4)


def sheets(folder, task=TASK, count=COUNT):
    options = {"folder": folder, "seed": SEED, "count": count, "bank": None}
    return sample_sheets(task, source(3), **options)


def run(folder, sample=None, timetable=TIMETABLE, task=TASK, **more):
    options = {"batch_size": 8, "seed": SEED, "folder": folder, "timetable": timetable}
    one = Pmap(jax.devices()[:1])
    options |= grouped({"sample": sample} | more)
    return train(task, source(3), **options, strategy=one)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    return folder, run(folder, sheets(folder))


def made(task, params, count=COUNT):
    """What `anojax.batch` makes for the first examples, on all devices."""
    inputs = Inputs(image=images(3)[np.arange(count) % 3])
    return anojax.batch(task.synth, uint8=True)(params, SEED, np.arange(count), inputs)


def tiles(path, columns, masks):
    """The images of a sheet in their own size, by position, and the masks."""
    sheet = np.asarray(Image.open(path))
    side, cell = 128, 256 if masks else 128
    width = columns * (cell + GAP) + GAP
    assert sheet.shape[1] == width and (sheet[:GAP] == 255).all()
    found = []
    for y in range(GAP, sheet.shape[0], side + GAP):
        for x in range(GAP, width, cell + GAP):
            large = sheet[y : y + side, x : x + cell]
            # Every pixel of 8 x 8 fills a block of the sheet.
            small = large[::16, ::16]
            np.testing.assert_array_equal(large, small.repeat(16, 0).repeat(16, 1))
            found.append((small[:, :8, :1], small[:, 8:, :1]))
    return found


def test_sheets_appear_when_they_are_due(sampled):
    folder, _ = sampled
    names = sorted(path.name for path in (folder / "samples").iterdir())
    assert names == [f"step_{n:06d}.png" for n in (4, 8, 10)]  # and no temporary ones


def test_a_sheet_shows_what_the_average_generates(sampled):
    folder, outcome = sampled
    expected = made(TASK, synthesizer_params(TASK, outcome.state))
    found = tiles(folder / "samples/step_000010.png", columns=3, masks=True)
    for number in range(COUNT):
        image, mask = found[number]
        np.testing.assert_array_equal(image, expected.image[number])
        np.testing.assert_array_equal(mask, expected.mask[number])
    assert (
        len({image.tobytes() for image, _ in found}) == COUNT + 1
    )  # one place is free
    last = made(TASK, outcome.state.params)
    assert (last.image != expected.image).any()  # not the average
    early, _ = tiles(folder / "samples/step_000004.png", columns=3, masks=True)[0]
    inside = expected.mask[0] > 0
    assert early[inside].mean() < expected.image[0][inside].mean()  # it has learned
    np.testing.assert_array_equal(early[~inside], expected.image[0][~inside])


def test_full_masks_are_left_out(tmp_path, sampled):
    task = dataclasses.replace(TASK, synth=Gray(half=False))
    state = sampled[1].state
    sheets(tmp_path, task, count=1)(state)
    ((image, _),) = tiles(tmp_path / "samples/step_000010.png", columns=1, masks=False)
    expected = made(task, synthesizer_params(task, state), count=1)
    np.testing.assert_array_equal(image, expected.image[0])


def test_the_same_weights_give_the_same_file(tmp_path, sampled):
    folder, outcome = sampled
    sheets(tmp_path)(outcome.state)
    name = "samples/step_000010.png"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_training_does_not_feel_it(tmp_path, sampled):
    slow = []

    def sample(state):
        time.sleep(0.6)
        slow.append(int(state.step))

    without = run(None)
    jax.tree.map(np.testing.assert_array_equal, without.state, sampled[1].state)
    run(tmp_path, sample)
    assert slow == [4, 8, 10]
    rows = metrics_log.read(tmp_path / "metrics.jsonl")
    (after,) = (row for row in rows if row["step"] == 6)
    # Two updates of 8 in more than 0.6 s would be less than this.
    assert after["samples_per_s"] > 2 * 8 / 0.6


def test_a_run_that_goes_on_keeps_its_earlier_sheets(tmp_path, sampled):
    def interrupt(state):
        if state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    halfway = dataclasses.replace(TIMETABLE, eval_every=6)
    stopped = run(tmp_path, sheets(tmp_path), halfway, evaluate=interrupt)
    assert stopped.step == 6
    first = tmp_path / "samples/step_000004.png"
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    first.write_bytes(b"untouched")
    run(tmp_path, sheets(tmp_path))
    assert first.read_bytes() == b"untouched"
    for name in ("samples/step_000008.png", "samples/step_000010.png"):
        assert (tmp_path / name).read_bytes() == (sampled[0] / name).read_bytes()


def test_methods_that_learn_nothing_are_refused(tmp_path):
    with pytest.raises(SettingError, match=r"does not learn .* 'anojax preview'"):
        sheets(tmp_path, StripeTask(Stripe()))
    assert not list(tmp_path.iterdir())


def test_of_the_schedule():
    with pytest.raises(SettingError, match="sample_every is 3, no multiple of"):
        Timetable(
            steps=40, log_every=20, save_every=10, sample_every=3, steps_per_call=2
        )
