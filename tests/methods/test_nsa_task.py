"""NSA's network: what it is shown, how it learns, and what it detects."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import examples, tiny, train

import anojax
from anojax.detector import score_batch
from anojax.methods.handcrafted.nsa import Nsa, NsaDetector, NsaTask
from anojax.task import Reduce
from anojax.types import Bank, Inputs, Synthesis

N, SIDE = 8, 32
TASK = tiny("nsa").task


def normal_images(n=N, channels=1, seed=0):
    """Noise with a gradient."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(60, 180, SIDE)[None, None, :, None]
    noisy = ramp + draw.normal(0, 10, (n, SIDE, SIDE, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def precomputed():
    """A bright square somewhere in every image: nothing to compile."""
    images, alpha = normal_images(), np.zeros((N, SIDE, SIDE, 1), np.uint8)
    for i in range(N):
        place = (i, slice(2 * i, 2 * i + 12), slice(16 - 2 * i, 30 - 2 * i))
        images[place], alpha[place] = 250, 200
    return Synthesis(images, alpha, alpha, np.ones(N, np.int32), np.ones(N, bool))


@pytest.fixture(scope="module")
def trained():
    return train(TASK, examples(normal_images(), precomputed=precomputed()), steps=60)


def test_sizes_of_the_paper():
    task = NsaTask(Nsa())
    batch = examples(np.zeros((2, 256, 256, 3), np.uint8))
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 11_497_712
    assert task.optimizer.rate(0, 100) == np.float32(1e-3)
    assert task.optimizer.rate(100, 100) == 0


def test_the_step_learns_the_soft_label_of_the_synthesis():
    bank = Bank(normal_images(4, seed=1))
    task = replace(TASK, flip_share=0.0, shift_frac=0.0)
    batch = examples(normal_images(), bank=bank)
    key = jax.random.key(np.uint32(3))
    out = anojax.batch(task.synth, bank=bank)({}, 3, batch.ids, batch.inputs)
    assert 0 < np.mean((out.alpha > 0) & (out.alpha < 0.9))
    shapes = jax.eval_shape(task.init, jax.random.key(0), batch)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    # Silent but for the last layer, which sees nothing: every logit is 0.
    loss, (_, metrics) = jax.jit(task.loss, static_argnums=4)(
        zeros.params, zeros, key, batch, Reduce()
    )
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(metrics["labeled"], np.mean(out.mask), rtol=1e-5)


def test_images_and_masks_move_together_and_stay_exact():
    ids = np.arange(16 * SIDE, dtype=np.uint8).reshape(16, SIDE, 1)
    inputs = Inputs(image=ids, foreground=(ids % 3 == 0).astype(np.uint8))
    task = replace(TASK, shift_frac=1 / 8)
    keys = jax.random.split(jax.random.key(0), 64)
    moved = jax.jit(jax.vmap(lambda k: task._moved(k, inputs)))(keys)
    assert moved.image.dtype == np.uint8 and moved.image.shape == (64, 16, SIDE, 1)
    np.testing.assert_array_equal(moved.foreground, np.asarray(moved.image) % 3 == 0)
    rows = np.asarray(moved.image[:, 8, 16, 0]).astype(int) // SIDE
    assert (
        20
        < np.sum(np.asarray(moved.image[:, 2, 9]) > np.asarray(moved.image[:, 13, 9]))
        < 44
    )
    assert len({*rows}) > 5
    still = replace(TASK, shift_frac=0.0, flip_share=0.0)._moved(keys[0], inputs)
    np.testing.assert_array_equal(still.image, ids)


@pytest.fixture(scope="module")
def found(trained):
    images = np.concatenate([normal_images(), precomputed().image])
    return images, score_batch(TASK.detector(), TASK.variables(trained[0]), images)


def test_detector(found):
    maps, scores = found[1]
    assert maps.shape == (2 * N, SIDE, SIDE) and scores.shape == (2 * N,)
    assert 0 < np.min(maps) and np.max(maps) < 1
    np.testing.assert_allclose(scores, np.mean(maps, axis=(1, 2)), rtol=1e-5)
    inside = precomputed().mask[..., 0] > 0
    spoilt = np.asarray(maps[N:])
    assert spoilt[inside].mean() > 1.3 * spoilt[~inside].mean()


def test_intensities_are_cut_at_zero(trained, found):
    images, (maps, _) = found
    task = replace(TASK, synth=Nsa(label="intensity"))
    assert task.detector() == NsaDetector(task.network(), True)
    cut, scores = score_batch(task.detector(), task.variables(trained[0]), images)
    logits = np.log(maps / (1 - maps))
    np.testing.assert_allclose(cut, np.maximum(logits, 0), atol=1e-4)
    np.testing.assert_allclose(scores, np.mean(cut, axis=(1, 2)), rtol=1e-5)
