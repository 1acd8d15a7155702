"""What a step knows of many images: measured when it is due, equal on all devices."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dots import DOT, Dot, source

from anojax.errors import SettingError
from anojax.optim import Optimizer
from anojax.task import Context, GradientTask
from anojax.training import checkpoint
from anojax.training.loop import Timetable, Watch
from anojax.training.parallel import MeshJit, Pmap
from anojax.training.run import CHECKPOINTS, MODEL, train

IMAGES, BATCH = 10, 4


@dataclass(frozen=True)
class CenterTask(GradientTask):
    """One number learns the distance of features to their center over all images, up to
    the upper quartile of the batch; a bank keeps the first features as they were."""

    synth: Dot = DOT
    optimizer: Optimizer = Optimizer("sgd", 0.5)
    every: int | str = "1 epoch"

    def contexts(self):
        return {"center": Context(self.every), "bank": Context(batches=2)}

    def init_networks(self, key, batch):
        return {"scale": jnp.ones(()), "radius": jnp.zeros(())}, {}

    def features(self, params, batch):
        return params["scale"] * batch.images.reshape(len(batch.ids), 16)

    def context_start(self, name, state, batch):
        if name == "bank":
            return {"rows": jnp.zeros((2 * BATCH, 16)), "filled": jnp.int32(0)}
        return {"sum": jnp.zeros((16,)), "count": jnp.float32(0)}

    def context_visit(self, name, fold, state, key, batch, weights, reduce):
        found = self.features(state.params, batch)
        if name == "bank":
            rows = reduce.gather(found)
            begin = (fold["filled"], jnp.int32(0))
            rows = jax.lax.dynamic_update_slice(fold["rows"], rows, begin)
            return {"rows": rows, "filled": fold["filled"] + BATCH}
        new = {"sum": (weights[:, None] * found).sum(0), "count": weights.sum()}
        return jax.tree.map(jnp.add, fold, reduce.sum(new))

    def context_finish(self, name, fold):
        return fold["rows"] if name == "bank" else fold["sum"] / fold["count"]

    def loss(self, params, state, key, batch, reduce):
        found = self.features(params, batch) - state.context["center"][None]
        far = jnp.linalg.norm(found, axis=-1)
        radius = jnp.quantile(reduce.gather(far), jnp.float32(0.75))
        loss = jnp.mean(jnp.square(params["radius"] - jnp.minimum(far, radius)))
        return loss, (state.statistics, {"quartile": radius})


def run(folder=None, task=None, strategy=None, **options):
    task = CenterTask(steps=6) if task is None else task
    options = {"timetable": Timetable(6, log_every=1, save_every=2)} | options
    return train(
        task,
        source(IMAGES),
        batch_size=BATCH,
        seed=3,
        folder=folder,
        strategy=strategy or Pmap(jax.devices()[:1]),
        **options,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("center")
    return folder, run(folder)


def images():
    return source(IMAGES).inputs.image.reshape(IMAGES, 16) * np.float32(1 / 255)


def test_it_is_the_mean_over_all_images_with_the_networks_of_that_moment(tmp_path):
    """Every image counts once, though the last batch is only half full."""
    seen = []
    watch = Watch(evaluate=lambda state: seen.append(state) or {"n": len(seen)})
    often = Timetable(6, log_every=1, save_every=6, eval_every=1)
    run(tmp_path, timetable=often, watch=watch)
    scale = [1.0] + [float(s.params["scale"]) for s in seen]
    assert len({round(s, 6) for s in scale}) > 3  # the network does move
    # An epoch has 10 images, hence 3 steps of 4: measured before steps 0 and 3.
    for step, state in enumerate(seen):
        expected = scale[step // 3 * 3] * images().mean(0)
        np.testing.assert_allclose(state.context["center"], expected, rtol=1e-5)
        np.testing.assert_allclose(state.context["bank"], images()[:8], rtol=1e-6)


@pytest.mark.parametrize("kind", [Pmap, MeshJit])
def test_four_devices_equal_one(kind, whole):
    outcome = run(strategy=kind(devices=jax.devices()[:4]))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)  # noqa: E731
    jax.tree.map(close, outcome.state, whole[1].state)
    quartile = "quartile"
    np.testing.assert_allclose(
        outcome.metrics[quartile], whole[1].metrics[quartile], rtol=1e-5
    )


@pytest.mark.parametrize("last", [2, 4])
def test_a_killed_run_goes_on_bit_for_bit(last, whole, tmp_path):
    class Killed(Exception):
        pass

    def die(state):
        raise Killed

    often = Timetable(6, log_every=1, save_every=2, eval_every=last + 1)
    with pytest.raises(Killed):
        run(tmp_path, timetable=often, watch=Watch(evaluate=die))
    assert checkpoint.steps(tmp_path / CHECKPOINTS) == [last]
    jax.tree.map(np.testing.assert_array_equal, run(tmp_path).state, whole[1].state)


def test_calls_of_several_updates_measure_in_between(whole):
    """Three steps are rounded up to whole calls of two."""
    outcome = run(timetable=Timetable(6, log_every=2, save_every=2, steps_per_call=2))
    expected = run(task=CenterTask(steps=6, every=4))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)  # noqa: E731
    jax.tree.map(close, outcome.state.context, expected.state.context)
    assert np.any(outcome.state.context["center"] != whole[1].state.context["center"])


def test_a_detector_finds_it_in_the_model(whole):
    variables, _ = checkpoint.load_variables(whole[0] / MODEL)
    np.testing.assert_array_equal(
        variables["context"]["bank"], whole[1].state.context["bank"]
    )


def test_a_time_that_is_none():
    with pytest.raises(SettingError, match="context 'center' is 'now and then'; write"):
        run(task=CenterTask(steps=6, every="now and then"))
