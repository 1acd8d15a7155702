"""What every training promises. Runs over all tasks of the registry, at tiny sizes.

A task is compiled twice: its step on two devices, which learns, stops and goes on, and
the same on one device, which must give the same numbers.
"""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from tiny import Course, constant, first_state, tiny

from anojax import registry
from anojax import task as tasks
from anojax.task import Reduce
from anojax.training import checkpoint
from anojax.training.parallel import MeshJit

STAGES = [(n, stage) for n in registry.names() for stage in tasks.stages(n)]
# The name comes first; see `units`.
every = pytest.mark.parametrize(("name", "stage"), STAGES)


@cache
def two_devices(name, stage):
    """The updates, the first state, those after one and two steps, and the log."""
    given = tiny(name, stage)
    course = Course(given.task, given.batch, devices=2, bank=given.bank)
    first = first_state(given.task, given.batch.replace(bank=given.bank))
    one, begun = course.go(first, 1)
    two, more = course.go(one, 1)
    return course, (first, one, two), begun + more


@cache
def finished(name, stage):
    """The state and the log after all steps, without a stop after the second."""
    course, (_, one, _), log = two_devices(name, stage)
    state, rest = course.go(one, tiny(name, stage).task.steps - 1)
    return state, log[:1] + rest


def assert_equal_steps(found, metrics, expected, log):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6, rtol=2e-6)
    for key, value in metrics.items():
        np.testing.assert_allclose(value, log[key], rtol=1e-4, err_msg=key)


def furthest(a, b):
    """The largest difference between two trees."""
    away = jax.tree.map(lambda x, y: np.abs(x - y).max(initial=0), a, b)
    return max(jax.tree.leaves(away))


@every
def test_its_file_knows_a_tiny_size(name, stage):
    assert stage in constant(name, "TASKS", {}), (
        f"tests/methods/test_{name}.py has no TASKS['{stage}']; see tests/tiny.py"
    )


@every
def test_loss_falls(name, stage):
    state, log = finished(name, stage)
    for row in log:
        assert all(np.isfinite(value) for value in row.values()), row
    losses = [row["loss"] for row in log]
    assert losses[-1] < tiny(name, stage).falls * losses[0], losses
    assert int(state.step) == tiny(name, stage).task.steps


@every
def test_two_devices_equal_one(name, stage):
    """With plain gradient descent: a rule that divides by the gradient would hide it."""
    given = tiny(name, stage)
    _, (first, expected, _), log = two_devices(name, stage)
    alone = Course(given.task, given.batch, bank=given.bank)
    found, (metrics,) = alone.go(first, 1)
    assert_equal_steps(found, metrics, expected, log[0])
    assert furthest(found.params, first.params) > 1e-4, "the step changed nothing"


@pytest.mark.slow
@every
def test_a_mesh_of_eight_equals_two_devices(name, stage):
    given = tiny(name, stage)
    _, (first, expected, _), log = two_devices(name, stage)
    mesh = Course(given.task, given.batch, bank=given.bank, strategy=MeshJit())
    found, (metrics,) = mesh.go(first, 1)
    assert_equal_steps(found, metrics, expected, log[0])


@every
def test_a_stopped_run_goes_on_bit_for_bit(name, stage, tmp_path):
    course, (first, _, two), log = two_devices(name, stage)
    uninterrupted, whole = finished(name, stage)
    writer = checkpoint.Checkpoints(tmp_path)
    shapes, seen = checkpoint.shapes_of(two), 2 * course.group.ids.size
    writer.save(checkpoint.Record(name, 2, seen, (0, 0), shapes, {}), two)
    writer.close()
    read, record = checkpoint.restore(tmp_path, first, method=name)
    assert record.step == 2 == int(read.step)
    state, rest = course.go(read, len(whole) - 2)
    assert log + rest == whole
    jax.tree.map(np.testing.assert_array_equal, state, uninterrupted)


@every
def test_what_it_does_not_train_stays(name, stage):
    _, (first, one, _), _ = two_devices(name, stage)
    jax.tree.map(np.testing.assert_array_equal, one.frozen, first.frozen)


@every
def test_half_precision_is_for_computing_only(name, stage):
    """Nothing is computed: shapes, dtypes and operations of the step."""
    given = tiny(name, stage)
    if not hasattr(given.task, "dtype"):
        pytest.skip("has no setting for it")
    low = dataclasses.replace(given.task, dtype="bfloat16", accumulate=2)
    batch, key = given.batch.replace(bank=given.bank), jax.random.key(0)
    first = first_state(given.task, batch)

    def step(state, batch):
        return low.step(state, key, batch, Reduce())

    traced = jax.make_jaxpr(step, return_shape=True)
    program, (after, metrics) = traced(first, batch)
    same = jax.tree.map(lambda a, b: a.dtype == b.dtype, after, first)
    assert all(jax.tree.leaves(same))
    assert metrics["loss"].dtype == np.float32
    assert "bf16" in str(program), "nothing is computed in bfloat16"
