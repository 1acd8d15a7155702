"""In bfloat16, what is kept and what is compared stays float32."""

import jax
import jax.numpy as jnp
import pytest

from anojax.methods.handcrafted.draem import DraemNetwork
from anojax.nn.classifier import EmbeddingClassifier
from anojax.nn.resnet import ResNetAutoencoder

NETWORKS = {
    "draem": DraemNetwork(
        reconstructive_width=8, discriminative_width=8, dtype=jnp.bfloat16
    ),
    "cutpaste": EmbeddingClassifier(
        classes=3, blocks=(1, 1, 1, 1), width=8, dtype=jnp.bfloat16
    ),
    "nsa": ResNetAutoencoder(width=8, dtype=jnp.bfloat16),
}


def types(tree):
    return {x.dtype.name for x in jax.tree.leaves(tree)}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_statistics_and_results_are_float32(name):
    network = NETWORKS[name]

    def start(key):
        return network.init_with_output(key, jnp.zeros((2, 64, 64, 3)), True)

    # Only traced: types need no arithmetic.
    (found, made), program = (
        jax.eval_shape(start, jax.random.key(0)),
        str(jax.make_jaxpr(start)(jax.random.key(0))),
    )
    assert types(made["params"]) == types(made["batch_stats"]) == {"float32"}
    assert types(found) == {"float32"}
    assert "bf16" in program
