"""The U-Nets: the papers' sizes, shapes, precision, and where information can pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.errors import AnojaxError
from anojax.nn.unet import DiscriminativeUNet, InpaintingUNet, ReconstructiveUNet

NETWORKS = {
    "reconstructive": (ReconstructiveUNet, 3, 69_048_579),
    "discriminative": (DiscriminativeUNet, 6, 28_374_146),
    "inpainting": (InpaintingUNet, 3, 28_805_699),
}


def shapes(network, channels, side=64):
    x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    return jax.eval_shape(
        lambda k, x: network.init(k, x, train=False), jax.random.key(0), x
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_of_the_paper(name):
    build, channels, count = NETWORKS[name]
    variables = shapes(build(), channels)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


@pytest.mark.parametrize("name", NETWORKS)
def test_output_at_full_size(name):
    build, channels, _ = NETWORKS[name]
    network = build(width=4)
    x = jax.ShapeDtypeStruct((2, 256, 192, channels), jnp.float32)
    y = jax.eval_shape(
        lambda v, x: network.apply(v, x, train=False), shapes(network, channels), x
    )
    assert y.shape == (2, 256, 192, 2 if name == "discriminative" else 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_bad_sides_are_named(name):
    build, channels, _ = NETWORKS[name]
    with pytest.raises(AnojaxError, match=r"72 x 72 px.*multiples of"):
        shapes(build(width=2), channels, side=72)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_returns_float32(name):
    build, channels, _ = NETWORKS[name]
    network = build(width=4, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((2, 32, 64, channels), jnp.float32)
    y, stats = jax.eval_shape(
        lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]),
        shapes(network, channels),
        x,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((y, stats))} == {np.dtype("float32")}


def test_inpainting_in_both_precisions(key, filled):
    x = jax.random.uniform(key, (2, 16, 32, 3))
    networks = [InpaintingUNet(width=2, dtype=d) for d in (jnp.float32, jnp.bfloat16)]
    variables = filled(networks[0], x, train=False)
    full, half = jax.jit(lambda v, x: [n.apply(v, x, train=False) for n in networks])(
        variables, x
    )
    assert full.shape == x.shape and np.abs(full).max() <= 1
    assert 0 < np.abs(full - half).max() < 0.1


def test_initial_laws_of_draem(key):
    x = jnp.zeros((1, 32, 32, 6))
    network = DiscriminativeUNet(width=8)
    init = jax.jit(lambda k, x: network.init(k, x, train=False)["params"]["down4b"])
    layer = init(key, x)
    assert np.std(layer["conv"]["kernel"]) == pytest.approx(0.02, rel=0.05)
    assert np.abs(layer["conv"]["bias"]).max() <= (9 * 64) ** -0.5
    assert np.std(layer["bn"]["scale"]) == pytest.approx(0.02, rel=0.5)
    assert np.all(layer["bn"]["bias"] == 0)


def test_reconstruction_has_no_bypass(key, filled):
    """With a silent bottleneck the output does not depend on the input."""
    x = jax.random.normal(key, (2, 32, 32, 3))
    network = ReconstructiveUNet(width=4)
    variables = filled(network, x, train=False)
    params = variables["params"]
    silent = jax.tree.map(jnp.zeros_like, params["down5b"])
    apply = jax.jit(lambda v, x: network.apply(v, x, train=False))
    first, second = apply(variables, x)
    assert np.abs(first - second).max() > 1e-3
    first, second = apply(variables | {"params": params | {"down5b": silent}}, x)
    np.testing.assert_array_equal(first, second)
