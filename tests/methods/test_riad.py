"""RIAD: the holes, putting images together from inpainted ones, and training."""

import dataclasses
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import label, uniform_filter
from scipy.stats import ks_2samp
from tiny import examples, first_state, gray_images, tiny, train

import anojax
from anojax.detector import score_batch
from anojax.errors import AnojaxError, SettingError
from anojax.methods.handcrafted.riad import (
    Riad,
    RiadDetector,
    RiadTask,
    assemble,
    remove,
)
from anojax.nn import losses
from anojax.ops.cells import partition
from anojax.random import example_key, method_key
from anojax.task import Examples
from anojax.types import Controls, Inputs, Synthesis

N = 24


def normal_images(shape=(48, 40, 3), n=N):
    return np.random.default_rng(0).random((n, *shape), dtype=np.float32)


def draw(synth, images, foreground=None, **controls):
    requested = Controls(**{k: np.float32(v) for k, v in controls.items()})
    inputs = Inputs(image=images, foreground=foreground, controls=requested)
    run = anojax.batch(synth, devices=jax.devices()[:1])
    return jax.tree.map(np.asarray, run({}, 0, np.arange(len(images)), inputs))


def test_removed_cells_are_gray_and_the_rest_keeps_its_bits():
    images = normal_images()
    out = draw(Riad(), images)
    expected = np.where(out.mask > 0, np.float32(0.5), images)
    np.testing.assert_array_equal(out.image, expected)
    sizes = out.aux["cell_px"]
    assert set(sizes.tolist()) == {2, 4, 8, 16}
    for mask, size in zip(out.mask[..., 0], sizes, strict=True):
        cells = mask[::size, ::size]
        whole = cells.repeat(size, 0).repeat(size, 1)[:48, :40]
        np.testing.assert_array_equal(mask, whole)
        assert cells.sum() == -(-cells.size // 3)


def test_the_removed_cells_are_the_first_set_of_training():
    synth, images = Riad(), normal_images()
    out = draw(synth, images)
    keys = jax.vmap(lambda i: example_key(method_key(0, "riad"), i))(np.arange(N))
    sets = jax.jit(jax.vmap(partial(synth.partition, shape=(48, 40))))(keys)
    np.testing.assert_array_equal(out.mask[..., 0] == 1, sets == 0)


@pytest.mark.parametrize("area", [0.1, 0.6])
def test_area_is_that_of_the_foreground(area):
    foreground = np.zeros((N, 48, 40, 1), np.float32)
    foreground[:, 5:45, 7:36] = 1
    out = draw(Riad(cells_px=(2, 4), fill=0.0), normal_images(), foreground, area=area)
    removed = out.mask.sum((1, 2, 3))
    assert np.abs(removed - area * 40 * 29).max() <= 8  # half a cell of 4 x 4
    assert not (out.mask * (1 - foreground)).any()
    assert not (out.image * out.mask).any()


def test_without_a_size_there_is_nothing_to_draw():
    with pytest.raises(SettingError, match="cells_px is empty"):
        Riad(cells_px=())


def test_images_are_put_together_from_what_was_not_seen(key):
    shape = (20, 33)
    sets = jax.random.randint(key, (2, *shape), 0, 3)
    sample_image = jax.random.uniform(key, (2, *shape, 3))
    holes = remove(sample_image, sets, parts=3, fill=0.25)
    assert holes.shape == (6, *shape, 3)
    # A network that copies leaves the fill, one that ignores its input leaves that.
    np.testing.assert_array_equal(assemble(holes, sets, parts=3), 0.25)
    constant = jnp.full_like(holes, -0.5)
    np.testing.assert_array_equal(assemble(constant, sets, parts=3), -0.5)
    each = np.asarray(holes).reshape(2, 3, *shape, 3)
    for part in range(3):
        inside = np.broadcast_to((sets == part)[..., None], sample_image.shape)
        assert (each[:, part][inside] == 0.25).all()
        np.testing.assert_array_equal(each[:, part][~inside], sample_image[~inside])


def test_parameters_of_the_paper():
    task = RiadTask(Riad())
    image = jax.ShapeDtypeStruct((2, 256, 256, 3), np.uint8)
    batch = Examples(Inputs(image=image), jax.ShapeDtypeStruct((2,), np.uint32))
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    assert sum(x.size for x in jax.tree.leaves(state.params)) == 28_805_699
    assert task.optimizer.rate(249, 300) == pytest.approx(1e-4)
    assert task.optimizer.rate(250, 300) == pytest.approx(1e-5)


TASKS = {
    "train": {"synth": {"cells_px": (2, 4)}, "steps": 10, "width": 4, "rate": 0.02}
}
TASK = tiny("riad").task


def test_gradient_is_finite_on_flat_images():
    state, log = train(TASK, examples(np.full_like(gray_images(), 128)))
    assert np.isfinite(log[0]["gradient_norm"])
    total = sum(log[0][name] for name in ("l2", "gms", "ssim"))
    assert log[0]["loss"] == pytest.approx(total, rel=1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_detector_compares_edges():
    """A silent network generates mid gray everywhere, so that all edges are missing."""
    detector = dataclasses.replace(TASK.detector(), smoothing_radius_px=1)
    assert detector == RiadDetector(TASK.synth, width=4, smoothing_radius_px=1)
    images = np.full((2, 32, 32, 1), 0.5, np.float32)
    images[1, 20:28, 4:12] = np.random.default_rng(0).random((8, 8, 1))
    state = first_state(TASK, examples(gray_images()))
    silent = jax.tree.map(np.zeros_like, TASK.variables(state))
    maps, scores = map(np.asarray, score_batch(detector, silent, images))
    np.testing.assert_allclose(maps[0], 0, atol=1e-6)
    difference = jax.jit(lambda x: 1 - losses.msgms_map(x, jnp.zeros_like(x)))
    edges = np.asarray(difference(2 * jnp.asarray(images[1:]) - 1))[0, ..., 0]
    np.testing.assert_allclose(
        maps[1], uniform_filter(edges, 3, mode="constant"), atol=1e-5
    )
    np.testing.assert_array_equal(scores, maps.max((1, 2)))
    assert scores[1] > 0.5


def test_precomputed_anomalies_are_refused():
    batch = examples(gray_images())
    one = np.zeros((8,), np.int32)
    image = batch.inputs.image
    batch = batch.replace(precomputed=Synthesis(image, image, image, one, one > 0))
    with pytest.raises(AnojaxError, match="cannot learn from precomputed anomalies"):
        TASK.init(jax.random.key(0), batch)


@pytest.mark.slow
@pytest.mark.skipif("ANOJAX_REFERENCE" not in os.environ, reason="no reference figures")
def test_same_distribution_as_the_public_code(key):
    n, reference = 150, np.load(Path(os.environ["ANOJAX_REFERENCE"]) / "riad.npz")
    keys = jax.random.split(key, n)
    for cell in (2, 4, 8, 16):
        divide = jax.jit(lambda k, c=cell: partition(k, (256, 256), cell_px=c, parts=3))
        sets = np.stack([divide(k) for k in keys])
        for part in (0, 2):
            removed = sets == part
            np.testing.assert_allclose(
                removed.mean((1, 2)), reference[f"area_k{cell}"][0, part], atol=1e-7
            )
            near = np.ones((3, 3))
            ours = {
                "components": [label(m, near)[1] for m in removed[:, ::cell, ::cell]],
                "cy": [(np.nonzero(m)[0].mean() + 0.5) / 256 for m in removed],
                "cx": [(np.nonzero(m)[1].mean() + 0.5) / 256 for m in removed],
            }
            for name, values in ours.items():
                other = reference[f"{name}_k{cell}"][:, part]
                # 0.1 % point for 150 against 1500 samples.
                limit = 1.95 * np.sqrt(1 / n + 1 / len(other))
                assert ks_2samp(values, other).statistic < limit, (name, cell)
