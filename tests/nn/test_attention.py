"""Self-attention against its formula in float64, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.errors import AnojaxError
from anojax.nn.attention import SelfAttention, attend
from anojax.nn.group_norm import GroupNorm

X = np.random.default_rng(0).normal(size=(2, 3, 5, 12)).astype(np.float32)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def normalized(x, groups, eps, scale, bias):
    b, h, w, c = x.shape
    x = np.asarray(x).astype(np.float64).reshape(b, h * w, groups, c // groups)
    mean, var = x.mean((1, 3), keepdims=True), x.var((1, 3), keepdims=True)
    return ((x - mean) / np.sqrt(var + eps)).reshape(b, h, w, c) * scale + bias


def by_formula(x, params, heads, groups=None, eps=1e-5):
    b, h, w, c = x.shape
    y = x
    if groups is not None:
        y = normalized(
            x, groups, eps, *(params["group_norm"][k] for k in ("scale", "bias"))
        )
    y = y.reshape(b, h * w, c)
    q, k, v = (
        y @ params[n]["kernel"] + params[n]["bias"] for n in ("to_q", "to_k", "to_v")
    )
    d = q.shape[-1] // heads
    out = []
    for i in range(heads):
        part = np.s_[..., i * d : (i + 1) * d]
        out.append(softmax(q[part] @ k[part].swapaxes(1, 2) / np.sqrt(d)) @ v[part])
    out = np.concatenate(out, -1) @ params["to_out_0"]["kernel"]
    return x + (out + params["to_out_0"]["bias"]).reshape(x.shape)


@pytest.mark.parametrize("heads,head_dim,groups", [(3, 4, 4), (1, 12, None), (2, 5, 1)])
def test_formula(heads, head_dim, groups, filled):
    """The last has heads that do not fill the width."""
    block = SelfAttention(heads=heads, head_dim=head_dim, groups=groups)
    variables = filled(block, jnp.array(X))
    with jax.default_matmul_precision("highest"):
        found = block.apply(variables, jnp.array(X))
    expected = by_formula(X, variables["params"], heads, groups)
    assert np.abs(expected - X).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert {"to_q", "to_k", "to_v", "to_out_0"} <= set(variables["params"])


def test_output_scale_and_zero_init(filled, key):
    block = SelfAttention(heads=3, head_dim=4, groups=4)
    variables = filled(block, jnp.array(X))
    whole = block.apply(variables, jnp.array(X))
    half = block.clone(output_scale=2.0).apply(variables, jnp.array(X))
    np.testing.assert_allclose(2 * half, whole, rtol=1e-6)
    x, fresh = jnp.array(X), block.clone(zero_init=True)
    np.testing.assert_array_equal(fresh.apply(fresh.init(key, x), x), X)
    assert np.abs(block.apply(block.init(key, x), x) - x).max() > 1e-3


def test_softmax_is_float32(filled):
    """Scores that bfloat16 cannot tell apart still rank the places."""
    q = jnp.full((1, 1, 1, 2), 16, jnp.bfloat16)
    k = jnp.array([[16, 16], [16, 15.9375]], jnp.bfloat16).reshape(1, 2, 1, 2)
    v = jnp.array([1.0, 0.0], jnp.bfloat16).reshape(1, 2, 1, 1).repeat(2, -1)
    found = attend(q, k, v)
    assert found.dtype == jnp.bfloat16
    gap = 16 * 0.0625 / np.sqrt(2)
    np.testing.assert_allclose(np.float32(found), 1 / (1 + np.exp(-gap)), atol=4e-3)
    block = SelfAttention(heads=3, head_dim=4, groups=4, dtype=jnp.bfloat16)
    variables = filled(block, jnp.array(X))
    found = block.apply(variables, jnp.array(X))
    assert found.dtype == jnp.bfloat16
    expected = by_formula(X, variables["params"], 3, 4)
    np.testing.assert_allclose(np.float32(found), expected, atol=0.1)


def test_group_norm_with_a_large_mean(filled):
    """Two passes: a mean of 1000 standard deviations costs no accuracy."""
    norm, x = GroupNorm(groups=4, eps=1e-5), jnp.array(X + np.float32(1000))
    variables = filled(norm, x)
    expected = normalized(
        x, 4, 1e-5, *(variables["params"][k] for k in ("scale", "bias"))
    )
    np.testing.assert_allclose(norm.apply(variables, x), expected, atol=2e-3)
    scale, shift = (jnp.full((2, 12), value) for value in (0.5, -2.0))
    found = norm.apply(variables, x, (scale, shift))
    np.testing.assert_allclose(found, 1.5 * expected - 2, atol=3e-3)


def test_group_norm_computes_in_float32(filled):
    norm, x = GroupNorm(groups=4, dtype=jnp.bfloat16), jnp.bfloat16(X + 30)
    variables = filled(norm, x)
    found = norm.apply(variables, x)
    assert found.dtype == jnp.bfloat16
    exact = np.float32(x)
    scale, bias = (variables["params"][k] for k in ("scale", "bias"))
    expected = normalized(exact, 4, 1e-5, scale, bias)
    np.testing.assert_allclose(np.float32(found), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "channels, dtype, named",
    [
        (64, jnp.float32, "no kernel for float32"),
        (20, jnp.bfloat16, "heads of 20 channels"),
        (136, jnp.bfloat16, "heads of 136 channels"),
        (64, jnp.bfloat16, "needs an NVIDIA GPU"),
    ],
)
def test_flash_is_an_error_where_it_has_no_kernel(channels, dtype, named):
    """Never ignored; tests run on a CPU, which has none at all."""
    q = jnp.ones((1, 4, 2, channels), dtype)
    with pytest.raises(AnojaxError, match=named):
        attend(q, q, q, flash=True)
