"""RealNet's detector: which features it looks at, how it ranks what is left, training."""

import dataclasses
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import examples, first_state, gray_images, train

from anojax import task as tasks
from anojax.config import load
from anojax.detector import score_batch
from anojax.errors import AnojaxError, SettingError
from anojax.methods.generative.realnet import Realnet, RealnetTask
from anojax.methods.generative.realnet.detector import (
    RealnetDetector,
    RealnetDetectorTask,
)
from anojax.methods.generative.realnet.networks import (
    EPSILON,
    FeatureUNet,
    RealnetNetwork,
    SelectedFeatures,
    peak_of_means,
    select_by_rank,
    selection_losses,
    smallest,
)
from anojax.nn.init import init_network
from anojax.nn.resize import resize_bilinear
from anojax.nn.resnet import imagenet_normalize
from anojax.optim import Optimizer
from anojax.task import Reduce
from anojax.training.config import TrainConfig
from anojax.types import Bank, Synthesis

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
TASK = RealnetDetectorTask(
    Realnet(painter="stored", on_empty="rescale", exponents=(0, 2)),
    steps=15,
    optimizer=Optimizer("sgd", 0.05),
    backbone="resnet18",
    backbone_width=8,
    selected=(4, 8, 0, 0),
    strides=(4, 4, 16, 16),
    selection_batches=2,
    multipliers=(1, 2),
    blocks=1,
    head_channels=4,
    norm_groups=2,
    by_max=6,
    by_mean=6,
)
BANK = Bank(np.random.default_rng(3).integers(0, 256, (4, 32, 32, 1), np.uint8))
BATCH = examples(gray_images())
KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_state(task=TASK):
    """Random weights everywhere, and the first channels of every stage."""
    state = first_state(task, BATCH.replace(bank=BANK))
    selection = jax.tree.map(np.asarray, task.features.first())
    return state.replace(statistics={**state.statistics, "selection": selection})


# The choice of channels.


def test_the_channel_that_is_the_mask_is_the_best():
    mask = (np.random.default_rng(0).random((3, 16, 24, 1)) < 0.3).astype(np.float32)
    small = mask[:, ::4, ::4]
    normal, change = np.array(draw(3, 4, 6, 5)), np.array(draw(3, 4, 6, 5, seed=1))
    change[..., 3:4] = small * 7  # whatever its size
    change[..., 4:5] = 1 - small
    losses = partial(selection_losses, mask=jnp.asarray(mask))
    found = np.asarray(losses(jnp.asarray(normal + change), jnp.asarray(normal)))
    assert np.argmin(found) == 3 and np.argmax(found) == 4
    np.testing.assert_allclose(found[[3, 4]], [0, 1], atol=1e-3)
    square = np.square((normal + change) - normal).astype(np.float64)
    low, high = square.min((0, 1, 2)), square.max((0, 1, 2))
    expected = ((square - low) / (high - low + EPSILON) - small) ** 2
    np.testing.assert_allclose(found, expected.mean((0, 1, 2)), atol=1e-5)
    constant = losses(jnp.full((3, 4, 6, 2), 2.0), jnp.zeros((3, 4, 6, 2)))
    np.testing.assert_allclose(constant, (small**2).mean(), atol=1e-7)


def test_the_best_come_in_the_order_of_their_numbers():
    losses = jnp.asarray([5, 1, np.nan, 0, 4], jnp.float32)
    np.testing.assert_array_equal(smallest(losses, 3), [1, 3, 4])
    np.testing.assert_array_equal(smallest(losses, 4), [0, 1, 3, 4])


