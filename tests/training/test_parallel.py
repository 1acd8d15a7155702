"""One step gives the same numbers however many devices share the batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_task import Stripe, StripeTask, examples

from anojax.errors import AnojaxError
from anojax.optim import Optimizer
from anojax.task import GradientTask
from anojax.training.parallel import MeshJit, Pmap

# SGD: Adam would hide a gradient that is N times too large.
TASK = StripeTask(Stripe(), optimizer=Optimizer("sgd", 1.0), ema_decay=0.9)
RULES = (("Conv_0/kernel$", (None, None, None, "model")),)


def step(strategy, task=TASK, calls=1, group=1):
    """State and metrics after some calls of `group` updates on the same batch."""
    batch = examples()
    key = jax.random.key(0)
    state = strategy.init(task, key, batch)
    run, key = strategy.compile(task), strategy.place_whole(key)
    stacked = jax.tree.map(lambda x: np.stack([x] * group), batch)
    for _ in range(calls):
        placed = strategy.place_batch(stacked)
        state, metrics = run(state, key, None, placed)
    return strategy.fetch(state), strategy.fetch_metrics(metrics)


@pytest.fixture(scope="module")
def one_device():
    return step(Pmap(jax.devices()[:1]))


def assert_close(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=0), a, b)


@pytest.mark.parametrize(
    "strategy",
    [lambda: Pmap(), lambda: MeshJit(), lambda: MeshJit(2, RULES)],
    ids=["pmap", "mesh", "mesh_model"],
)
def test_eight_devices_equal_one(strategy, one_device):
    strategy = strategy()
    assert strategy.shares in (4, 8)
    state, metrics = step(strategy)
    assert_close(state, one_device[0])
    assert_close(metrics, one_device[1])
    before = jax.jit(TASK.init)(jax.random.key(0), examples())
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), before.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-3  # the step did something
    mean = state.statistics["BatchNorm_0"]["mean"]
    assert np.abs(mean).min() > 1e-3  # and so did the statistics
    average = jax.tree.map(lambda x, y: 0.9 * x + 0.1 * y, before.params, state.params)
    assert_close(state.ema, average)


def test_rules_divide_parameters_moments_and_averages():
    task = dataclasses.replace(TASK, optimizer=Optimizer("adam", 1e-3))
    strategy = MeshJit(2, RULES)
    key, batch = jax.random.key(0), examples()
    sharding = strategy.shardings(jax.eval_shape(task.init, key, batch))
    divided = jax.P(None, None, None, "model")
    assert sharding.params["Conv_0"]["kernel"].spec == divided
    assert sharding.ema["Conv_0"]["kernel"].spec == divided
    moments = [s.spec for s in jax.tree.leaves(sharding.opt_state)]
    assert moments.count(divided) == 2
    assert sharding.params["Conv_1"]["kernel"].spec == jax.P()


def test_rule_that_does_not_divide():
    strategy = MeshJit(8, RULES)
    with pytest.raises(AnojaxError, match=r"Conv_0/kernel: an axis of 4 .* 8 devices"):
        strategy.init(TASK, jax.random.key(0), examples())


class Linear(GradientTask):
    """No BatchNorm, whose statistics depend on how a batch is divided."""

    def init_networks(self, key, batch):
        return {"w": jnp.float32(1.0)}, {}

    def loss(self, params, state, key, batch, reduce):
        out = self.draw(key, batch, clean_share=0.5)
        wrong = jnp.mean((params["w"] * out.image - out.mask) ** 2)
        return wrong, (state.statistics, {"area": jnp.mean(out.mask)})


def test_several_updates_in_one_call_and_in_parts():
    task = Linear(Stripe(), optimizer=Optimizer("sgd", 1.0))
    strategy = Pmap(jax.devices()[:2])
    apart, one = step(strategy, task, calls=3)
    together, three = step(strategy, task, group=3)
    assert together.step == apart.step == 3
    assert three["loss"].shape == (3,)
    assert_close(together, apart)
    parts, four = step(strategy, dataclasses.replace(task, accumulate=4), calls=3)
    assert_close(parts, apart)
    assert_close(four, one)


def test_batch_that_does_not_divide():
    with pytest.raises(AnojaxError, match=r"batch_size is 6, .* 8 devices"):
        Pmap().check_batch(6)
    task = dataclasses.replace(TASK, accumulate=3)
    with pytest.raises(AnojaxError, match="accumulate is 3, but a device has 2"):
        step(Pmap(), task)


def test_bfloat16_computes_low_and_keeps_float32(one_device):
    task = dataclasses.replace(TASK, dtype="bfloat16")
    state, metrics = step(Pmap(jax.devices()[:1]), task)
    dtypes = {x.dtype for x in jax.tree.leaves((state.params, state.statistics))}
    assert dtypes == {np.dtype("float32")}
    full = one_device[1]
    assert metrics["loss"] != full["loss"]
    np.testing.assert_allclose(metrics["loss"], full["loss"], rtol=0.05)
