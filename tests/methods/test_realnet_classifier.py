"""RealNet's classifier: how it guides the steps, and how it is trained."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import examples, first_state, train

import anojax
from anojax import task as tasks
from anojax.config import load
from anojax.core import with_settings
from anojax.diffusion.plan import rows
from anojax.diffusion.samplers import initial_noise, step_noise
from anojax.errors import SettingError
from anojax.methods.generative.realnet import SCHEDULE, Realnet, RealnetTask
from anojax.methods.generative.realnet.classifier import RealnetClassifierTask
from anojax.optim import Optimizer
from anojax.task import Component
from anojax.training.config import TrainConfig
from anojax.types import Inputs

SYNTH = Realnet(
    width=8,
    multipliers=(1,),
    attention_at=(),
    blocks=1,
    head_channels=8,
    norm_groups=4,
    steps=4,
    classes=2,
    guidance=1.0,
    classifier_width=8,
    scope="global",
)
TASK = RealnetClassifierTask(
    SYNTH, steps=30, optimizer=Optimizer("sgd", 0.3, clip_norm=1.0)
)


def bright_and_dark(n=8, side=16):
    """Images of two categories, which differ in how bright they are."""
    draw = np.random.default_rng(0)
    label = np.arange(n, dtype=np.int32) % 2
    level = np.where(label, 200, 40)[:, None, None, None]
    images = (level + draw.integers(-20, 20, (n, side, side, 1))).astype(np.uint8)
    batch = examples(images)
    return batch.replace(inputs=batch.inputs.replace(label=label))


BATCH = bright_and_dark()


@pytest.fixture(scope="module")
def trained():
    return train(TASK, BATCH, steps=TASK.steps)


@pytest.fixture(scope="module")
def params(trained):
    return TASK.params(trained[0])


def generated(params, strength, label, synth=SYNTH, key=3, image=None):
    image = np.zeros((16, 16, 1), np.float32) if image is None else image
    inputs = Inputs(image=jnp.asarray(image), label=jnp.int32(label))
    generate = jax.jit(lambda p, k, s: synth.generated(p, k, inputs, s))
    return np.asarray(generate(params, jax.random.key(key), jnp.float32(strength)))


# Guided steps.


def test_classifier_of_the_paper():
    image = jax.ShapeDtypeStruct((256, 256, 3), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    init = Realnet(classes=15, guidance=1.0).init
    shapes = jax.eval_shape(init, key, Inputs(image=image))
    sizes = {
        name: sum(x.size for x in jax.tree.leaves(shapes[name])) for name in shapes
    }
    assert sizes == {"network": 552_829_446, "classifier": 53_591_055}


def linear(synth, slope):
    """The synthesizer with a classifier whose gradient is known: the mean of the
    image times `slope` is the logit of class 1."""

    class Known:
        def apply(self, params, x, t):
            del params, t
            logit = slope * x.mean((1, 2, 3))
            return jnp.stack([jnp.zeros_like(logit), logit], -1)

    @dataclasses.dataclass(frozen=True)
    class Stubbed(Realnet):
        name = "realnet"

        def classifier(self, channels, shape, **how):
            return Known()

    return Stubbed(
        **{f.name: getattr(synth, f.name) for f in dataclasses.fields(synth)}
    )


def test_the_step_is_that_of_the_paper(params):
    """One step of two, written out: the mean moves by Sigma times the gradient, and
    only the noise is stronger by the root of 1 + s."""
    slope, s, weight = 5.0, 0.5, 300.0  # heavy, so that no part of it is lost
    synth = linear(with_settings(SYNTH, steps=2, guidance=weight), slope)
    key = jax.random.key(3)
    zeros = jax.tree.map(jnp.zeros_like, params)  # predicts no noise, and nu = 0
    found = generated(zeros, s, 1, synth)

    x = np.asarray(initial_noise(key, (16, 16, 1)), np.float64)
    plan = rows(SCHEDULE, synth.rule)
    for i in range(2):
        alpha = float(plan["alpha"][i])
        x0 = np.clip(x / alpha, -1, 1)
        log = (float(plan["log_small"][i]) + float(plan["log_large"][i])) / 2
        terms = {name: float(v[i]) for name, v in plan["terms"].items()}
        logit = slope * x.mean()
        gradient = slope / x.size / (1 + np.exp(logit))  # of log sigmoid(logit)
        x_new = terms["x0"] * x0 + terms["x"] * x + np.exp(log) * weight * gradient
        noise = np.asarray(step_noise(key[None], i, (16, 16, 1)))[0]
        x = x_new + (i == 0) * np.sqrt((1 + s) * np.exp(log)) * noise
    np.testing.assert_allclose(found, (x + 1) / 2, atol=2e-4)


def test_weight_zero_is_no_classifier(params):
    without = generated(params, 0.1, 1, with_settings(SYNTH, guidance=None))
    zero = generated(params, 0.1, 1, with_settings(SYNTH, guidance=0.0))
    np.testing.assert_allclose(zero, without, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_it_draws_to_the_category(params, sampler):
    synth = with_settings(SYNTH, guidance=40.0, sampler=sampler)
    bright, dark = (generated(params, 0.0, label, synth).mean() for label in (1, 0))
    plain = with_settings(synth, guidance=None)
    same = [generated(params, 0.0, label, plain).mean() for label in (1, 0)]
    assert bright - dark > abs(same[0] - same[1]) + 0.05, (bright, dark, same)


def test_labels_of_a_batch(params):
    synth = with_settings(SYNTH, guidance=40.0)
    run = anojax.batch(synth, devices=jax.devices()[:1])
    image = np.zeros((2, 16, 16, 1), np.float32)
    label = np.int32([1, 0])
    out = run(params, 0, [5, 5], Inputs(image=image, label=label))
    means = np.asarray(out.image).mean((1, 2, 3))
    assert means[0] > means[1] + 0.02, means


@pytest.mark.parametrize("classes", [None, 1])
def test_guidance_needs_categories(classes):
    synth = with_settings(SYNTH, classes=classes)
    says = "guides between at least two categories"
    image = np.zeros((16, 16, 1), np.float32)
    with pytest.raises(SettingError, match=says):
        synth.init(jax.random.key(0), Inputs(image=image))
    with pytest.raises(SettingError, match=says):
        given = Inputs(image=image, label=jnp.int32(0))
        synth.generated({}, jax.random.key(0), given, jnp.float32(0))
    for task in (RealnetTask(synth), RealnetClassifierTask(synth)):
        with pytest.raises(SettingError, match=says):
            task.init(jax.random.key(0), BATCH)


# Training.


def test_it_is_a_stage_of_realnet():
    stages = tasks.stages("realnet")
    assert tasks.get("realnet") is RealnetTask
    assert next(iter(stages)) == "diffusion"
    assert stages["classifier"] is RealnetClassifierTask
    assert TASK.name == "realnet"
    assert TASK.components() == {"network": Component("run", "diffusion")}


def test_it_learns_the_categories(trained):
    _, log = trained
    first, last = log[0], log[-1]
    assert last["loss"] < 0.6 * first["loss"], (first, last)
    assert last["accuracy"] >= 0.75


def test_network_stays_and_comes_along(trained):
    state, _ = trained
    before = first_state(TASK, BATCH).frozen
    jax.tree.map(np.testing.assert_array_equal, state.frozen, before)
    params = TASK.params(state)
    assert params["classifier"] is state.params["classifier"]
    assert params["network"] is state.frozen["network"]["network"]
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(SYNTH.init, key, Inputs(image=BATCH.images[0]))
    assert jax.tree.structure(shapes) == jax.tree.structure(params)
    learned = RealnetTask(SYNTH).params(first_state(RealnetTask(SYNTH), BATCH))
    # What that stage hands on fits where this one takes it.
    assert jax.tree.structure(learned) == jax.tree.structure(before["network"])


def test_without_guidance_there_is_nothing_to_train():
    task = RealnetClassifierTask(with_settings(SYNTH, guidance=None))
    with pytest.raises(SettingError, match=r"settings.guidance is none; give its"):
        task.init(jax.random.key(0), BATCH)


def test_configuration():
    file = Path(__file__).parents[2] / "configs/train/realnet_classifier.yaml"
    paper = load(TrainConfig, file)
    assert (paper.method, paper.stage) == ("realnet", "classifier")
    assert paper.batch_size == 20 and paper.data.size == (256, 256)
    task = RealnetClassifierTask(Realnet(**paper.settings))
    optimizer = task.optimizer
    assert (optimizer.rule, optimizer.learning_rate) == ("adam", 1e-4)
    assert optimizer.clip_norm == 1.0 and task.synth.guidance == 1.0
    assert task.synth.classifier_width == 128
