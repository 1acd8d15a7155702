"""RealNet: what the diffusion model generates, how it enters the image, training."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import examples, first_state, gray_images, tiny, train

import anojax
from anojax.config import load
from anojax.core import with_settings
from anojax.diffusion.samplers import initial_noise, sample
from anojax.errors import (
    AnojaxError,
    MissingInput,
    SettingError,
    UnsupportedControl,
)
from anojax.methods.generative.realnet import (
    PREDICTION,
    SCHEDULE,
    Realnet,
    RealnetTask,
)
from anojax.training.config import TrainConfig
from anojax.types import Controls, Inputs, Synthesis

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
# The contract battery tests with these, too.
SMALL = {
    "width": 8,
    "multipliers": (1, 2),
    "attention_at": (),
    "blocks": 1,
    "head_channels": 8,
    "norm_groups": 4,
    "steps": 4,
    "model_size": 24,
}
SYNTH = Realnet(**SMALL)
GLOBAL = with_settings(SYNTH, scope="global")
IMAGE = np.random.default_rng(0).random((4, 32, 40, 3), np.float32)
EVERYWHERE = np.ones((4, 32, 40, 1), np.float32)


def random_params(synth=SYNTH, channels=3):
    """Parameters of which none is zero, unlike those of a fresh network."""
    task = RealnetTask(synth)
    batch = examples(np.zeros((1, 32, 40, channels), np.uint8))
    return first_state(task, batch).params


def run(synth=SYNTH, params=None, image=IMAGE, **more):
    """Images of four examples; further keywords are inputs."""
    params = random_params(synth) if params is None else params
    batch = anojax.batch(synth, devices=jax.devices()[:1])
    out = batch(params, 0, np.arange(len(image)), Inputs(image=image, **more))
    return jax.tree.map(np.asarray, out)


def generated(strength, synth=SYNTH, key=3):
    """What the model generates at a given strength, before it is blended in."""
    inputs = Inputs(image=jnp.asarray(IMAGE[0]))
    generate = jax.jit(lambda p, k, s: synth.generated(p, k, inputs, s))
    found = generate(random_params(synth), jax.random.key(key), jnp.float32(strength))
    return np.asarray(found)


# Synthesis.


def test_blend_is_that_of_the_paper():
    """A global image and a local one are generated alike, and only the latter fades."""
    out, whole = run(), run(GLOBAL, region=EVERYWHERE)
    assert whole.mask.all() and (whole.aux["opacity"] == 1).all()
    delta = out.aux["opacity"]
    assert (0.5 <= delta).all() and (delta <= 1).all() and np.ptp(delta) > 0.05
    assert (0.1 <= out.aux["strength"]).all() and (out.aux["strength"] <= 0.2).all()
    assert len(set(out.aux["strength"].tolist())) == 4
    inside = np.broadcast_to(out.mask == 1, IMAGE.shape)
    assert inside.any() and not inside.all()
    weight = delta[:, None, None, None]
    expected = weight * whole.image + (1 - weight) * IMAGE
    np.testing.assert_allclose(out.image[inside], expected[inside], atol=1e-5)
    np.testing.assert_array_equal(out.image[~inside], IMAGE[~inside])
    np.testing.assert_allclose(out.alpha, out.mask * weight, atol=1e-6)


def test_what_is_generated_does_not_see_the_image():
    out = run(GLOBAL, region=EVERYWHERE)
    other = run(GLOBAL, image=1 - IMAGE, region=EVERYWHERE)
    np.testing.assert_allclose(other.image, out.image, atol=1e-6)
    assert len({sample_image.tobytes() for sample_image in out.image}) == 4


def test_global_fills_what_is_allowed():
    region = np.zeros_like(EVERYWHERE)
    region[:, 5:20, :30] = 1
    out = run(GLOBAL, region=region)
    np.testing.assert_array_equal(out.mask, region)
    outside = np.broadcast_to(region == 0, IMAGE.shape)
    np.testing.assert_array_equal(out.image[outside], IMAGE[outside])
    assert (out.image != IMAGE)[~outside].mean() > 0.9


def test_global_has_no_area():
    given = Inputs(image=IMAGE[0], controls=Controls(area=np.float32(0.1)))
    with pytest.raises(UnsupportedControl, match="scope to local"):
        GLOBAL.apply({}, jax.random.key(0), given)


def test_without_strength_it_is_plain_ddpm():
    params, key = random_params(), jax.random.key(3)
    network, shape = SYNTH.network(3), SYNTH.generated_shape((32, 40))
    assert shape == (24, 30)
    x = sample(
        lambda x, t: network.apply({"params": params["network"]}, x, t),
        key,
        initial_noise(key, (*shape, 3)),
        schedule=SCHEDULE,
        prediction=PREDICTION,
        sampler=SYNTH.rule,
    )
    x = jax.image.resize(x, (32, 40, 3), "linear")
    np.testing.assert_allclose(generated(0.0), (x + 1) / 2, atol=1e-5)


@pytest.mark.parametrize("kind", ["ddpm", "ddim"])
def test_more_strength_goes_further(kind):
    synth = with_settings(SYNTH, sampler=kind)
    normal = generated(0.0, synth)
    away = [np.abs(generated(s, synth) - normal).mean() for s in (0.0, 0.02, 0.2, 0.8)]
    assert away[0] == 0 and away == sorted(away) and away[1] < 0.5 * away[3], away


def test_steps_of_the_paper():
    synth = Realnet()
    assert synth.rule.grid(SCHEDULE) == tuple(range(950, -1, -50))
    assert synth.rule.clip == (-1.0, 1.0) and synth.strength == (0.1, 0.2)
    assert synth.generated_shape((256, 256)) == (256, 256)


def test_network_of_the_paper():
    image = jax.ShapeDtypeStruct((256, 256, 3), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for classes, expected in ((None, 552_814_086), (15, 552_829_446)):
        init = Realnet(classes=classes).init
        shapes = jax.eval_shape(init, key, Inputs(image=image))
        assert sum(x.size for x in jax.tree.leaves(shapes)) == expected


def test_classes_generate_differently():
    synth = with_settings(GLOBAL, classes=3)
    network = random_params(synth)["network"]
    table = jnp.asarray(np.random.default_rng(1).normal(size=(3, 32)), jnp.float32)
    params = {"network": network | {"class_embedding": {"embedding": table}}}
    label = np.int32([0, 1, 2, 0])
    out = run(synth, params, label=label).image
    again = run(synth, params, label=np.int32([0, 2, 2, 0])).image
    far = np.abs(out - again).max((1, 2, 3))
    assert far[1] > 1e-3 and (far[[0, 2, 3]] == 0).all()
    with pytest.raises(MissingInput, match="label"):
        run(synth, params)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 600}, "another number of steps"),
        ({"norm_groups": 5}, "does not divide"),
        ({"strength": (0.2, 0.1)}, "must not exceed"),
        ({"strength": (-0.1, 0.2)}, "at least 0"),
        ({"guidance": -1.0}, "at least 0"),
        ({"guidance": 1.0, "classifier_width": 6}, "does not divide"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(SettingError, match=words):
        Realnet(**(SMALL | settings))


# Training.

TASKS = {
    "diffusion": {
        "synth": {"multipliers": (1,), "model_size": None},
        "side": 16,
        "steps": 25,
        "rate": 0.1,
        "clip_norm": 1.0,
    },
    "classifier": {
        "synth": {
            "multipliers": (1,),
            "model_size": None,
            "classes": 2,
            "guidance": 1.0,
            "classifier_width": 8,
            "scope": "global",
        },
        "side": 16,
        "steps": 30,
        "rate": 0.3,
        "clip_norm": 1.0,
    },
    "detector": {
        "synth": {"painter": "stored", "on_empty": "rescale", "exponents": (0, 2)},
        "steps": 15,
        "rate": 0.05,
        "backbone": "resnet18",
        "backbone_width": 8,
        "selected": (4, 8, 0, 0),
        "strides": (4, 4, 16, 16),
        "selection_batches": 2,
        "multipliers": (1, 2),
        "blocks": 1,
        "head_channels": 4,
        "norm_groups": 2,
        "by_max": 6,
        "by_mean": 6,
    },
}
TASK, BATCH = tiny("realnet").task, tiny("realnet").batch


@pytest.fixture(scope="module")
def trained():
    return train(TASK, BATCH, steps=TASK.steps)


def test_loss_is_a_sum(trained):
    _, log = trained
    for row in log:
        assert row["loss"] == pytest.approx(row["mse"] + row["vb"], rel=1e-5)


def test_synthesizer_gets_the_average(trained):
    state, _ = trained
    assert TASK.params(state) is state.ema
    plain = dataclasses.replace(TASK, ema_decay=0.0).params(state.replace(ema=None))
    assert plain is state.params


def test_it_learns_at_its_own_size():
    """The training images are brought to the size at which it generates."""
    task = dataclasses.replace(TASK, synth=with_settings(TASK.synth, model_size=16))
    large = examples(gray_images(2, side=48))
    state = first_state(task, large)
    reduce = anojax.task.Reduce()

    def loss(batch):
        run = jax.jit(lambda p, k: task.loss(p, state, k, batch, reduce)[0])
        return float(run(state.params, jax.random.key(0)))

    small = jax.image.resize(large.images, (2, 16, 16, 1), "linear")
    reduced = large.replace(inputs=Inputs(image=small))
    assert loss(large) == pytest.approx(loss(reduced), rel=1e-5)


def test_precomputed_anomalies_are_refused():
    image, one = BATCH.inputs.image, np.zeros((8,), np.int32)
    batch = BATCH.replace(precomputed=Synthesis(image, image, image, one, one > 0))
    with pytest.raises(AnojaxError, match="cannot learn from precomputed"):
        TASK.init(jax.random.key(0), batch)


def test_configurations():
    paper = load(TrainConfig, CONFIGS / "realnet.yaml")
    assert paper.data.size == (256, 256) and paper.batch_size == 60
    assert paper.task["accumulate"] == 3
    small = load(TrainConfig, CONFIGS / "realnet_tile_cpu.yaml")
    assert small.data.gray and Realnet(**small.settings).width == 32
