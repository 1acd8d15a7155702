"""DRAEM: the augmented texture, the blend, the distribution of the public code, and training."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp
from tiny import examples, first_state, gray_images, tiny, train

import anojax
from anojax.detector import score_batch
from anojax.methods.handcrafted.draem import (
    Draem,
    DraemDetector,
    DraemNetwork,
    DraemTask,
    turned,
)
from anojax.task import Examples
from anojax.types import Controls, Inputs

N = 48


def scene(shape=(64, 80, 3)):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 0.5 + 0.4 * np.sin(x / 3)[..., None] * np.cos(y / 5)[..., None]
    source = np.clip(waves + rng.normal(0, 0.1, shape), 0, 1).astype(np.float32)
    return rng.random((N, *shape), dtype=np.float32), np.tile(source, (N, 1, 1, 1))


def draw(image, source, synth=None, **controls):
    synth = synth or anojax.get("draem")()
    inputs = Inputs(image=image, source=source, controls=Controls(**controls))
    run = anojax.batch(synth, devices=jax.devices()[:1])
    return jax.tree.map(np.asarray, run({}, 0, np.arange(len(image)), inputs))


@pytest.fixture(scope="module")
def plain():
    image, source = scene()
    return image, source, draw(image, source)


@pytest.fixture(scope="module")
def raw(plain):
    image, source, _ = plain
    return draw(image, source, anojax.get("draem")(augment=False))


def test_outside_the_mask_every_bit_stays(plain):
    image, _, out = plain
    outside = np.broadcast_to(out.mask == 0, image.shape)
    np.testing.assert_array_equal(out.image[outside], image[outside])
    assert out.mask.any()


def test_without_augmentation_the_texture_itself_is_blended(plain, raw):
    image, source, _ = plain
    weight = raw.aux["texture_weight"][:, None, None, None]
    expected = np.where(raw.mask == 1, (1 - weight) * image + weight * source, image)
    np.testing.assert_allclose(raw.image, expected, atol=1e-6)
    assert 0.2 <= weight.min() and weight.max() <= 1


def test_augmentation_changes_the_texture_and_nothing_else(plain, raw):
    _, _, out = plain
    np.testing.assert_array_equal(out.mask, raw.mask)
    np.testing.assert_array_equal(out.alpha, raw.alpha)
    changed = np.abs(out.image - raw.image).max((1, 2, 3)) > 0.02
    assert changed.mean() > 0.8


def test_the_whole_texture_is_8_bit_at_full_severity(plain):
    image, source, out = plain
    full = draw(image, source, severity=np.float32(1.0))
    np.testing.assert_array_equal(full.mask, out.mask)
    levels = full.image[np.broadcast_to(full.mask == 1, image.shape)] * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)


def test_the_papers_weights_are_a_setting(plain):
    image, source, _ = plain
    paper = anojax.get("draem")(texture_weight=(0.1, 0.1), augment=False)
    out = draw(image, source, paper)
    np.testing.assert_allclose(out.aux["texture_weight"], 0.1, atol=1e-6)


def test_gray_images_of_odd_size():
    image, source = scene((33, 21, 1))
    out = draw(image, source)
    assert out.image.shape == image.shape
    assert out.anomalous.mean() > 0.5


@pytest.mark.slow
@pytest.mark.skipif("ANOJAX_REFERENCE" not in os.environ, reason="no reference figures")
def test_same_distribution_as_the_public_code():
    folder = Path(os.environ["ANOJAX_REFERENCE"])
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "draem.npz") as r:
        ids = np.arange(480)
        image = inputs["images"][ids % 96]
        source = inputs["textures"][np.random.default_rng(0).integers(0, 8, 480)]
        out = draw(image, source)
        ref = {k: r[k] for k in ("area", "delta_abs", "delta_signed")}
    full = out.anomalous
    delta = (out.image - image / np.float32(255))[full] * out.mask[full]
    size = out.mask[full].sum((1, 2, 3)) * 3
    ours = {
        "area": out.mask.mean((1, 2, 3)),
        "delta_abs": np.abs(delta).sum((1, 2, 3)) / size,
        "delta_signed": delta.sum((1, 2, 3)) / size,
    }
    for name, values in ours.items():
        reference = ref[name][~np.isnan(ref[name])]
        # 1 % of pairs of such samples from one distribution exceed 0.085.
        assert ks_2samp(values, reference).statistic < 0.085, name


TASKS = {
    "train": {
        "synth": {"augment": False},
        "steps": 10,
        "reconstructive_width": 4,
        "discriminative_width": 4,
        "rate": 0.01,
    }
}
TASK, BATCH, BANK = (getattr(tiny("draem"), k) for k in ("task", "batch", "bank"))


def test_parameters_of_the_paper():
    task = DraemTask(Draem())
    image = jax.ShapeDtypeStruct((2, 256, 256, 3), np.uint8)
    batch = Examples(Inputs(image=image), jax.ShapeDtypeStruct((2,), np.uint32))
    params = jax.eval_shape(task.init, jax.random.key(0), batch).params
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in params.items()}
    assert count == {"reconstructive": 69_048_579, "discriminative": 28_374_146}
    rates = [float(task.optimizer.rate(step, 700)) for step in (559, 560, 629, 630)]
    np.testing.assert_allclose(rates, [1e-4, 2e-5, 2e-5, 4e-6], rtol=1e-5)


@pytest.fixture(scope="module")
def trained():
    return train(TASK, BATCH, steps=TASK.steps, bank=BANK)


def test_loss_is_a_sum(trained):
    _, (row, *_) = trained
    total = sum(row[name] for name in ("l2", "ssim", "focal"))
    assert row["loss"] == pytest.approx(total, rel=1e-5)
    assert 0 < row["anomalous"] < 1


def test_detector_gives_probabilities(trained):
    state, _ = trained
    detector, variables = TASK.detector(), TASK.variables(state)
    maps, scores = score_batch(detector, variables, gray_images(3))
    assert maps.shape == (3, 32, 32) and scores.shape == (3,)
    assert maps.min() >= 0 and maps.max() <= 1
    assert (scores > 0).all() and (scores <= np.max(maps, axis=(1, 2))).all()


class Echo(DraemNetwork):
    """Finds what is white."""

    def __call__(self, x, train):
        sure = 100 * (x - 0.5)
        return x, jnp.concatenate([-sure, sure], axis=-1)


def test_score_is_the_peak_of_the_smoothed_map():
    images = np.zeros((2, 64, 64, 1), np.float32)
    images[0, 30, 20] = images[1] = 1
    maps, scores = score_batch(
        DraemDetector(Echo()), {"params": {}, "statistics": {}}, images
    )
    np.testing.assert_allclose(maps, images[..., 0], atol=1e-6)
    np.testing.assert_allclose(scores, [1 / 441, 1], rtol=1e-5)


def test_segmentation_trains_the_reconstruction():
    """No gradient is stopped between the networks: logits move with the first one."""
    batch = examples(gray_images(1))
    state, network = first_state(TASK, batch), TASK.detector().network
    images, first = batch.images, state.params["reconstructive"]

    def logits(head):
        params = state.params | {"reconstructive": first | {"head": head}}
        variables = {"params": params, "batch_stats": state.statistics}
        return network.apply(variables, images, False)[1]

    head = jax.tree.map(jnp.asarray, first["head"])
    slope = jax.jit(lambda x: jax.jvp(logits, (x,), (x,))[1])(head)
    assert np.abs(slope).max() > 1e-4


def test_masks_turn_with_the_image(key):
    y, x = np.mgrid[:33, :40]
    inside = ((x > 28) & (abs(y - 16) < 5))[..., None]
    inputs = Inputs(jnp.asarray(inside, jnp.float32), jnp.asarray(inside, jnp.uint8))
    keys = jax.random.split(key, 400)

    def turn(share):
        many = jax.jit(jax.vmap(lambda k: turned(k, inputs, share=share)))
        return jax.tree.map(np.asarray, many(keys))

    out = turn(0.3)
    np.testing.assert_array_equal(np.unique(out.foreground), [0, 1])
    # Nearest and bilinear agree but for the rim.
    assert (np.abs(out.image - out.foreground) > 0.9).mean() < 1e-3
    same = (out.image == inside).all((1, 2, 3))
    assert abs(same.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / 400)
    assert out.region is None
    assert (turn(0.0).image == inside).all()
    always = turn(1.0).image
    # Up to 90 degrees to either side: the block to the right never goes to the left.
    assert always[:, :, :12].max() < 1e-3
