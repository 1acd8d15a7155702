"""Defect-Gen: the hand-over, what it makes of masks, training, and the command line."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import examples, first_state, train

import anojax
from anojax.cli.__main__ import main
from anojax.config import load
from anojax.diffusion.plan import Sampler
from anojax.diffusion.samplers import sample
from anojax.diffusion.schedules import alphas_cumprod
from anojax.errors import AnojaxError, SettingError, UnsupportedInput
from anojax.methods.generative.defect_gen import (
    PREDICTION,
    SCHEDULE,
    DefectGen,
    DefectGenTask,
    generate,
)
from anojax.nn.diffusion_unet import receptive_field_px
from anojax.optim import Optimizer
from anojax.task import Reduce
from anojax.training.config import TrainConfig
from anojax.types import Exemplar, Inputs, Synthesis

SMALL = {
    "defects": 2,
    "large_steps": 3,
    "small_steps": 2,
    "large_width": 8,
    "large_multipliers": (1, 2),
    "large_attention": (),
    "small_width": 8,
    "small_multipliers": (1, 2),
    "blocks": 1,
    "norm_groups": 4,
}
SYNTH = DefectGen(**SMALL)
CONFIGS = Path(__file__).parents[2] / "configs" / "train"


# Two networks, one process.


def gaussian(mean=0.3, deviation=0.15):
    """What the best network predicts of independent normal pixels."""
    alpha_bar = jnp.asarray(alphas_cumprod(SCHEDULE), jnp.float32)

    def model(x, t):
        kept = alpha_bar[t][:, None, None, None]
        alpha, variance = jnp.sqrt(kept), deviation**2
        return mean + variance * alpha / (variance * kept + 1 - kept) * (
            x - alpha * mean
        )

    return model


@pytest.mark.parametrize("switch", [0, 50, 400, 1000])
def test_two_networks_that_agree_are_one(switch, key):
    """With equal networks, the hand-over shows in nothing, whatever the timestep."""
    synth = dataclasses.replace(SYNTH, switch=switch, large_steps=9, small_steps=7)
    noise = jax.random.normal(key, (8, 8, 4))
    found = generate(synth, gaussian(), gaussian(), noise)
    sampler, first = synth.plan()
    grid = sampler.timesteps
    assert grid[0] == 999 and grid[-1] == 0
    assert sum(t >= switch for t in grid) == first
    ddim = Sampler("ddim", len(grid), spacing="given", timesteps=grid)
    how = dict(schedule=SCHEDULE, prediction=PREDICTION)
    expected = sample(gaussian(), None, noise, sampler=ddim, **how)
    # The best prediction of these noises lies well within [-1, 1].
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_all_steps_are_those_of_the_paper():
    synth = DefectGen(switch=50, large_steps=1000, small_steps=1000)
    sampler, first = synth.plan()
    assert sampler.timesteps == tuple(range(999, -1, -1)) and first == 950


@pytest.mark.parametrize(("switch", "value"), [(0, 0.25), (1000, -0.5), (300, -0.5)])
def test_who_has_the_last_word(switch, value, key):
    """Networks that know only one image: the last of them makes it."""
    large, small = (lambda x, t, v=v: jnp.full_like(x, v) for v in (0.25, -0.5))
    synth = dataclasses.replace(SYNTH, switch=switch)
    found = generate(synth, large, small, jax.random.normal(key, (4, 4, 4)))
    np.testing.assert_allclose(found, value, atol=1e-6)


def test_one_network_alone_is_asked_at_the_ends(key):
    def never(x, t):
        raise AssertionError("this network has nothing to do")

    noise = jax.random.normal(key, (4, 4, 4))
    generate(dataclasses.replace(SYNTH, switch=0), gaussian(), never, noise)
    generate(dataclasses.replace(SYNTH, switch=1000), never, gaussian(), noise)


def test_predictions_are_clipped(key):
    far = lambda x, t: jnp.full_like(x, 3.0)  # noqa: E731
    found = generate(SYNTH, far, far, jax.random.normal(key, (4, 4, 4)))
    np.testing.assert_array_equal(found, 1.0)


# The networks.


def test_networks_are_those_of_the_paper():
    synth = DefectGen(defects=5)
    image = jax.ShapeDtypeStruct((32, 64, 3), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(synth.init, key, Inputs(image=image))
    sizes = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in params.items()}
    assert sizes == {"large": 125_385_481, "small": 98_223_753}
    configs = synth.configs(9)
    assert receptive_field_px(configs["small"]) == 157
    assert receptive_field_px(configs["large"]) is None
    for levels, reach in (((1, 2), 69), ((1, 2, 4, 8), 337)):
        other = dataclasses.replace(synth, small_multipliers=levels)
        assert receptive_field_px(other.configs(9)["small"]) == reach


def make(params, image, synth=SYNTH, seed=0, **more):
    run = anojax.batch(synth, devices=jax.devices()[:1])
    inputs = Inputs(image=image, **more)
    return jax.tree.map(np.asarray, run(params, seed, np.arange(len(image)), inputs))


def with_output(values, shape=(16, 16, 3)):
    """Parameters of networks that predict these values at every pixel."""
    inputs = Inputs(image=jax.ShapeDtypeStruct(shape, np.float32))
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(SYNTH.init, key, inputs)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    for network in params.values():
        network["conv_out"]["bias"] = np.array(values, np.float32)
    return params


IMAGES = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8)


def test_silent_networks_make_a_gray_image_without_defect():
    out = make(with_output([0] * 6), IMAGES)
    np.testing.assert_allclose(out.image, 0.5)
    assert not out.mask.any() and not out.anomalous.any() and not out.label.any()


def test_a_predicted_state_becomes_image_mask_and_label():
    out = make(with_output([-1, 0, 1, 0.1, 0.2, 0.9]), IMAGES)
    np.testing.assert_allclose(
        out.image, np.broadcast_to([0, 0.5, 1], out.image.shape), atol=1e-6
    )
    assert out.mask.all() and out.anomalous.all() and (out.label == 2).all()
    np.testing.assert_allclose(out.aux["shares"], [[0, 1]] * 3)


@pytest.fixture(scope="module")
def random_params():
    image = np.zeros((1, 16, 16, 3), np.uint8)
    state = first_state(DefectGenTask(SYNTH), examples(image))
    draw = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: x + 0.2 * draw.normal(size=x.shape).astype(np.float32), state.params
    )


def test_nothing_depends_on_the_input_but_its_size(random_params):
    out = make(random_params, IMAGES)
    object_ = np.zeros((3, 16, 16, 1), np.uint8)
    other = make(random_params, 255 - IMAGES, foreground=object_)
    np.testing.assert_array_equal(out.image, other.image)
    np.testing.assert_array_equal(out.mask, other.mask)
    assert (out.image[0] != out.image[1]).mean() > 0.2  # but on the key


def test_label_is_the_type_that_covers_most(random_params):
    out = make(random_params, IMAGES)
    shares = out.aux["shares"]
    np.testing.assert_allclose(shares.sum(-1), out.mask.mean((1, 2, 3)), atol=1e-6)
    assert 0 < out.mask.mean() < 1 and (shares > 0).any(0).all()
    np.testing.assert_array_equal(out.label, shares.argmax(-1) + 1)


def test_odd_sizes_are_cropped(random_params):
    images = np.zeros((2, 13, 15, 3), np.uint8)
    out = make(random_params, images)
    assert out.image.shape == images.shape and out.mask.shape == (2, 13, 15, 1)
    whole = make(random_params, IMAGES[:2])  # 16 x 16 of 14 x 16: other noise
    assert (whole.image[:, :13, :15] != out.image).any()


def test_regions_are_refused(random_params):
    region = np.ones((3, 16, 16, 1), np.uint8)
    with pytest.raises(UnsupportedInput, match="cannot keep a defect within a region"):
        make(random_params, IMAGES, region=region)


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(SettingError, match="norm_num_groups is 32"):
        DefectGen(large_width=40)


# Training.

TASKS = {
    "train": {
        "synth": {
            "large_multipliers": (1,),
            "small_multipliers": (1,),
            "head_channels": 8,
        },
        "side": 8,
        "steps": 10,
        "rate": 0.1,
    }
}
TASK = DefectGenTask(SYNTH, steps=10, optimizer=Optimizer("sgd", 0.1))


def defects(n=8, side=16):
    """Gray images with a bright square (type 1) or a dark one (type 2)."""
    image = np.full((n, side, side, 1), 120, np.uint8)
    image += (10 * np.sin(np.arange(side))).astype(np.int8).view(np.uint8)[:, None]
    mask, label = np.zeros_like(image), np.arange(n, dtype=np.int32) % 2 + 1
    for i in range(n):
        mask[i, 2 + i : 7 + i, 4:10] = 1
    value = np.where(label == 1, 250, 5)[:, None, None, None].astype(np.uint8)
    return np.where(mask > 0, value, image), mask, label


def batch_of(n=8):
    image, mask, label = defects(n)
    batch = examples(image)
    more = batch.inputs.replace(exemplar=Exemplar(image, mask), label=label)
    return batch.replace(inputs=more)


@pytest.fixture(scope="module")
def trained():
    return train(TASK, batch_of(), steps=TASK.steps)


def test_loss_falls(trained):
    _, log = trained
    for name in ("loss", "loss_large", "loss_small"):
        assert log[-1][name] < 0.8 * log[0][name], [row[name] for row in log]
    for row in log:
        both = row["loss_large"] + row["loss_small"]
        assert row["loss"] == pytest.approx(both, rel=1e-5)


def test_states():
    state = np.asarray(TASK.states(batch_of()))
    image, mask, label = defects()
    np.testing.assert_allclose(state[..., :1], image / 127.5 - 1, atol=1e-6)
    assert set(np.unique(state[..., 1:])) == {0, 1}
    expected = mask[..., 0] * label[:, None, None]
    np.testing.assert_array_equal(state[..., 1:].argmax(-1), expected)


def test_loss_of_silent_networks_is_the_size_of_the_states():
    shapes = jax.eval_shape(TASK.init, jax.random.key(0), batch_of())
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    key = jax.random.key(0)
    loss = jax.jit(lambda s: TASK.loss(s.params, s, key, batch_of(), Reduce()))
    found, _ = loss(state)
    expected = 2 * np.square(TASK.states(batch_of())).mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_separate_losses_of_image_and_mask(key):
    x0 = TASK.states(batch_of())
    found = jax.random.normal(key, x0.shape)
    errors = {w: dataclasses.replace(TASK, cross_entropy=w) for w in (0.0, 0.2)}
    gradient = jax.grad(errors[0.0].error)(found, x0)
    assert not gradient[..., 1:].any() and gradient[..., :1].any()
    assert jax.grad(TASK.error)(found, x0)[..., 1:].any()
    odds = np.exp(np.asarray(found[..., 1:], np.float64))
    likelihood = ((odds / odds.sum(-1, keepdims=True)) * np.asarray(x0[..., 1:])).sum(
        -1
    )
    squares = np.square(np.asarray(found - x0)[..., :1]).mean()
    expected = squares - 0.2 * np.log(likelihood).mean()
    assert float(errors[0.2].error(found, x0)) == pytest.approx(expected, rel=1e-5)


def test_it_learns_from_exemplars_only():
    image = batch_of().inputs.image
    with pytest.raises(AnojaxError, match="learns from real defects"):
        TASK.states(examples(image))
    one = np.zeros((8,), np.int32)
    precomputed = Synthesis(image, image, image, one, one > 0)
    with pytest.raises(AnojaxError, match="no precomputed anomalies"):
        TASK.states(batch_of().replace(precomputed=precomputed))


# The command line.


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0]).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two types of defects and two normal images."""
    base = tmp_path_factory.mktemp("data") / "plate"
    image, mask, label = defects()
    for i in range(8):
        kind = f"type{label[i]}"
        save(base / "test" / kind / f"{i}.png", image[i])
        save(base / "ground_truth" / kind / f"{i}_mask.png", 255 * mask[i])
    for i in range(2):
        save(base / "train/good" / f"{i}.png", np.full_like(image[i], 120 + i))
        save(base / "test/good" / f"{i}.png", np.full_like(image[i], 120 + i))
    return base


