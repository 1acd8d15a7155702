"""Tasks on tiny images, without compiling their initialization.

What only a method knows about it stands in its test file, as a literal: for every stage
the settings at which it is quick to compile::

    TASKS = {"train": {"width": 4, "rate": 0.02, "steps": 10}}

Beside fields of the task: ``synth`` (settings of the method), ``rate`` and ``clip_norm``
(of the plain gradient descent), ``side`` (of the images, 32), ``precomputed`` (anomalies
made beforehand instead of the method's), ``falls`` (to what share the loss must fall).
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import numpy as np
from compiling import quick

from anojax import registry
from anojax import task as tasks
from anojax.core import with_settings
from anojax.optim import Optimizer
from anojax.task import Examples, Task, TrainState
from anojax.training.parallel import Pmap
from anojax.types import Bank, Exemplar, Inputs, Synthesis

METHODS = Path(__file__).parent / "methods"
N = 8


def constant(name, which, default):
    """A literal of a method's test file.

    It is read, not imported: a test file may need what the batteries do not.
    """
    file = METHODS / f"test_{name}.py"
    for node in ast.parse(file.read_text()).body if file.exists() else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == which:
            return ast.literal_eval(node.value)
    return default


@dataclass(frozen=True)
class Tiny:
    """A task, and what it learns from."""

    task: Task
    batch: Examples
    bank: Bank | None
    falls: float


@cache
def tiny(name: str, stage: str | None = None) -> Tiny:
    """The task of a method, or of one of its stages, as its test file sets it."""
    kind = tasks.get(name, stage)
    given = dict(constant(name, "TASKS", {}).get(kind.stage, {}))
    synth = registry.get(name)(**constant(name, "SMALL", {}))
    synth = with_settings(synth, **given.pop("synth", {}))
    rate, clip_norm = given.pop("rate", 0.01), given.pop("clip_norm", None)
    side, precomputed = given.pop("side", 32), given.pop("precomputed", False)
    falls = given.pop("falls", 0.8)
    task = kind(synth, **given, optimizer=Optimizer("sgd", rate, clip_norm=clip_norm))
    batch = examples(gray_images(side=side))
    if "label" in synth.needs or task.learns_from_exemplars:
        batch = with_categories(batch)
    if task.learns_from_exemplars:
        batch = with_defects(batch)
    if precomputed:
        return Tiny(task, batch.replace(precomputed=bright_patches(batch)), None, falls)
    needs_bank = {"texture", "normal"} & set(synth.needs)
    bank = Bank(gray_noise(side=side)) if needs_bank else None
    return Tiny(task, batch, bank, falls)


def gray_images(n=N, side=32):
    """Smooth waves, different in every image, uint8 ``[n, side, side, 1]``."""
    y, x = np.mgrid[:side, :side]
    phase = np.arange(n)[:, None, None]
    waves = 127 + 100 * np.sin(x / 3 + phase) * np.cos(y / 4)
    return waves.astype(np.uint8)[..., None]


def gray_noise(n=3, side=32):
    return np.random.default_rng(0).integers(0, 255, (n, side, side, 1), np.uint8)


def examples(images, **more):
    return Examples(
        Inputs(image=images), np.arange(len(images), dtype=np.uint32), **more
    )


def with_categories(batch: Examples) -> Examples:
    """Two, numbered from 1 and from 0 alike; the second is darker."""
    image = batch.inputs.image
    label = np.arange(len(image), dtype=np.int32) % 2
    image = np.where(label[:, None, None, None] == 1, image // 3, image)
    return batch.replace(inputs=batch.inputs.replace(image=image, label=label))


def with_defects(batch: Examples) -> Examples:
    """A bright box in every image, of type 1."""
    image = batch.inputs.image
    side, label = image.shape[1], np.ones(len(image), np.int32)
    mask = np.zeros_like(image)
    mask[:, side // 4 : side * 5 // 8, side * 3 // 8 : side * 7 // 8] = 1
    image = np.where(mask > 0, 250, image).astype(np.uint8)
    more = batch.inputs.replace(
        image=image, exemplar=Exemplar(image, mask), label=label
    )
    return batch.replace(inputs=more)


def bright_patches(batch: Examples) -> Synthesis:
    """An anomaly of class 1 or 2 in every image: nothing to compile."""
    image = batch.inputs.image.copy()
    alpha, side = np.zeros_like(image), image.shape[1]
    for i in range(len(image)):
        place = (i, slice(i, i + side // 2), slice(side // 4, side * 3 // 4))
        image[place], alpha[place] = 255 * (i % 2), 200
    label = np.arange(len(image), dtype=np.int32) % 2 + 1
    return Synthesis(image, alpha, alpha, label, label > 0)


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


class Course:
    """Updates of a task on one and the same batch, under pmap unless said otherwise."""

    def __init__(
        self, task: Task, batch: Examples, *, devices=1, bank=None, strategy=None
    ):
        self.strategy = strategy or Pmap(jax.devices()[:devices])
        self.update = self.strategy.compile(task)
        place = self.strategy.place_whole
        self.key, self.bank = place((jax.random.key(0), bank))
        self.group = jax.tree.map(lambda x: x[None], batch)

    def go(self, state: TrainState, steps: int):
        """The state after some more updates, and the metrics of each."""
        placed, log = self.strategy.place_state(state), []
        for _ in range(steps):
            batch = self.strategy.place_batch(self.group)
            with quick():
                placed, metrics = self.update(placed, self.key, self.bank, batch)
            metrics = self.strategy.fetch_metrics(metrics)
            log.append({name: value.item() for name, value in metrics.items()})
        return jax.tree.map(np.array, self.strategy.fetch(placed)), log


def train(
    task: Task,
    batch: Examples,
    *,
    devices: int = 1,
    steps: int = 1,
    bank: Bank | None = None,
) -> tuple[TrainState, list[dict[str, float]]]:
    """State and metrics of some steps from the first state on."""
    state = first_state(task, batch.replace(bank=bank))
    return Course(task, batch, devices=devices, bank=bank).go(state, steps)
