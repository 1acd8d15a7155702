"""A run: interrupted, killed, continued elsewhere; and what makes it stop."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_task import Stripe, StripeTask, examples, grouped, source

from anojax.errors import AnojaxError, CheckpointError, SettingError
from anojax.optim import Optimizer
from anojax.training import checkpoint, metrics_log
from anojax.training.loop import Timetable
from anojax.training.parallel import MeshJit, Pmap
from anojax.training.run import CHECKPOINTS, MODEL, train
from anojax.training.start import Beginning, run_key, starting_point

STEPS = 12
TIMETABLE = Timetable(STEPS, log_every=4, save_every=4)
TASK = StripeTask(
    Stripe(), steps=STEPS, optimizer=Optimizer("adam", 1e-2), ema_decay=0.9
)


def run(folder, timetable=TIMETABLE, devices=1, task=TASK, strategy=None, **options):
    strategy = strategy or Pmap(jax.devices()[:devices])
    return train(
        task,
        source(20),
        batch_size=8,
        seed=3,
        folder=folder,
        timetable=timetable,
        strategy=strategy,
        **grouped(options),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), a, b)


def test_the_loss_falls_and_is_logged(whole):
    folder, outcome = whole
    rows = metrics_log.read(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(row["samples_per_s"] > 0 for row in rows)
    assert outcome.step == 12 and outcome.stopped_by is None
    assert outcome.metrics["loss"] == rows[-1]["loss"]


def test_the_model_is_ready_for_its_detector(whole):
    folder, outcome = whole
    variables, record = checkpoint.load_variables(folder / MODEL)
    assert record.method == TASK.name
    assert_same(variables["params"], outcome.state.ema)
    level = source(20).inputs.image.mean() / 255
    np.testing.assert_allclose(variables["density"]["level"], level, rtol=1e-5)


def interrupt(at, number):
    """An evaluation during which the signal comes."""

    def evaluate(state):
        if state.step == at:
            os.kill(os.getpid(), number)
        return {"step": float(state.step)}

    return evaluate


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(whole, tmp_path, number):
    halfway = dataclasses.replace(TIMETABLE, eval_every=5)
    before = signal.getsignal(number)
    stopped = run(tmp_path, halfway, evaluate=interrupt(5, number))
    assert (stopped.step, stopped.stopped_by) == (5, number)
    assert signal.getsignal(number) is before
    assert checkpoint.steps(tmp_path / CHECKPOINTS)[-1] == 5
    assert not (tmp_path / MODEL).exists()
    notes = []
    outcome = run(tmp_path, note=notes.append)
    assert "continue this run at 5" in notes
    assert_same(outcome.state, whole[1].state)


def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path):
    class Killed(Exception):
        pass

    def die(state):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, dataclasses.replace(TIMETABLE, eval_every=7), evaluate=die)
    outcome = run(tmp_path)
    assert_same(outcome.state, whole[1].state)
    rows = metrics_log.read(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 12]


KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
import test_loop

def die(state):
    os.kill(os.getpid(), signal.SIGKILL)

often = dataclasses.replace(test_loop.TIMETABLE, save_every=1, eval_every=7)
test_loop.run(Path(sys.argv[1]), often, evaluate=die)
"""


@pytest.mark.slow
def test_kill_9_while_saving_goes_on_bit_for_bit(whole, tmp_path):
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", KILLED, tmp_path]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-3000:]
    saved = checkpoint.steps(tmp_path / CHECKPOINTS)
    assert saved and saved[-1] <= 7
    notes = []
    outcome = run(tmp_path, note=notes.append)
    assert f"continue this run at {saved[-1]}" in notes
    assert_same(outcome.state, whole[1].state)


