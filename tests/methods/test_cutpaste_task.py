"""CutPaste's network: what it is shown, how it learns, and what it detects."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import examples, tiny, train

import anojax
from anojax.detector import score_batch
from anojax.errors import SettingError
from anojax.methods.handcrafted.cutpaste import Cutpaste, CutpasteTask
from anojax.task import Reduce
from anojax.types import Synthesis

N = 8
TASK = tiny("cutpaste").task


def normal_images(n=N, side=32, channels=1):
    """A grating with noise."""
    draw = np.random.default_rng(0)
    waves = 120 + 60 * np.sin(np.arange(side) / 2)[None, None, :, None]
    noisy = waves + draw.normal(0, 8, (n, side, side, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def precomputed():
    """Images with a bright patch or a dark scar: nothing to compile."""
    images, mask = normal_images(), np.zeros((N, 32, 32, 1), np.uint8)
    images[::2, 8:20, 10:24], mask[::2, 8:20, 10:24] = 230, 255
    images[1::2, 4:28, 14:17], mask[1::2, 4:28, 14:17] = 10, 255
    labels = np.tile(np.int32([1, 2]), N // 2)
    return Synthesis(images, mask, mask, labels, np.ones(N, bool))


@pytest.fixture(scope="module")
def trained():
    return train(TASK, examples(normal_images(), precomputed=precomputed()), steps=30)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_sizes_of_the_paper():
    task = CutpasteTask(Cutpaste())
    batch = examples(np.zeros((2, 256, 256, 3), np.uint8))
    params = jax.eval_shape(task.init, jax.random.key(0), batch).params
    assert count(params["backbone"]) == 11_176_512
    # Two linear layers with biases, their normalizations, and three classes.
    head = (512 * 512 + 512 + 2 * 512) + (512 * 128 + 128 + 2 * 128) + (128 * 3 + 3)
    assert count(params["head"]) == head
    assert task.optimizer.rate(0, 100) == np.float32(0.03)


def test_the_network_sees_a_patch_and_a_scar_of_every_image():
    batch = examples(normal_images(4, 48, 3))
    key = jax.random.key(np.uint32(7))
    task = replace(TASK, augment=0.0)
    images, labels = jax.jit(task.examples)(key, batch)
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], 4))
    given = batch.inputs
    np.testing.assert_allclose(images[:4], given.image / np.float32(255), atol=1e-6)
    # The pixels are those of `anojax synth` for the same seed.
    for first, variant in ((4, "normal"), (8, "scar")):
        written = anojax.batch(Cutpaste(variant=variant))({}, 7, batch.ids, given)
        np.testing.assert_array_equal(images[first : first + 4], written.image)


def test_all_three_carry_the_jitter_of_the_whole_image():
    flat = np.full((4, 32, 32, 1), 128, np.uint8)
    task = replace(TASK, augment=0.5, synth=Cutpaste(jitter=0.0))
    images, _ = jax.jit(task.examples)(jax.random.key(0), examples(flat))
    levels = np.asarray(images).reshape(3, 4, -1)
    assert np.ptp(levels, axis=(0, 2)).max() < 1e-6 < np.ptp(levels[0, :, 0])


def test_binary_tells_the_variant_from_normal():
    task = replace(TASK, objective="binary", synth=Cutpaste(variant="union"))
    _, labels = jax.jit(task.examples)(jax.random.key(0), examples(normal_images()))
    np.testing.assert_array_equal(labels, np.repeat([0, 1], N))


def test_windows_are_cut_before_the_defect_is_put_in():
    task = replace(TASK, crop_frac=0.5, augment=0.0)
    images, labels = jax.jit(task.examples)(
        jax.random.key(0), examples(normal_images())
    )
    assert images.shape == (3 * N, 16, 16, 1) and labels.shape == (3 * N,)
    changed = np.any(images[:N] != images[N : 2 * N], axis=(1, 2, 3))
    assert changed.mean() > 0.5


def test_loss_of_a_guess_is_the_logarithm_of_the_classes():
    batch = examples(normal_images())
    shapes = jax.eval_shape(TASK.init, jax.random.key(0), batch)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    loss, (_, metrics) = jax.jit(TASK.loss, static_argnums=4)(
        zeros.params, zeros, jax.random.key(0), batch, Reduce()
    )
    np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy"], 1 / 3, rtol=1e-6)


@pytest.fixture(scope="module")
def calibrated(trained):
    detector = TASK.detector()
    normal = normal_images(24)
    return detector, detector.calibrate(
        TASK.variables(trained[0]), iter([normal[:16], normal[16:]])
    )


def test_detector(calibrated):
    detector, variables = calibrated
    spoilt = normal_images(4)
    spoilt[:, 8:24, 8:24] = 255 - spoilt[:, 8:24, 8:24]
    maps, scores = score_batch(
        detector, variables, np.concatenate([normal_images(4), spoilt])
    )
    assert maps.shape == (8, 32, 32) and scores.shape == (8,)
    assert np.all(np.isfinite(maps)) and np.all(np.asarray(maps) >= 0)
    assert min(scores[4:]) > max(scores[:4])
    embedded = detector._embeddings(variables, normal_images(4))
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)


def test_detector_on_windows(trained):
    detector = replace(TASK, crop_frac=0.5, stride_frac=0.25).detector()
    variables = detector.calibrate(TASK.variables(trained[0]), [normal_images(6)])
    assert detector._embeddings(variables, normal_images(6)).shape == (24, 32)
    image = jnp.asarray(normal_images(1)[0], jnp.float32) / 255
    found, score = jax.jit(detector.score)(variables, image)
    assert found.shape == (32, 32) and found.min() > 0
    assert score >= found.max()


def test_mistakes():
    with pytest.raises(SettingError, match="variant is 'scar', but objective 3way"):
        CutpasteTask(Cutpaste(variant="scar"))
    with pytest.raises(SettingError, match="precomputed anomalies are whole images"):
        replace(TASK, crop_frac=0.5).examples(
            jax.random.key(0), examples(normal_images(), precomputed=precomputed())
        )
