"""SPR: the probe, what an exact score would leave of it, training and the detector."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from tiny import examples, first_state, gray_images, tiny, train

import anojax
from anojax.config import load
from anojax.detector import score_batch
from anojax.errors import AnojaxError
from anojax.methods.distribution.spr import (
    Spr,
    SprDetector,
    SprTask,
    heat_map,
    noise_std,
    residual,
)
from anojax.task import Examples, Reduce
from anojax.training.config import TrainConfig
from anojax.types import Inputs, Synthesis

STD = 0.0316737  # at time 1e-3
CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def probe(image, synth=None, **more):
    run = anojax.batch(synth or Spr(), devices=jax.devices()[:1])
    inputs = Inputs(image=image, **more)
    return jax.tree.map(np.asarray, run({}, 0, np.arange(len(image)), inputs))


def test_standard_deviation_of_the_process():
    assert float(noise_std(1e-3, 25.0)) == pytest.approx(STD, rel=2e-6)
    assert float(noise_std(1.0, 25.0)) == pytest.approx(9.845215, rel=1e-6)
    # As a difference of powers, float32 would lose four digits here.
    exact = np.sqrt((25 ** np.float64(2e-5) - 1) / (2 * np.log(25)))
    assert float(noise_std(1e-5, 25.0)) == pytest.approx(exact, rel=1e-6)


def test_perturbed_images_lie_on_a_thin_shell():
    image = np.full((2, 192, 192, 3), 0.5, np.float32)
    moved = 2 * (probe(image).image - image)  # in [-1, 1], where nothing was clipped
    length = np.sqrt((moved**2).sum((1, 2, 3)))
    assert STD * np.sqrt(192 * 192 * 3) == pytest.approx(10.53, rel=2e-3)
    np.testing.assert_allclose(length, 10.53, rtol=0.01)
    assert (moved[0] != moved[1]).mean() > 0.99


def test_the_mask_is_where_the_probe_may_go():
    image = np.full((2, 16, 24, 1), 0.5, np.float32)
    foreground, region = np.zeros_like(image), np.zeros_like(image)
    foreground[:, 4:], region[:, :, :12] = 1, 1
    out = probe(image, foreground=foreground, region=region)
    np.testing.assert_array_equal(out.mask, foreground * region)
    np.testing.assert_array_equal(out.image != image, out.mask == 1)
    assert np.all(probe(image).mask == 1)


# What is left of the perturbation under scores that are known in closed form.

V = STD**2


def left_over(score, x, draws):
    """e for many draws of the noise, where the network is ``std * score``."""
    noise = jax.random.normal(jax.random.key(1), (draws, *x.shape))
    sample_image = jnp.broadcast_to(x, noise.shape)
    found = residual(lambda z: STD * score(z), sample_image, noise, STD)
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("distance", [0.0, 0.02, 0.3])
def test_score_of_a_normal_law(distance):
    mean = jnp.zeros(3)
    score = lambda z: (mean[None] - z) / (4e-4 + V)  # noqa: E731
    e = left_over(score, mean + distance, 100_000)
    expected = (4e-4**2 * V + V**2 * distance**2) / (4e-4 + V) ** 2
    np.testing.assert_allclose((e**2).mean(0), expected, rtol=0.02)


def test_score_of_a_single_image():
    """All normal images are one: any other is taken to it, whatever the noise."""
    mean, x = jnp.linspace(-1, 1, 12), jnp.zeros(12)
    e = left_over(lambda z: (mean[None] - z) / V, x, 5)
    np.testing.assert_allclose(e, np.broadcast_to(mean - x, e.shape), atol=1e-5)


def test_score_of_a_subspace():
    """The error grows with the distance from where normal images lie."""
    d, inside, draw = 40, 12, np.random.default_rng(0)
    basis, _ = np.linalg.qr(draw.normal(size=(d, d)))
    across = jnp.asarray(basis[:, inside:] @ basis[:, inside:].T, jnp.float32)
    direction, seen = basis[:, -1].astype(np.float32), []
    for distance in (0.0, 0.1, 0.5):
        x = jnp.asarray(basis[:, 0].astype(np.float32) + distance * direction)
        e = left_over(lambda z: -z @ across / V, x, 5000)
        seen.append((e**2).sum(-1).mean())
        assert seen[-1] == pytest.approx(V * inside + distance**2, rel=0.03)
    assert seen == sorted(seen)


def test_residual_is_restored_minus_given(key):
    x, noise = jax.random.normal(key, (2, 8, 8, 3))
    network = lambda z: jnp.sin(3 * z)  # noqa: E731
    z = x + STD * noise
    score = network(z) / STD
    restored = z + STD**2 * score
    e = residual(network, x, noise, STD)
    np.testing.assert_allclose(e, restored - x, atol=1e-6)
    np.testing.assert_allclose(e, STD * noise + STD**2 * score, atol=1e-6)


# The detector.

DETECTOR = SprDetector(Spr(), width=2)


def silent(channels=3):
    """Variables of a network that predicts nothing."""
    return SprTask(Spr(), width=2).variables(silent_state(channels))


def silent_state(channels=3):
    """A state whose network predicts nothing."""
    task = SprTask(Spr(), width=2)
    image = jax.ShapeDtypeStruct((1, 32, 32, channels), np.uint8)
    batch = Examples(Inputs(image=image), jax.ShapeDtypeStruct((1,), np.uint32))
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    zeros = lambda x: np.zeros(x.shape, x.dtype)  # noqa: E731
    return jax.tree.map(zeros, state)


def test_a_silent_network_leaves_the_noise(key):
    image = jax.random.uniform(key, (64, 64, 3))
    found = jax.jit(DETECTOR.errors)(silent(), image)
    noise = np.asarray(DETECTOR.noise(image.shape))
    np.testing.assert_allclose(found, V * (noise**2).mean((0, -1)), rtol=1e-4)
    assert float(found.mean()) == pytest.approx(1.0032e-3, rel=0.02)


def test_heat_map_of_a_constant():
    found = heat_map(jnp.full((192, 192), 0.5), side_px=256, radius_px=15)
    assert found.shape == (256, 256)
    np.testing.assert_allclose(found[15:-15, 15:-15], 0.5, rtol=1e-5)
    for corner in (found[0, 0], found[-1, 0], found[-1, -1]):
        assert float(corner) == pytest.approx(0.5 * 256 / 961, rel=1e-5)


def test_heat_map_is_a_mean_at_a_fixed_scale(key):
    errors = jax.random.uniform(key, (64, 96))
    found = heat_map(errors, side_px=64, radius_px=3)
    expected = uniform_filter(np.asarray(errors), 7, mode="constant")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    large = heat_map(errors, side_px=128, radius_px=3)
    assert large.shape == (128, 192)


def test_a_score_is_no_matter_of_chance(key):
    task = SprTask(Spr(), width=2)
    state = first_state(task, examples(np.zeros((1, 32, 48, 3), np.uint8)))
    images = np.asarray(jax.random.uniform(key, (2, 32, 48, 3)))
    detector = dataclasses.replace(DETECTOR, side_px=32, smoothing_radius_px=1)
    maps, scores = score_batch(detector, task.variables(state), images)
    again, _ = score_batch(detector, task.variables(state), images[::-1])
    np.testing.assert_allclose(maps, again[::-1], rtol=1e-5)
    np.testing.assert_allclose(scores, maps.max((1, 2)), rtol=1e-6)
    assert maps.shape == images.shape[:3]  # twice the size of the network's input
    other, _ = score_batch(
        dataclasses.replace(detector, seed=1), task.variables(state), images
    )
    assert np.abs(maps - other).max() > 0.1 * maps.max()
    one, two, three = np.asarray(detector.noise((32, 48, 3)))
    assert (one != two).all() and (two != three).all() and (one != three).all()


# Training.

TASKS = {"train": {"steps": 12, "width": 4, "rate": 3e-5, "times": (1e-3, 0.3)}}
TASK = tiny("spr").task


@pytest.fixture(scope="module")
def trained():
    return train(TASK, examples(gray_images()), steps=TASK.steps)


def test_loss_is_a_sum_over_pixels(trained):
    _, log = trained
    for row in log:  # a sum over the pixels, a mean over the examples
        assert row["loss"] == pytest.approx(32 * 32 * row["mean_square"], rel=1e-4)


def test_frequencies_stay_as_they_are(trained):
    batch = examples(gray_images())
    draw = jax.jit(lambda key: TASK.init(key, batch).statistics["frequencies"])
    drawn = np.asarray(draw(jax.random.key(0)))
    assert drawn.shape == (8,) and 10 < drawn.std() < 60
    # Gradients and decay reach the parameters alone, and the loss hands them on.
    assert "frequencies" not in str(jax.tree.structure(trained[0].params))
    assert "frequencies" not in str(jax.tree.structure(trained[0].opt_state))
    loss = jax.jit(lambda p, s: TASK.loss(p, s, jax.random.key(0), batch, Reduce()))
    state = trained[0].replace(statistics={"frequencies": drawn})
    _, (after, _) = loss(state.params, state)
    np.testing.assert_array_equal(after["frequencies"], drawn)


def test_average_follows_closely_at_first(trained):
    state, _ = trained
    far = lambda tree: np.abs(tree["head"]["kernel"]).mean()  # noqa: E731
    moved = jax.tree.map(lambda a, b: a - b, state.ema, state.params)
    # A decay of 0.9999 would still be at the random beginning.
    begun = first_state(TASK, examples(gray_images()))
    start = jax.tree.map(lambda a, b: a - b, begun.ema, state.params)
    assert far(moved) < 0.3 * far(start)


def test_loss_of_a_silent_network_is_that_of_the_noise():
    task = SprTask(Spr(), width=2)
    images = np.random.default_rng(0).integers(0, 255, (3, 192, 192, 3), np.uint8)
    batch = examples(images)
    loss, _ = jax.jit(
        lambda state, key: task.loss(state.params, state, key, batch, Reduce())
    )(silent_state(), jax.random.key(0))
    assert float(loss) == pytest.approx(110_592, rel=0.01)
    time, noise = task.perturbation(jax.random.key(0), batch)
    assert float(loss) == pytest.approx(float((noise**2).sum()) / 3, rel=1e-4)
    assert len(set(np.asarray(time).tolist())) == 3


def test_schedule_of_the_paper():
    optimizer = SprTask(Spr()).optimizer
    rates = [float(optimizer.rate(step, 3000)) for step in (999, 1000, 1999, 2000)]
    assert rates == pytest.approx([1e-4, 1e-5, 1e-5, 1e-6])


def test_precomputed_anomalies_are_refused():
    batch = examples(gray_images())
    one = np.zeros((8,), np.int32)
    image = batch.inputs.image
    batch = batch.replace(precomputed=Synthesis(image, image, image, one, one > 0))
    with pytest.raises(AnojaxError, match="cannot learn from precomputed"):
        TASK.init(jax.random.key(0), batch)


def test_configurations():
    paper = load(TrainConfig, CONFIGS / "spr.yaml")
    assert (paper.data.shape, paper.batch_size) == ((192, 192), 16)
    assert paper.timetable(14 * 16).steps == 3000 * 14
    small = load(TrainConfig, CONFIGS / "spr_tile_cpu.yaml")
    assert small.task["width"] == 16 and small.data.gray
