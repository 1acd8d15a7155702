"""Several players in one step: their order, their devices, their checkpoints."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dots import DOT, Dot, source

from anojax.errors import CheckpointError, SettingError
from anojax.optim import Optimizer
from anojax.random import stream
from anojax.task import AdversarialTask, Examples, Player, Update
from anojax.training import checkpoint
from anojax.training.loop import Timetable, Watch
from anojax.training.parallel import MeshJit, Pmap
from anojax.training.run import CHECKPOINTS, train
from anojax.training.start import Beginning

SGD = Optimizer("sgd", 0.1)
POOL = 4


@dataclass(frozen=True)
class GanTask(AdversarialTask):
    """A linear generator of 16 pixels from two numbers, against a linear critic whose
    gradient is penalized at one step of three; the critic sees a pool of older images."""

    synth: Dot = DOT
    generator: Player = Player(SGD, ema_decay=0.5)
    critic: Player = Player(SGD)
    order: tuple[str, ...] = ("critic", "penalty", "generator")
    critic_repeats: int = 2
    generator_every: int = 1

    def updates(self):
        every = {
            "critic": Update("critic", repeats=self.critic_repeats),
            "penalty": Update("critic", "penalty", every=3),
            "generator": Update("generator", every=self.generator_every),
        }
        return tuple(every[name] for name in self.order)

    def init_networks(self, key, batch):
        a, b = jax.random.split(key)
        params = {
            "generator": {"kernel": 0.3 * jax.random.normal(a, (2, 16))},
            "critic": {"kernel": 0.3 * jax.random.normal(b, (16,))},
        }
        return params, {"pool": jnp.zeros((POOL, 16)), "seen": jnp.zeros(())}

    def fakes(self, state, key, batch):
        keys = self.example_keys(key, batch, "codes")
        codes = jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys)
        return codes @ state.params["generator"]["kernel"]

    def share(self, state, key, batch, reduce):
        fakes = self.fakes(state, key, batch)
        pool = reduce.gather(fakes)[:POOL]
        return state.statistics["pool"], {"pool": pool}

    def loss(self, name, state, key, batch, shared, reduce):
        weights = state.params["critic"]["kernel"]

        def critic(x):
            return x @ weights

        if name == "penalty":
            slope = jax.grad(lambda x: critic(x).sum())(real(batch))
            return jnp.mean(jnp.sum(slope**2, -1)), ({}, {})
        fakes = critic(self.fakes(state, key, batch))
        if name == "generator":
            return jnp.mean(jax.nn.softplus(-fakes)), ({}, {"fake": jnp.mean(fakes)})
        loss = jnp.mean(jax.nn.softplus(fakes))
        loss += jnp.mean(jax.nn.softplus(-critic(real(batch))))
        loss += jnp.mean(jax.nn.softplus(critic(shared)))
        return loss, ({"seen": state.statistics["seen"] + 1}, {})

    def params(self, state):
        return {"generator": state.params["generator"]}


def real(batch):
    return batch.images.reshape(len(batch.ids), 16)


@dataclass(frozen=True)
class SecondTask(GanTask):
    """The generator goes on, frozen, with another one beside it; so does its critic."""

    stage: ClassVar[str] = "second"

    def inherits(self, stage):
        if stage != "train":
            return {}
        return {
            "params/critic": "params/critic",
            "params/generator": "ema/generator",
            "frozen/object": "params/generator",
        }

    def init_networks(self, key, batch):
        params, statistics = super().init_networks(key, batch)
        params["generator"]["defect"] = jnp.full((2, 16), 0.5)
        return params, statistics

    def init_frozen(self, key, batch):
        return {"object": {"kernel": jnp.zeros((2, 16))}}


TASK = GanTask(steps=6)


def batch(count=8):
    return jax.tree.map(
        lambda *x: np.stack(x),
        *(Examples(source(count)[i], np.uint32(i)) for i in range(count)),
    )


def steps(task, strategy=None, count=4, state=None):
    """States after each of some steps on one batch, and the metrics."""
    strategy = strategy or Pmap(jax.devices()[:1])
    key, given = jax.random.key(0), batch()
    if state is None:
        state = strategy.init(task, key, given)
    run, key = strategy.compile(task), strategy.place_whole(key)
    states, log = [strategy.fetch(state)], []
    for _ in range(count):
        placed = strategy.place_batch(jax.tree.map(lambda x: x[None], given))
        state, metrics = run(state, key, None, placed)
        states.append(strategy.fetch(state))
        log.append({k: v.item() for k, v in strategy.fetch_metrics(metrics).items()})
    return states, log


@pytest.fixture(scope="module")
def one_device():
    return steps(TASK)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("strategy", [Pmap, MeshJit])
def test_eight_devices_equal_one(strategy, one_device):
    states, log = steps(TASK, strategy())
    close = lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6)  # noqa: E731
    jax.tree.map(close, states[-1], one_device[0][-1])
    assert [row.keys() for row in log] == [row.keys() for row in one_device[1]]
    for a, b in zip(log, one_device[1], strict=True):
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)
    assert np.any(states[-1].statistics["pool"] != states[0].statistics["pool"])


def test_devices_hold_the_same_bits():
    strategy, key = Pmap(jax.devices()[:3]), jax.random.key(0)
    given = jax.tree.map(lambda x: x[:6], batch())
    state = strategy.init(TASK, key, given)
    run, key = strategy.compile(TASK), strategy.place_whole(key)
    placed = strategy.place_batch(jax.tree.map(lambda x: x[None], given))
    state, _ = run(state, key, None, placed)
    for leaf in jax.tree.leaves(state):
        copies = [np.asarray(s.data)[0] for s in leaf.addressable_shards]
        for other in copies[1:]:
            np.testing.assert_array_equal(copies[0], other)


def test_updates_follow_each_other():
    """In numpy: the second player sees what the first has become."""
    for order in (("critic", "generator"), ("generator", "critic")):
        task = GanTask(order=order, critic_repeats=1)
        (before, after), _ = steps(task, count=1)
        given, key = batch(), jax.random.key(0)
        params = {k: np.float64(v["kernel"]) for k, v in before.params.items()}
        pixels = np.float64(real(given))

        def codes(name, task=task, key=key, given=given):
            own = jax.random.fold_in(stream(key, name), 0)
            keys = task.example_keys(own, given, "codes")
            return np.float64(jax.vmap(partial(jax.random.normal, shape=(2,)))(keys))

        for name in order:
            z, w, g = codes(name), params["critic"], params["generator"]
            fake = z @ g
            push = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
            if name == "generator":
                slope = -z.T @ push(-fake @ w)[:, None] @ w[None] / len(z)
                params = params | {"generator": g - 0.1 * slope}
            else:
                slope = (push(fake @ w)[:, None] * fake).mean(0)
                slope -= (push(-pixels @ w)[:, None] * pixels).mean(0)
                params = params | {"critic": w - 0.1 * slope}  # the pool is still empty
        for name, expected in params.items():
            found = after.params[name]["kernel"]
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=str(order))


def test_nobody_else_moves():
    task = dataclasses.replace(TASK, generator_every=2)
    states, log = steps(task, count=3)
    first, second = states[1], states[2]  # the generator waits at step 1
    same(second.params["generator"], first.params["generator"])
    same(second.ema, first.ema)
    same(second.opt_state["generator"], first.opt_state["generator"])
    assert np.any(second.params["critic"]["kernel"] != first.params["critic"]["kernel"])
    assert log[1]["generator/loss"] == log[0]["generator/loss"]
    assert log[2]["generator/loss"] != log[0]["generator/loss"]


def test_lazy_regularizer_in_closed_form():
    """The gradient of |w|^2 is 2 w: a step shrinks the critic by 1 - 2 x rate."""
    rate = Optimizer("sgd", 0.1)
    task = GanTask(
        order=("penalty", "generator"), critic=Player(rate), generator=Player(rate)
    )
    states, log = steps(task, count=4)
    kernels = [s.params["critic"]["kernel"] for s in states]
    for step, shrinks in enumerate((True, False, False, True)):
        expected = kernels[step] * np.float32(0.8 if shrinks else 1)
        np.testing.assert_allclose(kernels[step + 1], expected, rtol=1e-6)
    np.testing.assert_allclose(log[0]["penalty/loss"], (kernels[0] ** 2).sum(), 1e-5)
    assert log[2]["penalty/loss"] == log[0]["penalty/loss"]  # the last that ran


def test_only_one_player_is_averaged(one_device):
    states, _ = one_device
    average = states[0].params["generator"]["kernel"]
    for state in states[1:]:
        average = 0.5 * average + 0.5 * state.params["generator"]["kernel"]
    found = states[-1]
    assert set(found.ema) == {"generator"}
    np.testing.assert_allclose(found.ema["generator"]["kernel"], average, rtol=1e-5)
    assert found.averaged["generator"] is found.ema["generator"]
    assert found.averaged["critic"] is found.params["critic"]


def run(folder, task=TASK, **options):
    return train(
        task,
        source(8),
        batch_size=4,
        seed=3,
        folder=folder,
        timetable=options.pop("timetable", Timetable(6, log_every=2, save_every=2)),
        strategy=Pmap(jax.devices()[:2]),
        **options,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    return folder, run(folder)


def test_a_killed_run_goes_on_bit_for_bit(whole, tmp_path):
    class Killed(Exception):
        pass

    def die(state):
        raise Killed

    often = Timetable(6, log_every=2, save_every=2, eval_every=5)
    with pytest.raises(Killed):
        run(tmp_path, timetable=often, watch=Watch(evaluate=die))
    assert checkpoint.steps(tmp_path / CHECKPOINTS) == [4]
    same(run(tmp_path).state, whole[1].state)


def test_begins_with_another_run_of_the_stage(whole):
    """Where the average is of one player alone."""
    before = whole[1].state
    state = run(None, beginning=Beginning(init_from=whole[0])).state
    assert int(state.step) == 6
    notes = []
    still = dataclasses.replace(TASK, generator=Player(Optimizer("sgd", 0.0), 0.5))
    state = run(
        None,
        still,
        beginning=Beginning(init_from=whole[0]),
        watch=Watch(note=notes.append),
    ).state
    assert "networks of" in notes[0]
    same(state.params["generator"], before.ema["generator"])
    same(state.ema["generator"], before.ema["generator"])


def test_begins_with_another_stage(whole):
    before = whole[1].state
    quiet = Player(Optimizer("sgd", 0.0), ema_decay=0.5)
    task = SecondTask(steps=6, generator=quiet, critic=Player(Optimizer("sgd", 0.0)))
    state = run(None, task, beginning=Beginning(init_from=whole[0])).state
    same(state.params["critic"], before.params["critic"])
    same(state.params["generator"]["kernel"], before.ema["generator"]["kernel"])
    same(state.frozen["object"], before.params["generator"])
    same(state.params["generator"]["defect"], np.full((2, 16), 0.5, np.float32))
    same(state.ema["generator"], state.params["generator"])


def test_stages_that_are_no_beginning(whole, tmp_path):
    run(tmp_path, SecondTask(steps=6))
    with pytest.raises(
        CheckpointError, match="stage second, which is no beginning for"
    ):
        run(None, beginning=Beginning(init_from=tmp_path))


def test_updates_that_cannot_be():
    with pytest.raises(SettingError, match=r"every is 0 and repeats is 1; both are at"):
        Update("critic", every=0)
    with pytest.raises(SettingError, match="no update moves generator"):
        steps(GanTask(order=("critic",)))
    with pytest.raises(SettingError, match="names of their own"):
        steps(GanTask(order=("critic", "critic", "generator")))