def test_features_are_those_of_the_backbone():
    features = SelectedFeatures("resnet18", 4, (2, 3, 0, 4), (4, 4, 16, 16), 1)
    assert features.blocks == {4: ("layer1", "layer2"), 16: ("layer4",)}
    assert features.sizes == (5, 4) and features.side_multiple == 32
    variables = jax.jit(features.init)(jax.random.key(0))
    images = jnp.abs(draw(2, 64, 96, 3))
    chosen = {
        "layer1": np.int32([1, 3]),
        "layer2": np.int32([0, 2, 7]),
        "layer4": np.int32([5, 6, 30, 31]),
    }

    @jax.jit
    def both(v, x):
        ours = features.choose(features.maps(v, x, jnp.float32), chosen)
        network = features._network(("layer1", "layer2", "layer4"))
        return ours, network.apply(v, imagenet_normalize(x), False)

    (fine, coarse), raw = both(variables, images)
    assert fine.shape == (2, 16, 24, 5) and coarse.shape == (2, 4, 6, 4)
    np.testing.assert_allclose(fine[..., :2], raw["layer1"][..., [1, 3]], atol=1e-6)
    # Corners stay where they are.
    expected = raw["layer2"][:, ::7, ::11][..., [0, 2, 7]]
    np.testing.assert_allclose(fine[:, ::15, ::23, 2:], expected, atol=1e-5)
    expected = raw["layer4"][:, :, ::2][..., [5, 6, 30, 31]]
    np.testing.assert_allclose(coarse[:, ::3, ::5], expected, atol=1e-5)
    with pytest.raises(AnojaxError, match=r"48 x 96 px .* multiples of 32"):
        features.maps(variables, images[:, :48], jnp.float32)


def test_it_looks_at_anomalies_before_the_first_step():
    state, key = random_state(), jax.random.key(0)
    batches = [BATCH.replace(bank=BANK), BATCH.replace(bank=BANK, ids=BATCH.ids + 8)]
    after = TASK.begin(state, key, iter([*batches, None]))  # the third is not requested
    assert after.params is state.params

    @jax.jit
    def measured(batch):
        out, known = TASK.draw(key, batch), state.frozen["backbone"]
        a = TASK.features.maps(known, out.image, jnp.float32)
        b = TASK.features.maps(known, batch.images, jnp.float32)
        found = {n: selection_losses(a[n], b[n], out.mask) for n in a}
        return found, out.anomalous

    found, anomalous = zip(*map(measured, batches), strict=True)
    assert np.mean(anomalous) > 0.8  # none is left clean on purpose
    for name, count in (("layer1", 4), ("layer2", 8)):
        best = np.sort(np.argsort(found[0][name] + found[1][name])[:count])
        chosen = after.statistics["selection"][name]
        assert chosen.dtype == np.int32
        np.testing.assert_array_equal(chosen, best)
    assert (after.statistics["selection"]["layer2"] != np.arange(8)).any()
    # What has been chosen stays, as with the networks of another run.
    assert TASK.begin(after, key, iter([])) is after


# Restoration, ranking, score.


def test_a_fresh_network_restores_nothing():
    network = FeatureUNet(
        width=4, multipliers=(1, 2), blocks=1, head_channels=4, groups=2
    )

    @jax.jit
    def run(x):
        made = init_network(network, KEY, x)
        return network.apply(made, x), made["params"]

    found, made = run(draw(2, 8, 4, 6))
    assert found.shape == (2, 8, 4, 6) and not np.asarray(found).any()
    assert made["stem"]["kernel"].shape == (3, 3, 6, 4)
    assert np.asarray(made["up1_0"]["conv"]["kernel"]).all()


def test_ranking_by_peak_and_by_mean():
    residual = np.zeros((2, 2, 3, 4), np.float32)
    residual[0, 0, 0] = [9, 0, 0, 5]
    residual[0, 1] += [0, 2, 4, 1]
    residual[1, 1, 2] = [1, 2, 3, 4]
    x = jnp.asarray(residual)
    chosen = np.asarray(select_by_rank(x, x, by_max=2, by_mean=3))
    np.testing.assert_array_equal(chosen[0], residual[0][..., [0, 3, 2, 0, 3]])
    np.testing.assert_array_equal(chosen[1], residual[1][..., [3, 2, 3, 2, 1]])


