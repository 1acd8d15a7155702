"""What every diffusion training must keep: devices, interruptions, averages, precision."""

import dataclasses

import jax
import numpy as np
import pytest
from task_checks import examples, first_state, gray_images

from anojax.methods.generative.defect_gen import DefectGen, DefectGenTask
from anojax.methods.generative.realnet import Realnet, RealnetTask
from anojax.optim import Optimizer
from anojax.training.parallel import MeshJit, Pmap
from anojax.types import Exemplar

STEPS = 3
SGD = Optimizer("sgd", 0.1)
SHARED = {"blocks": 1, "head_channels": 8, "norm_groups": 4}
REALNET = RealnetTask(
    Realnet(width=8, multipliers=(1,), attention_at=(), **SHARED),
    steps=STEPS,
    optimizer=SGD,
)
DEFECT_GEN = DefectGenTask(
    DefectGen(
        large_width=8,
        large_multipliers=(1,),
        large_attention=(),
        small_width=8,
        small_multipliers=(1,),
        **SHARED,
    ),
    steps=STEPS,
    optimizer=SGD,
)


def batch(step):
    """The batch of a step: the same images, with other noise."""
    image = gray_images(side=8)
    mask = np.zeros_like(image)
    mask[:, 2:5, 3:7] = 1
    one = examples(image)
    label = np.ones(len(image), np.int32)
    more = one.inputs.replace(exemplar=Exemplar(image, mask), label=label)
    return one.replace(inputs=more, ids=one.ids + np.uint32(step * len(image)))


def updates(task, strategy, state, steps):
    """The state after each of these steps, and the losses."""
    run, key = strategy.compile(task), strategy.place_whole(jax.random.key(0))
    state, states, losses = strategy.place_state(state), [], []
    for step in steps:
        given = strategy.place_batch(jax.tree.map(lambda x: x[None], batch(step)))
        state, metrics = run(state, key, None, given)
        states.append(jax.tree.map(np.array, strategy.fetch(state)))
        losses.append(strategy.fetch_metrics(metrics)["loss"].item())
    return states, losses


@pytest.fixture(scope="module", params=[REALNET, DEFECT_GEN], ids=lambda t: t.name)
def whole(request):
    """A task, its strategy, its states from the first on, and its losses."""
    task, strategy = request.param, Pmap(jax.devices()[:1])
    first = first_state(task, batch(0))
    states, losses = updates(task, strategy, first, range(STEPS))
    return task, strategy, [first, *states], losses


def test_a_mesh_of_eight_equals_one_device(whole):
    task, _, states, losses = whole
    (found,), (loss,) = updates(task, MeshJit(), states[0], [0])
    for a, b in zip(*map(jax.tree.leaves, (found, states[1])), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    assert loss == pytest.approx(losses[0], rel=1e-5)
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), found.params, states[0].params
    )
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_an_interrupted_run_goes_on_bit_for_bit(whole):
    task, strategy, states, losses = whole
    (found,), (loss,) = updates(task, strategy, states[2], [2])
    jax.tree.map(np.testing.assert_array_equal, found, states[3])
    assert loss == losses[2] and len(set(losses)) == STEPS


def test_the_average_follows_its_recursion(whole):
    task, _, states, _ = whole
    average = jax.tree.map(np.float64, states[0].ema)
    for k, state in enumerate(states[1:], 1):
        decay = min(task.ema_decay, (1 + k) / (task.ema_warmup + k))
        average = jax.tree.map(
            lambda a, p, d=decay: d * a + (1 - d) * p, average, state.params
        )
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(e, a, atol=1e-6), average, state.ema
        )
    assert task.params(states[-1]) is states[-1].ema


def test_bfloat16_in_parts(whole):
    task, strategy, states, losses = whole
    low = dataclasses.replace(task, dtype="bfloat16", accumulate=2)
    (found,), (loss,) = updates(low, strategy, states[0], [0])
    kinds = {x.dtype for x in jax.tree.leaves((found.params, found.ema))}
    assert kinds == {np.dtype("float32")}
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.params))
    assert loss == pytest.approx(losses[0], rel=0.05) and loss != losses[0]
