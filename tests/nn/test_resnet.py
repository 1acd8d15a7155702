"""Residual networks: published sizes, taps, and what is not built."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.nn.resnet import (
    ARCHITECTURES,
    ResNet,
    ResNetAutoencoder,
    imagenet_normalize,
)

PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "wide_resnet50_2": 68_883_240,
}


def shapes(network, side=64):
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(
        lambda k, x: network.init_with_output(k, x, train=False), jax.random.key(0), x
    )


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameters_and_taps(name):
    taps = ("layer1", "layer2", "layer3", "layer4", "logits")
    out, variables = shapes(ResNet(taps=taps, **ARCHITECTURES[name]))
    assert count(variables) == PARAMETERS[name]
    base = 256 if "50" in name else 64
    for i in range(4):
        assert out[taps[i]].shape == (1, 16 >> i, 16 >> i, base << i)
    assert out["logits"].shape == (1, 1000)


def test_nothing_is_built_behind_the_last_tap():
    out, variables = shapes(ResNet(taps=("layer3", "layer2")))
    assert set(out) == {"layer3", "layer2"}
    built = {name.split("_")[0] for name in variables["params"]}
    assert built == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    out, variables = shapes(ResNet(taps=("pooled",)))
    assert out["pooled"].shape == (1, 512)
    assert count(variables) == 11_176_512


def test_width_and_precision(key, filled):
    x = jax.random.uniform(key, (1, 32, 48, 3))
    settings = dict(width=4, bottleneck=True, blocks=(1, 2, 1, 1))
    networks = [
        ResNet(**settings, taps=("layer2", "pooled"), dtype=dtype)
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    variables = filled(networks[0], x, train=False)
    full, half = jax.jit(lambda v, x: [n.apply(v, x, train=False) for n in networks])(
        variables, x
    )
    assert full["layer2"].shape == (1, 4, 6, 32)
    for tap in full:
        assert half[tap].dtype == jnp.float32
        scale = np.abs(full[tap]).max()
        assert 0 < np.abs(full[tap] - half[tap]).max() < 0.1 * scale


def test_autoencoder_of_the_paper():
    for side in (64, 224):
        out, variables = shapes(ResNetAutoencoder(), side)
        assert out.shape == (1, side, side, 1)
        assert count(variables) == 11_497_712
    out, _ = shapes(ResNetAutoencoder(width=8))
    assert out.shape == (1, 64, 64, 1)


def test_autoencoder_sees_its_input(key, filled):
    x = jax.random.normal(key, (2, 64, 32, 3))
    network = ResNetAutoencoder(width=4)
    variables = filled(network, x, train=False)
    y = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, x)
    assert y.shape == (2, 64, 32, 1)
    assert np.abs(y[0] - y[1]).max() > 1e-3


def test_imagenet_normalization(sample_image):
    image = imagenet_normalize(jnp.asarray(sample_image))
    expected = (sample_image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(image, expected, atol=1e-5)
    gray = imagenet_normalize(jnp.full((2, 4, 5, 1), 0.5))
    assert gray.shape == (2, 4, 5, 3)
    np.testing.assert_allclose(gray[..., 1], (0.5 - 0.456) / 0.224, atol=1e-6)