def test_the_order_of_the_channels_does_not_matter():
    x, order = draw(3, 4, 4, 7), np.random.default_rng(1).permutation(7)
    select = partial(select_by_rank, by_max=3, by_mean=2)
    np.testing.assert_array_equal(
        select(x, 2 * x), select(x[..., order], 2 * x[..., order])
    )


def test_no_gradient_comes_from_the_ranking():
    residual, weight = draw(2, 3, 3, 5), draw(2, 3, 3, 7, seed=1)

    def total(residual, ranking):
        chosen = select_by_rank(residual, ranking, by_max=5, by_mean=2)
        return jnp.sum(chosen * weight)

    by_residual, by_ranking = jax.grad(total, (0, 1))(residual, residual + 1)
    assert not np.asarray(by_ranking).any() and np.asarray(by_residual).all()


def test_the_head_sees_raw_residuals_ranked_by_normalized_ones():
    """A fresh network restores zero, so that residuals are squares of the features;
    running statistics take nine tenths of the batch's."""
    network = RealnetNetwork(
        multipliers=(1,), blocks=1, head_channels=2, groups=2, by_max=3, by_mean=3
    )
    features = (draw(2, 8, 8, 8).at[..., 0].mul(100), draw(2, 4, 4, 4, seed=1))
    seen = []

    def spy(function, args, kwargs, context):
        if context.module.name == "head" and context.method_name == "__call__":
            seen.append(args[0])
        return function(*args, **kwargs)

    @jax.jit
    def run(features):
        made = init_network(network, KEY, features, (32, 32), False)
        with nn.intercept_methods(spy):
            _, new = network.apply(made, features, (32, 32), True, mutable=True)
        return seen[-1], new["batch_stats"]["ranking"]

    chosen, after = run(features)
    fine, coarse = map(jnp.square, features)
    coarse = resize_bilinear(coarse, (8, 8), align_corners=True)
    square = np.concatenate([fine, coarse], -1)
    mean, var = square.mean((0, 1, 2)), square.var((0, 1, 2))
    ranking = (square - mean) / np.sqrt(var + 1e-5)
    for sample_image, found in enumerate(chosen):
        peaks = np.argsort(-ranking[sample_image].max((0, 1)))[:3]
        means = np.argsort(-ranking[sample_image].mean((0, 1)))[:3]
        expected = square[sample_image][..., [*peaks, *means]]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after["mean"], 0.9 * mean, rtol=1e-4)
    np.testing.assert_allclose(after["var"], 0.1 + 0.9 * var, rtol=1e-4)


def test_score_of_a_constant_map_is_the_constant():
    found = np.full((20, 30), 0.3, np.float32)
    score = lambda size: peak_of_means(jnp.asarray(found), size)  # noqa: E731
    np.testing.assert_allclose(score(16), 0.3, rtol=1e-6)
    found[4:8, 10:14] = 1.0
    np.testing.assert_allclose(score(16), 0.3 + 0.7 * 16 / 256, rtol=1e-5)
    # A square larger than the map is cut to it.
    np.testing.assert_allclose(score(99), found.mean(), rtol=1e-5)


# The networks of the paper.


def conv(a, b, kernel=3):
    return a * b * kernel**2 + b


def block(a, b, up=False):
    """Normalization and convolution; another one or two ways up, or a shortcut."""
    ways = 2 * conv(a, a, 4) if up else 0
    return 2 * a + conv(a, b) + ways + (conv(a, b, 1) if a != b else 0)


def attention(c):
    return 2 * c + 4 * conv(c, c, 1)


def restoration(m):
    """Of m channels: three levels of m / 2, m and 2 m channels, two blocks in each."""
    a, b, c = m // 2, m, 2 * m
    down = conv(m, a) + 2 * block(a, a) + block(a, a)
    down += block(a, b) + block(b, b) + 2 * attention(b) + block(b, b)
    down += block(b, c) + block(c, c) + 2 * attention(c)
    middle = 2 * block(c, c) + attention(c)
    up = 2 * block(2 * c, c) + block(b + c, c) + 3 * attention(c) + block(c, c, up=True)
    up += block(c + b, b) + block(2 * b, b) + block(b + a, b)
    up += 3 * attention(b) + block(b, b, up=True)
    up += block(b + a, a) + 2 * block(2 * a, a)
    return down + middle + up + 2 * a + conv(a, m)


