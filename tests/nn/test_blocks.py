"""Layers: padding, initial laws, statistics, against loops in numpy and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from anojax.nn.blocks import (
    Conv,
    ConvNorm,
    ConvTranspose,
    ProjectionHead,
    max_pool_2x2,
)
from anojax.nn.init import he_normal_out, init_network, normal, uniform_fan_in


def correlate(x, kernel, stride, pad):
    """Convolution of the definition: ``[b, h, w, c]`` with ``[k, k, c, d]``."""
    size = kernel.shape[0]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))).astype(np.float64)
    rows, cols = (range(0, n - size + 1, stride) for n in (x.shape[1], x.shape[2]))
    return np.array(
        [
            [
                [np.tensordot(one[r : r + size, c : c + size], kernel, 3) for c in cols]
                for r in rows
            ]
            for one in x
        ]
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(1, 2, 0), (3, 1, 1), (4, 2, 1), (7, 2, 3)]
)
def test_conv_pads_symmetrically(key, kernel, stride, pad):
    x = np.random.default_rng(0).normal(size=(2, 8, 10, 3)).astype(np.float32)
    layer = Conv(features=4, kernel=kernel, stride=stride)
    y, variables = jax.jit(layer.init_with_output)(key, x)
    weights = jax.tree.map(np.asarray, variables["params"])
    expected = correlate(x, weights["kernel"], stride, pad) + weights["bias"]
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "pad"), [(1, 0), (3, 1), (4, 1), (7, 3)])
def test_transposed_conv_doubles_and_scatters(key, kernel, pad):
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    layer = ConvTranspose(features=3, kernel=kernel, use_bias=False)
    y, variables = jax.jit(layer.init_with_output)(key, x)
    # Every input pixel adds PyTorch's kernel at twice its place, `pad` further up.
    torch_kernel = np.asarray(variables["params"]["kernel"])[::-1, ::-1]
    canvas = np.zeros((8 + kernel + 2, 10 + kernel + 2, 3))
    for r in range(4):
        for c in range(5):
            part = np.einsum("c,ijcd->ijd", x[0, r, c], torch_kernel)
            canvas[2 * r : 2 * r + kernel, 2 * c : 2 * c + kernel] += part
    assert y.shape == (1, 8, 10, 3)
    np.testing.assert_allclose(y[0], canvas[pad : pad + 8, pad : pad + 10], atol=1e-5)


def test_default_initial_laws(key):
    x = np.zeros((1, 4, 4, 25), np.float32)
    weights = jax.jit(Conv(features=64).init)(key, x)["params"]
    bound = 225**-0.5
    for leaf in (weights["kernel"], weights["bias"]):
        assert np.abs(leaf).max() <= bound
        assert np.std(leaf) == pytest.approx(bound / 3**0.5, rel=0.1)
    weights = jax.jit(ConvTranspose(features=64, kernel=3).init)(key, x)["params"]
    bound = (9 * 64) ** -0.5
    assert 0.99 * bound < np.abs(weights["kernel"]).max() <= bound
    scale = normal(0.02, mean=1.0)(key, (4096,))
    assert np.mean(scale) == pytest.approx(1, abs=0.002)
    assert np.std(scale) == pytest.approx(0.02, rel=0.1)


def test_batch_norm_keeps_ninety_percent(key):
    x = 3 + 2 * jax.random.normal(key, (4, 6, 6, 2))
    layer = ConvNorm(features=2, kernel=1, relu=False)
    variables = jax.jit(lambda k, x: layer.init(k, x, train=False))(key, x)
    weights = variables["params"]["conv"]
    before = np.asarray(x, np.float64) @ np.float64(weights["kernel"][0, 0])
    before = before + np.float64(weights["bias"])
    mean, var = before.mean((0, 1, 2)), before.var((0, 1, 2))

    y, changed = jax.jit(
        lambda v, x: layer.apply(v, x, train=True, mutable=["batch_stats"])
    )(variables, x)
    np.testing.assert_allclose(y, (before - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    stats = changed["batch_stats"]["bn"]
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * var, rtol=1e-4)

    frozen = jax.jit(lambda v, x: layer.apply(v, x, train=False))(variables, x)
    np.testing.assert_allclose(frozen, before / np.sqrt(1 + 1e-5), atol=1e-4)


def test_statistics_are_shared_over_a_named_axis(key):
    x = jax.random.normal(key, (8, 4, 4, 2))
    alone = ConvNorm(features=3)
    shared = ConvNorm(features=3, axis_name="devices")
    variables = jax.jit(lambda k, x: alone.init(k, x, train=False))(key, x)

    def step(layer, x):
        return layer.apply(variables, x, train=True, mutable=["batch_stats"])

    whole, stats = jax.jit(lambda x: step(alone, x))(x)
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("devices",))
    spread = jax.shard_map(
        lambda x: step(shared, x),
        mesh=mesh,
        in_specs=P("devices"),
        out_specs=(P("devices"), P()),
    )
    parts, stats_of_parts = jax.jit(spread)(x)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats, stats_of_parts
    )


def test_max_pool_and_its_gradient(key):
    x = jax.random.normal(key, (2, 6, 8, 3))
    weights = jax.random.normal(key, (2, 3, 4, 3))
    other = lambda x: nn.max_pool(x, (2, 2), (2, 2))  # noqa: E731
    np.testing.assert_array_equal(max_pool_2x2(x), other(x))
    gradients = [
        jax.jit(jax.grad(lambda x, f=f: jnp.sum(f(x) * weights)))(x)
        for f in (max_pool_2x2, other)
    ]
    np.testing.assert_array_equal(*gradients)


def test_projection_head(key, filled):
    x = jnp.ones((6, 16))
    head = ProjectionHead(classes=3, depth=2, features=8)
    variables = filled(head, x, train=False)
    sizes = jax.tree.map(lambda leaf: leaf.shape, variables["params"])
    assert sizes["dense0"]["kernel"] == sizes["dense1"]["kernel"] == (16, 16)
    assert sizes["dense2"]["kernel"] == (16, 8)
    assert sizes["logits"] == {"kernel": (8, 3), "bias": (3,)}
    # Equal examples are all at the mean: only the biases are left of them.
    apply = jax.jit(lambda v, x: head.apply(v, x, train=True, mutable=["batch_stats"]))
    logits, _ = apply(variables, x)
    params = variables["params"]
    last = np.maximum(params["bn2"]["bias"], 0) @ params["logits"]["kernel"]
    expected = np.tile(last + params["logits"]["bias"], (6, 1))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    paper = jax.eval_shape(
        lambda k, x: ProjectionHead(classes=3).init(k, x, train=False),
        key,
        jax.ShapeDtypeStruct((2, 512), jnp.float32),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(paper["params"]))
    assert count == 512 * 512 + 3 * 512 + 512 * 128 + 3 * 128 + 128 * 3 + 3


class TestInit:
    """Networks whose parameters are drawn at once."""

    def test_the_laws_are_those_of_the_initializers(self, key):
        class Three(nn.Module):
            @nn.compact
            def __call__(self, x):
                a = self.param("a", uniform_fan_in(16), (200, 300))
                b = self.param("b", normal(0.02, mean=1.0), (300, 200))
                c = self.param("c", he_normal_out, (3, 3, 40, 50))
                d = self.param("d", uniform_fan_in(4), (200, 300))
                return x + a.sum() + b.sum() + c.sum() + d.sum()

        found = init_network(Three(), key, jnp.zeros(()))["params"]
        bounds = np.abs(found["a"]).max(), np.abs(found["d"]).max()
        np.testing.assert_allclose(bounds, (0.25, 0.5), rtol=1e-3)
        np.testing.assert_allclose(found["a"].std(), 0.25 / 3**0.5, rtol=0.01)
        np.testing.assert_allclose(found["a"].mean(), 0, atol=2e-3)
        np.testing.assert_allclose(found["b"].mean(), 1, atol=1e-3)
        np.testing.assert_allclose(found["b"].std(), 0.02, rtol=0.01)
        np.testing.assert_allclose(found["c"].std(), (2 / 450) ** 0.5, rtol=0.02)
        # No number is used twice.
        between = np.corrcoef(np.ravel(found["a"]) / 0.25, np.ravel(found["d"]) / 0.5)
        assert abs(between[0, 1]) < 0.02

    def test_it_has_the_parameters_of_init_and_follows_the_key(self, key):
        network, x = ConvNorm(features=5), jnp.zeros((1, 8, 8, 3))
        found = init_network(network, key, x, False)
        plain = network.init(key, x, False)
        shapes = jax.tree.map(lambda a: (a.shape, a.dtype), (found, plain))
        assert shapes[0] == shapes[1]
        again = jax.jit(lambda k: init_network(network, k, x, False))(key)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, again
        )
        other = init_network(network, jax.random.key(1), x, False)
        kernels = [t["params"]["conv"]["kernel"] for t in (found, other)]
        assert not np.allclose(*kernels)

    def test_a_program_that_begins_a_network_is_small(self, key):
        """It was hundreds of generators, and took 20 s to compile."""
        from anojax.nn.diffusion_unet import UNet2D, adm_config

        config = adm_config(
            channels=1,
            width=8,
            multipliers=(1, 2),
            attention_at=(2,),
            layers_per_block=1,
            attention_head_dim=8,
            norm_num_groups=4,
            attn_norm_num_groups=4,
            num_class_embeds=None,
        )
        args = jnp.zeros((1, 16, 16, 1)), jnp.zeros((1,), jnp.int32), None
        program = jax.jit(lambda k: init_network(UNet2D(config=config), k, *args))
        text = program.lower(key).compile().as_text()
        assert text.count(" while(") <= 8
