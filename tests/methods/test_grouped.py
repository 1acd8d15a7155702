"""Methods that choose: the same pixels however many examples share a batch."""

import jax
import numpy as np
import pytest

from anojax import Bank, Inputs, batch, registry

SIZE = (32, 32)
EXAMPLES = 1024


def images(count, seed):
    """Smooth waves with grain, ``[count, 32, 32, 3]`` uint8."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    phase = draw.uniform(0, 6, (count, 1, 1, 3))
    waves = np.sin(x[None, ..., None] / 3 + phase) * np.cos(y[None, ..., None] / 4)
    grain = draw.normal(0, 6, (count, *SIZE, 3))
    return np.clip(128 + 70 * waves + grain, 0, 255).astype(np.uint8)


# Every size is another program, so one method stands for all sizes.
@pytest.mark.parametrize("name, sizes", [("draem", (1, 7, 64)), ("memseg", (7,))])
def test_batches_of_any_size_and_examples_in_turn_agree(name, sizes):
    normal, ids = images(8, 0), np.arange(EXAMPLES)

    def made(vectorization, chosen):
        run = batch(
            registry.get(name)(),
            bank=Bank(images(4, 1)),
            uint8=True,
            vectorization=vectorization,
            devices=jax.devices()[:1],
        )
        return jax.device_get(run({}, 3, chosen, Inputs(image=normal[chosen % 8])))

    whole = made("vmap", ids)
    few = [("vmap", ids[5 : 5 + size]) for size in sizes]
    for vectorization, chosen in [("map", ids), *few]:
        some = made(vectorization, chosen)
        for part in ("image", "mask", "alpha", "label"):
            np.testing.assert_array_equal(
                getattr(some, part), getattr(whole, part)[chosen], str(len(chosen))
            )