def test_parameters_of_the_paper():
    task = RealnetDetectorTask(Realnet(painter="stored"))
    assert task.features.blocks == {2 ** (i + 1): (f"layer{i}",) for i in range(1, 5)}
    assert task.features.side_multiple == 128
    size = jax.ShapeDtypeStruct
    maps = tuple(
        size((1, 256 // stride, 256 // stride, m), np.float32)
        for stride, m in zip((4, 8, 16, 32), (256, 512, 512, 256), strict=True)
    )
    init = partial(task.network().init, shape=(256, 256), train=False)
    made = jax.eval_shape(init, jax.random.key(0), maps)
    count = {
        name: sum(x.size for x in jax.tree.leaves(part))
        for name, part in made["params"].items()
    }
    head = 2 * (512 * 512 * 9 + 512 * 512) + conv(512, 128) + 2 * 128
    head += conv(128, 32) + conv(32, 8) + conv(8, 4) + conv(4, 2)
    assert count == {
        "restore1": restoration(256),
        "restore2": restoration(512),
        "restore3": restoration(512),
        "restore4": restoration(256),
        "head": head,
    }
    assert restoration(256) == 51_846_144 and sum(count.values()) == 524_108_822
    assert made["batch_stats"]["ranking"]["mean"].shape == (1536,)
    wide = SelectedFeatures(strides=(4, 4, 16, 16))
    assert wide.sizes == (768, 768) and wide.side_multiple == 64


# Training.


@pytest.fixture(scope="module")
def trained():
    return train(TASK, BATCH, steps=TASK.steps, bank=BANK)


def test_loss_is_a_sum(trained):
    _, log = trained
    for row in log:
        total = row["restoration"] + row["segmentation"]
        assert row["loss"] == pytest.approx(total, rel=1e-5)
        assert 0 < row["anomalous"] < 1


def test_the_loss_is_that_of_the_paper():
    """Restored features that are zero, and one probability everywhere."""
    state = random_state()
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x * 0 if path[-2].key in ("out", "conv4") else x, state.params
    )
    params["head"]["conv4"]["bias"] = np.float32([0.0, 2.0])

    @jax.jit
    def run(params, state, batch):
        known = TASK.features
        maps = known.maps(state.frozen["backbone"], batch.images, jnp.float32)
        normal = known.choose(maps, state.statistics["selection"])
        out = TASK.draw(KEY, batch, clean_share=0.5)
        _, (_, found) = TASK.loss(params, state, KEY, batch, Reduce())
        return found, normal, out.mask

    found, normal, mask = run(params, state, BATCH.replace(bank=BANK))
    expected = sum(np.square(x).mean() for x in normal)
    np.testing.assert_allclose(found["restoration"], expected, rtol=1e-5)
    p, share = 1 / (1 + np.exp(-2.0)), np.mean(mask)
    assert 0.02 < share < 0.5
    expected = -share * np.log(p) - (1 - share) * np.log(1 - p)
    np.testing.assert_allclose(found["segmentation"], expected, rtol=1e-5)


def test_backbone_and_choice_do_not_change(trained):
    state, _ = trained
    before = first_state(TASK, BATCH.replace(bank=BANK))
    same = np.testing.assert_array_equal
    jax.tree.map(same, state.frozen, before.frozen)
    chosen = "selection"
    jax.tree.map(same, state.statistics[chosen], before.statistics[chosen])
    same = jax.tree.map(np.array_equal, state.params, before.params)
    assert not any(jax.tree.leaves(same))
    moved = state.statistics["batch_stats"]["ranking"]
    assert np.all(moved["mean"] != 0)


def test_it_computes_in_the_precision_asked_for():
    task = dataclasses.replace(TASK, dtype="bfloat16")
    state, key = random_state(task), jax.random.key(0)

    def run(params, state, batch):
        return task.loss(params, state, key, batch, Reduce())

    given = (state.params, state, BATCH.replace(bank=BANK))
    text = str(jax.make_jaxpr(run)(*given))
    made = [line for line in text.splitlines() if "conv_general_dilated[" in line]
    assert len(made) > 20
    assert all(":bf16[" in line for line in made), made
    loss, (statistics, _) = jax.eval_shape(run, *given)
    assert loss.dtype == jnp.float32
    for a, b in zip(*map(jax.tree.leaves, (statistics, state.statistics)), strict=True):
        assert a.dtype == b.dtype


def test_detector(trained):
    state, _ = trained
    detector = TASK.detector()
    assert detector == RealnetDetector(TASK.features, TASK.network(), 16)
    images = np.concatenate([BATCH.inputs.image[:2], BATCH.inputs.image[2:4]], 2)
    maps, scores = map(np.asarray, score_batch(detector, TASK.variables(state), images))
    assert maps.shape == (2, 32, 64) and (maps > 0).all() and (maps < 1).all()
    assert np.ptp(maps) > 1e-3
    expected = [peak_of_means(jnp.asarray(m), 16) for m in maps]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_precomputed_anomalies_are_taken():
    """They bring their normal image along; nothing is generated, and no bank needed."""
    task = dataclasses.replace(TASK, synth=Realnet())
    image, state = BATCH.inputs.image, random_state()
    mask = np.zeros_like(image)
    mask[:, 8:16, 8:24] = 255
    changed = np.where(mask > 0, 255 - image, image)
    one = np.ones((8,), np.int32)
    batch = BATCH.replace(precomputed=Synthesis(changed, mask, mask, one, one > 0))
    run = lambda b: task.loss(state.params, state, KEY, b, Reduce())  # noqa: E731
    loss, (_, metrics) = jax.eval_shape(run, batch)
    assert loss.shape == () and set(metrics) == {
        "restoration",
        "segmentation",
        "anomalous",
    }


def test_the_diffusion_model_does_not_generate_while_it_learns():
    task = dataclasses.replace(TASK, synth=Realnet())
    with pytest.raises(SettingError, match="synth --method realnet .* data.textures="):
        jax.eval_shape(task.init, KEY, BATCH)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"selected": (9, 8, 0, 0)}, "9 channels of layer1, .* width of 8 has 8;"),
        ({"selected": (0, 0, 0, 0)}, "no channel of any stage"),
        ({"by_mean": 13}, "by_mean is 13, but only 12 channels"),
        ({"norm_groups": 4}, "does not divide half of the 12 channels"),
        ({"head_channels": 8}, "head_channels is 8, .* the 12 channels that attend"),
        ({"backbone": "vgg"}, "choose one of resnet18"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(SettingError, match=words):
        dataclasses.replace(TASK, **settings)


def test_it_is_a_stage_after_the_diffusion_model():
    assert tasks.get("realnet") is RealnetTask
    assert tasks.get("realnet", "detector") is RealnetDetectorTask
    assert next(iter(tasks.stages("realnet"))) == "diffusion"
    assert TASK.name == "realnet"


def test_configurations():
    paper = load(TrainConfig, CONFIGS / "realnet_detector.yaml")
    assert paper.stage == "detector" and paper.batch_size == 16
    small = load(TrainConfig, CONFIGS / "realnet_detector_tile_cpu.yaml")
    assert small.data.gray and small.components == {"backbone": "random"}
    task = {k: tuple(v) if isinstance(v, list) else v for k, v in small.task.items()}
    task = {k: v for k, v in task.items() if not isinstance(v, dict)}
    made = RealnetDetectorTask(Realnet(**small.settings), **task)
    assert small.data.shape[0] % made.features.side_multiple == 0
