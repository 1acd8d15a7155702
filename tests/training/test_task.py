"""Tasks: keys per example, the share of clean ones, the detector."""

import jax
import numpy as np
import pytest
from toy_task import Stripe, StripeTask, examples

from anojax import batch
from anojax import task as tasks
from anojax.detector import score_batch
from anojax.errors import SettingError, UnknownName
from anojax.types import Synthesis

TASK = StripeTask(Stripe())


def test_the_step_sees_the_images_of_synth():
    given = examples(8)
    seed = 5
    inside = jax.jit(lambda b: TASK.draw(jax.random.key(np.uint32(seed)), b))(given)
    written = batch(Stripe())({}, seed, given.ids, given.inputs)
    for name in ("image", "mask", "alpha"):
        a, b = getattr(inside, name), getattr(written, name)
        np.testing.assert_array_equal(a, b)
    assert np.any(inside.mask)


def test_clean_share_follows_the_examples():
    given = examples(200)
    key = jax.random.key(0)
    draw = jax.jit(lambda b: TASK.draw(key, b, clean_share=0.3))
    out = draw(given)
    clean = ~np.asarray(out.anomalous)
    assert 0.3 - 3 * 0.0325 < clean.mean() < 0.3 + 3 * 0.0325
    assert not np.any(np.asarray(out.mask)[clean])
    assert not np.any(np.asarray(out.label)[clean])
    np.testing.assert_array_equal(
        np.asarray(out.image)[clean], np.asarray(given.images)[clean]
    )
    assert np.all(np.asarray(out.mask).any(axis=(1, 2, 3)) == ~clean)
    order = np.random.default_rng(1).permutation(200)
    again = draw(jax.tree.map(lambda x: x[order], given))
    np.testing.assert_array_equal(again.anomalous, out.anomalous[order])


def test_precomputed_anomalies_are_taken_as_they_are():
    given = examples(4)
    mask = np.zeros((4, 8, 8, 1), np.uint8)
    mask[:, 2:4] = 255
    precomputed = Synthesis(
        255 - given.inputs.image, mask, mask, np.ones(4, np.int32), np.ones(4, bool)
    )
    out = TASK.draw(jax.random.key(0), given.replace(precomputed=precomputed))
    np.testing.assert_array_equal(out.mask, mask / 255)
    np.testing.assert_allclose(out.image, 1 - given.images, atol=1e-6)


@pytest.fixture(scope="module")
def state():
    return jax.jit(TASK.init)(jax.random.key(0), examples(1))


def test_variables_prefer_the_average(state):
    assert TASK.variables(state)["params"] is state.params
    average = jax.tree.map(lambda x: x + 1, state.params)
    assert TASK.variables(state.replace(ema=average))["params"] is average


def test_scores_of_a_batch(state):
    detector = TASK.detector()
    given = examples(6).inputs.image
    variables = detector.calibrate(TASK.variables(state), iter([given[:4], given[4:]]))
    maps, scores = score_batch(detector, variables, given)
    assert maps.shape == (6, 8, 8) and scores.shape == (6,)
    np.testing.assert_allclose(variables["density"]["level"], given.mean() / 255, 1e-5)
    one = detector.score(variables, given[2].astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(scores[2], one[1], atol=1e-6)


def test_settings_are_checked():
    with pytest.raises(SettingError, match="steps is 0; it must be at least 1"):
        StripeTask(Stripe(), steps=0)
    with pytest.raises(SettingError, match="clean_share is 2"):
        StripeTask(Stripe(), clean_share=2.0)
    assert hash(StripeTask(Stripe())) == hash(TASK) and StripeTask(Stripe()) == TASK


def test_methods_without_a_task():
    with pytest.raises(UnknownName, match="'memseg' has nothing to train"):
        tasks.get("memseg")
    with pytest.raises(UnknownName, match="no method 'drem'"):
        tasks.get("drem")