def command(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    settings = {k: v for k, v in SMALL.items() if k != "defects"}
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    values = {
        "method": "defect_gen",
        "data": {"exemplars": str(folder), "exemplars_per_defect": 3, "size": 16},
        "settings": settings,
        "task": {"optimizer": {"learning_rate": 0.01}},
        "length": "3 epochs",
        "batch_size": 6,
    }
    file = tmp_path_factory.mktemp("config") / "c.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_from_exemplars_to_new_images(config, folder, tmp_path, capsys):
    run, made = tmp_path / "run", tmp_path / "made"
    words = ("--output", run, "--devices", 1)
    assert command("train", config, *words) == 0, capsys.readouterr().err
    assert "6 exemplars of 2 types (type1, type2)" in capsys.readouterr().out
    resolved = yaml.safe_load((run / "config.yaml").read_text())["request"]
    assert resolved["settings"]["defects"] == 2  # counted, not requested
    listed = json.loads((run / "exemplars.json").read_text())["exemplars"]
    names = [Path(row["picture"]).name for row in listed]
    assert names == ["0.png", "2.png", "4.png", "1.png", "3.png", "5.png"]

    more = ("--size", 16, "--output", made, "--devices", 1, "--quiet", "--keep-empty")
    words = ("--method", "defect_gen", "--checkpoint", run, "--input", folder)
    assert command("synth", *words, *more) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (made / "manifest.jsonl").open()]
    assert len(rows) == 2
    assert rows[0]["settings"]["defects"] == 2
    assert command("verify", made) == 0, capsys.readouterr().err
    # Nothing that an image's own resolution or a region could mean here.
    for flags, says in (
        (("--native",), "which have no own resolution"),
        (("--region", folder / "train/good/0.png"), "within a region"),
    ):
        capsys.readouterr()
        assert command("synth", *words, *flags, *more[:3], tmp_path / "no") == 2
        assert says in capsys.readouterr().err
        assert not (tmp_path / "no").exists()
    untrained = ("synth", *words[:2], "--input", folder, "--output", tmp_path / "no")
    assert command(*untrained) == 2
    assert "train defect_gen --exemplars DIR" in capsys.readouterr().err
    # A run that goes on has the same exemplars.
    (folder / "test/type1/0.png").rename(folder / "test/type1/7.png")
    (folder / "ground_truth/type1/0_mask.png").rename(
        folder / "ground_truth/type1/7_mask.png"
    )
    again = ("length=4 epochs", "--output", run, "--devices", 1)
    assert command("train", config, *again) == 2
    assert "the data are not those that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["settings.defects=3"], "settings.defects is 3, but .* has 2 types"),
        (["data.exemplars=null"], "learns from real defects; add 'data.exemplars"),
        (["method=riad", "settings={}"], "does not learn from real defects"),
        (["data.input=somewhere"], "leave data.input out"),
        (["eval_every=2"], "exemplars are no test split"),
        (["data.exemplars_per_defect=9"], "has 4 of 'type1'; ask for at most 4"),
    ],
)
def test_what_does_not_fit_is_said(config, tmp_path, words, says):
    from anojax.builders import make_synthesizer
    from anojax.training.data import read_data

    requested = load(TrainConfig, config, words)
    with pytest.raises(AnojaxError, match=says):
        read_data(requested, make_synthesizer(requested.method, requested.settings))


def test_configurations():
    paper = load(TrainConfig, CONFIGS / "defect_gen.yaml")
    assert paper.data.shape == (256, 256) and paper.timetable(10).steps == 160_000
    assert not paper.settings and not paper.task
    optimizer = DefectGenTask(DefectGen()).optimizer
    assert (optimizer.rule, optimizer.weight_decay) == ("adamw", 0.002)
    small = load(TrainConfig, CONFIGS / "defect_gen_tile_cpu.yaml")
    assert small.data.gray and small.settings["large_width"] == 32
