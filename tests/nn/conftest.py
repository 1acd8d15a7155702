"""Variables without compiling an initialization."""

import jax
import numpy as np
import pytest


@pytest.fixture
def filled():
    """``filled(network, x, **call)``: variables of the right shapes, random numbers."""

    def fill(network, x, **call):
        shapes = jax.eval_shape(
            lambda k, x: network.init(k, x, **call), jax.random.key(0), x
        )
        draw = np.random.default_rng(0)

        def leaf(path, shape):
            name = path[-1].key
            values = draw.normal(size=shape.shape)
            if name == "kernel":
                values *= np.sqrt(2 / np.prod(shape.shape[:-1]))
            elif name in ("scale", "var"):
                values = np.exp(0.1 * values)
            elif name == "bias":
                values = 0.1 * np.abs(values)  # positive: few ReLUs are silent
            else:
                values *= 0.1
            return values.astype(np.float32)

        return jax.tree_util.tree_map_with_path(leaf, shapes)

    return fill