@pytest.mark.parametrize("where", ["pmap", "mesh"])
def test_goes_on_with_other_devices(whole, tmp_path, where):
    halfway = dataclasses.replace(TIMETABLE, eval_every=5)
    run(tmp_path, halfway, evaluate=interrupt(5, signal.SIGTERM))
    rules = (("Conv_0/kernel$", (None, None, None, "model")),)
    strategy = Pmap() if where == "pmap" else MeshJit(2, rules)
    outcome = run(tmp_path, strategy=strategy)
    assert outcome.step == 12
    assert_close(outcome.state, whole[1].state)


def start(folder=None, **options):
    strategy = Pmap(jax.devices()[:1])
    found = starting_point(
        TASK,
        strategy,
        examples(8),
        seed=1,
        folder=folder,
        beginning=Beginning(**options),
    )
    return found, strategy


def test_where_a_run_begins(whole, tmp_path):
    folder, outcome = whole
    point, strategy = start(resume=folder)
    assert (point.step, point.position) == (12, 96)
    assert_same(strategy.fetch(point.state), outcome.state)
    assert point.key == run_key(3)
    point, strategy = start(init_from=folder)
    fresh = strategy.fetch(point.state)
    assert (point.step, point.position, int(fresh.step)) == (0, 0, 0)
    assert point.key == run_key(1)
    assert_same(fresh.params, outcome.state.ema)
    assert_same(fresh.ema, outcome.state.ema)
    assert_same(fresh.statistics, outcome.state.statistics)
    assert not np.any(jax.tree.leaves(fresh.opt_state)[0])
    # Its own folder comes first, when there is something in it.
    point, _ = start(folder=folder / CHECKPOINTS, resume=tmp_path / "nowhere")
    assert point.step == 12
    point, _ = start(folder=tmp_path / "new")
    assert point.step == 0 and "scratch" in point.how
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        start(resume=tmp_path / "nowhere")


def test_evaluation_is_logged_and_keeps_the_best(tmp_path):
    scores = {4: 0.3, 8: 0.9, 12: 0.5}
    outcome = run(
        tmp_path,
        dataclasses.replace(TIMETABLE, eval_every=4),
        evaluate=lambda state: {"auroc": scores[int(state.step)]},
        best="auroc",
    )
    assert outcome.metrics["eval/auroc"] == 0.5
    rows = metrics_log.read(tmp_path / "metrics.jsonl")
    assert [r["eval/auroc"] for r in rows if "eval/auroc" in r] == [0.3, 0.9, 0.5]
    assert checkpoint.steps(tmp_path / CHECKPOINTS) == [8, 12]
    with pytest.raises(SettingError, match=r"keep_best is 'f1'; .* gives auroc"):
        run(tmp_path / "f1", evaluate=lambda state: {"auroc": 1}, best="f1")


def test_not_a_number_stops_the_run_with_its_name(tmp_path):
    task = dataclasses.replace(TASK, scale=float("inf"))
    with pytest.raises(AnojaxError, match=r"(loss|gradient_norm) is \w+ at step 1;"):
        run(tmp_path, task=task)
    assert checkpoint.steps(tmp_path / CHECKPOINTS) == []


def test_profile_of_a_window(tmp_path):
    run(tmp_path, dataclasses.replace(TIMETABLE, profile=(2, 3)))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_timetables_that_cannot_be():
    with pytest.raises(SettingError, match="steps is 0; it must be at least 1"):
        Timetable(steps=0)
    with pytest.raises(SettingError, match="save_every is 10, no multiple of"):
        Timetable(steps=40, log_every=20, save_every=10, steps_per_call=4)
    with pytest.raises(SettingError, match=r"task expects 12 steps, .* has 16"):
        run(None, Timetable(steps=16))
    with pytest.raises(AnojaxError, match=r"batch_size is 8, .* 3 devices"):
        run(None, devices=3)
    with pytest.raises(SettingError, match="seed is -1"):
        run_key(-1)
    with pytest.raises(SettingError, match="profile needs a run folder"):
        run(None, dataclasses.replace(TIMETABLE, profile=(1, 2)))
