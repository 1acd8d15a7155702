"""The score network against PyTorch's layers, put together from the publication."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anojax.errors import AnojaxError, SettingError
from anojax.nn.score_unet import ScoreUNet


def shapes(network, shape=(1, 32, 32, 3)):
    x, t = jnp.zeros(shape), jnp.zeros(shape[:1])
    frequencies = jnp.zeros(2 * network.width)
    return jax.eval_shape(network.init, jax.random.key(0), x, t, frequencies)


def test_parameters_of_the_paper():
    params = shapes(ScoreUNet())["params"]
    fixed = 128  # frequencies, which the paper counts among the parameters
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) + fixed == 17_843_331


def in_torch(params, x, t, frequencies, width):
    """The same network; skips hold the time, the last of all is added to theirs."""
    tensor = lambda a: torch.from_numpy(np.array(a))  # noqa: E731
    layer = lambda n: {k: tensor(v) for k, v in params[n].items()}  # noqa: E731

    def linear(name, v):
        weights = layer(name)
        return F.linear(v, weights["kernel"].T, weights["bias"])

    def stage(name, v):
        for part in "ab":
            conv, norm = layer(name + part), layer(f"{name}{part}_norm")
            kernel = conv["kernel"].permute(3, 2, 0, 1)
            v = F.conv2d(v, kernel, conv["bias"], padding=1)
            groups = min(32, v.shape[1] // 2)
            v = F.silu(F.group_norm(v, groups, norm["scale"], norm["bias"], 1e-5))
        return v + linear(f"{name}_time", time)[:, :, None, None]

    phase = 2 * torch.pi * tensor(t)[:, None] * tensor(frequencies)[None]
    time = F.silu(linear("time", torch.cat([phase.sin(), phase.cos()], 1)))
    v, skips = stage("down1", tensor(x).permute(0, 3, 1, 2)), []
    for level in (2, 3, 4, 5):
        skips.append(v)
        v = stage(f"down{level}", F.max_pool2d(v, 2))
    for level in (4, 3, 2, 1):
        v = F.interpolate(v, scale_factor=2, mode="bilinear", align_corners=True)
        v = stage(f"up{level}", torch.cat([skips.pop(), v], 1))
    head = layer("head")
    v = F.conv2d(v, head["kernel"].permute(3, 2, 0, 1), head["bias"])
    return v.permute(0, 2, 3, 1).numpy()


def test_the_same_as_in_pytorch(filled):
    network, draw = ScoreUNet(channels=1, width=4), np.random.default_rng(0)
    x = draw.normal(size=(2, 32, 48, 1)).astype(np.float32)
    t = np.array([1e-3, 0.7], np.float32)
    frequencies = (30 * draw.normal(size=8)).astype(np.float32)
    given = {"t": jnp.asarray(t), "frequencies": jnp.asarray(frequencies)}
    variables = filled(network, x, **given)
    ours = np.asarray(jax.jit(network.apply)(variables, x, t, frequencies))
    theirs = in_torch(variables["params"], x, t, frequencies, 4)
    assert ours.dtype == np.float32 and ours.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(theirs).max())
    half = network.clone(dtype=jnp.bfloat16)
    rough = np.asarray(jax.jit(half.apply)(variables, x, t, frequencies))
    assert rough.dtype == np.float32
    assert np.corrcoef(rough.ravel(), ours.ravel())[0, 1] > 0.99


def test_bad_sizes_are_named():
    with pytest.raises(AnojaxError, match=r"40 x 32 px.*multiples of 16"):
        shapes(ScoreUNet(width=2), (1, 40, 32, 3))
    with pytest.raises(SettingError, match="width is 5; give an even number"):
        shapes(ScoreUNet(width=5))
