"""Networks that nothing changes: outside optimizers and checkpoints, once in a run."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dots import DOT, Dot, source

from anojax.errors import CheckpointError
from anojax.optim import Optimizer
from anojax.task import Component, GradientTask
from anojax.training import checkpoint
from anojax.training.loop import Timetable, Watch
from anojax.training.parallel import MeshJit, Pmap
from anojax.training.run import CHECKPOINTS, MODEL, train
from anojax.training.start import Beginning

# A third is no binary number: means over three devices round it.
BASE = {"kernel": np.full((16,), 1 / 3, np.float32)}


@dataclass(frozen=True)
class HeadTask(GradientTask):
    synth: Dot = DOT
    optimizer: Optimizer = Optimizer("adam", 1e-2)
    ema_decay: float = 0.5

    def components(self):
        return {"base": Component("backbone", "resnet18")}

    def init_networks(self, key, batch):
        return {"bias": jnp.zeros(())}, {}

    def init_frozen(self, key, batch):
        return {"base": {"kernel": jnp.zeros((16,))}}

    def loss(self, params, state, key, batch, reduce):
        found = batch.images.reshape(-1, 16) @ state.frozen["base"]["kernel"]
        return jnp.mean(jnp.square(found - params["bias"])), (state.statistics, {})


def run(folder=None, devices=1, strategy=None, **options):
    given = {"beginning": Beginning(components={"base": BASE})}
    return train(
        HeadTask(steps=4),
        source(6),
        batch_size=6,
        folder=folder,
        strategy=strategy or Pmap(jax.devices()[:devices]),
        **{"timetable": Timetable(4, save_every=2), **given, **options},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen")
    return folder, run(folder)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("strategy", [Pmap, MeshJit])
def test_no_step_and_no_mean_changes_them(strategy, whole):
    state = run(strategy=strategy(devices=jax.devices()[:3])).state
    same(state.frozen["base"], BASE)
    np.testing.assert_allclose(
        state.params["bias"], whole[1].state.params["bias"], rtol=1e-5
    )


def test_they_are_written_once(whole):
    folder, outcome = whole
    record = checkpoint.read_record(folder / CHECKPOINTS)
    names = set(record.shapes)
    assert names >= {"params/bias", "ema/bias", "step"}
    assert not [name for name in names if "kernel" in name]
    assert not [
        name
        for name in checkpoint.read_record(folder / MODEL).shapes
        if "kernel" in name
    ]
    assert set(checkpoint.read_record(folder / "frozen").shapes) == {"base/kernel"}
    assert [
        leaf.shape for leaf in jax.tree.leaves(outcome.state.opt_state) if leaf.shape
    ] == []
    variables, _ = checkpoint.load_variables(folder / MODEL)
    same(variables["frozen"]["base"], BASE)


def test_a_run_that_goes_on_finds_them(whole, tmp_path):
    class Killed(Exception):
        pass

    def die(state):
        raise Killed

    often = Timetable(4, save_every=2, eval_every=3)
    with pytest.raises(Killed):
        run(tmp_path, timetable=often, watch=Watch(evaluate=die))
    begun = (tmp_path / "frozen" / "0").stat().st_mtime_ns
    outcome = run(tmp_path, beginning=None)
    same(outcome.state, whole[1].state)
    assert (tmp_path / "frozen" / "0").stat().st_mtime_ns == begun


def test_another_run_begins_with_them(whole, tmp_path):
    beginning = Beginning(init_from=whole[0])
    outcome = run(tmp_path, beginning=beginning)
    same(outcome.state.frozen["base"], BASE)
    variables, _ = checkpoint.load_variables(tmp_path / MODEL)
    same(variables["frozen"]["base"], BASE)


def test_a_run_without_them_says_so(whole, tmp_path):
    (tmp_path / CHECKPOINTS).symlink_to(whole[0] / CHECKPOINTS)
    with pytest.raises(CheckpointError, match="no checkpoint folder .*frozen"):
        run(tmp_path)


def test_evaluations_see_them():
    seen = []
    watch = Watch(evaluate=lambda state: seen.append(state.frozen) or {"n": 1})
    run(timetable=Timetable(4, eval_every=2), watch=watch)
    assert len(seen) == 2
    for found in seen:
        same(found["base"], BASE)
