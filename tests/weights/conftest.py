"""A ResNet checkpoint in torchvision's layout, of random numbers."""

import numpy as np
import pytest


def shapes(blocks, bottleneck, inner_factor=1, width=64, classes=1000):
    """Names and shapes of torchvision's state dict, written from its definition."""

    def norm(name, n):
        found[f"{name}.weight"] = found[f"{name}.bias"] = (n,)
        found[f"{name}.running_mean"] = found[f"{name}.running_var"] = (n,)
        found[f"{name}.num_batches_tracked"] = ()

    found = {"conv1.weight": (width, 3, 7, 7)}
    norm("bn1", width)
    before = width
    for s, count in enumerate(blocks):
        base = width << s
        out = 4 * base if bottleneck else base
        for i in range(count):
            at = f"layer{s + 1}.{i}"
            inner = base * inner_factor
            if bottleneck:
                sizes = [(inner, before, 1), (inner, inner, 3), (out, inner, 1)]
            else:
                sizes = [(out, before, 3), (out, out, 3)]
            for j, (o, n, k) in enumerate(sizes, start=1):
                found[f"{at}.conv{j}.weight"] = (o, n, k, k)
                norm(f"{at}.bn{j}", o)
            if i == 0 and (s > 0 or bottleneck):
                found[f"{at}.downsample.0.weight"] = (out, before, 1, 1)
                norm(f"{at}.downsample.1", out)
            before = out
    return found | {"fc.weight": (classes, before), "fc.bias": (classes,)}


@pytest.fixture(scope="session")
def torch_shapes():
    """The function above."""
    return shapes


@pytest.fixture(scope="session")
def random_state():
    """``random_state(blocks, bottleneck, ...)``: arrays at a sensible scale."""

    def make(*args, **kwargs):
        draw = np.random.default_rng(0)
        state = {}
        for name, shape in shapes(*args, **kwargs).items():
            values = draw.normal(size=shape)
            if len(shape) > 1:
                values = values / np.sqrt(np.prod(shape[1:]))
            elif name.endswith(("running_var", "weight")):
                values = np.exp(0.2 * values)
            state[name] = np.asarray(values, np.float32)
            if name.endswith("tracked"):
                state[name] = np.asarray(7, np.int64)
        return state

    return make
