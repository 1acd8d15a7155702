"""Steps of a task on tiny images, without compiling its initialization."""

import jax
import numpy as np

from anojax.task import Examples, Task, TrainState
from anojax.training.parallel import Pmap
from anojax.types import Bank, Inputs


def gray_images(n=8, side=32):
    """Smooth waves, different in every image, uint8 ``[n, side, side, 1]``."""
    y, x = np.mgrid[:side, :side]
    phase = np.arange(n)[:, None, None]
    waves = 127 + 100 * np.sin(x / 3 + phase) * np.cos(y / 4)
    return waves.astype(np.uint8)[..., None]


def examples(images, **more):
    return Examples(
        Inputs(image=images), np.arange(len(images), dtype=np.uint32), **more
    )


def first_state(task: Task, batch: Examples) -> TrainState:
    """A state of the right shapes with random weights.

    Normalized features are shifted to where few ReLUs are silent: otherwise rounding
    alone, as by another order of the examples, changes a deep gradient by a percent.
    """
    shapes = jax.eval_shape(task.init, jax.random.key(0), batch)
    draw = np.random.default_rng(0)

    def leaf(path, shape):
        owner, name = ([None] + [getattr(p, "key", None) for p in path])[-2:]
        if name == "kernel":
            fan_in = np.prod(shape.shape[:-1])
            values = draw.normal(size=shape.shape) * np.sqrt(1 / fan_in)
        elif name in ("scale", "var"):
            values = np.ones(shape.shape)
        elif (owner, name) == ("bn", "bias"):
            values = np.full(shape.shape, 2.0)
        else:
            values = np.zeros(shape.shape)
        return values.astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def train(
    task: Task,
    batch: Examples,
    *,
    devices: int = 1,
    steps: int = 1,
    bank: Bank | None = None,
) -> tuple[TrainState, list[dict[str, float]]]:
    """State and metrics of some steps on one and the same batch, under pmap."""
    strategy, key = Pmap(jax.devices()[:devices]), jax.random.key(0)
    state = strategy.place_state(first_state(task, batch.replace(bank=bank)))
    run, (key, bank) = strategy.compile(task), strategy.place_whole((key, bank))
    group, log = jax.tree.map(lambda x: x[None], batch), []
    for _ in range(steps):
        state, metrics = run(state, key, bank, strategy.place_batch(group))
        log.append({k: v.item() for k, v in strategy.fetch_metrics(metrics).items()})
    return strategy.fetch(state), log


def assert_same_step(one, eight):
    """One step on one device and on eight: the same numbers to 1e-6."""
    (one, (first,)), (eight, (second,)) = one, eight
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-6)
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-4, err_msg=name)
