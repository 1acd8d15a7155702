"""The protocol of training: what a trainable method adds to its Synthesizer.

A method's file may define one public `Task` beside its Synthesizer, and a `Detector`
where its paper ends in one. A Task is pure: it never asks how many devices there are.
The mean over devices is handed to it as `reduce`; parallelism lives elsewhere.

Everything random about an example derives from the run's key and the example's id, so
a training step gives the same result on one device and on eight, and an image inside
the step is the image that `anojax synth` writes for that seed and id.
"""

import abc
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, final

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Key

from anojax import registry
from anojax.batching import over_examples
from anojax.core import Synthesizer, check_setting, hp, method_of
from anojax.detector import Detector, in_unit_range
from anojax.errors import AnojaxError, UnknownName, did_you_mean
from anojax.optim import Optimizer, ema_update, rising_decay
from anojax.random import example_key, stream
from anojax.types import Bank, Inputs, Leaf, PyTree, Synthesis, pytree

Metrics = dict[str, Array]


@pytree
class TrainState:
    """Everything that changes while training; what a checkpoint holds."""

    params: PyTree
    """What gradients move, float32."""
    statistics: PyTree
    """What gradients do not move: BatchNorm statistics, frozen networks."""
    opt_state: PyTree
    """Of the optimizer or optimizers."""
    ema: PyTree | None
    """Moving average of `params`; ``None`` without one."""
    step: Leaf
    """Updates done, int32 scalar."""

    replace = replace

    @property
    def averaged(self) -> PyTree:
        """The averaged parameters if there are any, else the last ones."""
        return self.params if self.ema is None else self.ema


@pytree
class Examples:
    """A batch: a leading axis B on everything but the bank."""

    inputs: Inputs
    """Images and masks as uint8."""
    ids: Leaf
    """``[B]`` uint32; different for every visit of an image."""
    bank: Bank | None = None
    """Where `Inputs.source` is drawn from; the whole of it on every device."""
    ready: Synthesis | None = None
    """Anomalies made beforehand; the synthesizer does not run then."""

    replace = replace

    @property
    def images(self) -> Float[Array, "b h w c"]:
        """The normal images in [0, 1]."""
        return in_unit_range(self.inputs.image)


@dataclass(frozen=True)
class Reduce:
    """The mean over the devices that share a batch.

    Pass `axis` to ``flax.linen.BatchNorm(axis_name=...)``, so that statistics are
    those of the whole batch.
    """

    axis: str | None = None
    """Name of the device axis; ``None`` when the program already sees everything."""

    def __call__(self, tree: PyTree) -> PyTree:
        """The mean of all floating-point leaves; others are the same everywhere."""
        if self.axis is None:
            return tree
        return jax.tree.map(
            lambda x: (
                lax.pmean(x, self.axis) if jnp.issubdtype(x.dtype, jnp.inexact) else x
            ),
            tree,
        )


@dataclass(frozen=True)
class Part:
    """A network that a task starts with and does not train."""

    kind: Literal["backbone", "run"]
    """Pretrained weights of a known network, or what another training run of the same
    method taught."""
    source: str
    """The network's name, or the stage of that run."""


@dataclass(frozen=True)
class Task(abc.ABC):
    """How a method is trained. Equal tasks share one compilation.

    Concrete tasks are frozen dataclasses whose further fields are `hp` (or an
    `Optimizer`, or other frozen dataclasses).
    """

    method: ClassVar[str | None] = None
    """Whose task it is; none: the method in whose file it is defined."""
    stage: ClassVar[str] = "train"
    """Which of the method's trainings it is; a word."""
    learns_from_exemplars: ClassVar[bool] = False
    """Whether its batches are real defects, with `Inputs.exemplar` and `Inputs.label`,
    and not normal images."""
    learns_from_ready: ClassVar[bool] = True
    """Whether anomalies that were made beforehand can stand for those of the step."""
    synth: Synthesizer
    steps: int = hp(1000, "updates in the whole run; schedules follow it", low=1)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_setting(self.name, field, getattr(self, field.name))

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.method or method_of(type(self).__module__)

    def parts(self) -> dict[str, Part]:
        """What is to come trained from elsewhere: its name in `TrainState.statistics`,
        where its variables take the place of those of `init`."""
        return {}

    def begin(
        self, state: TrainState, key: Key[Array, ""], batches: Iterator[Examples]
    ) -> TrainState:
        """What has to be measured on examples before the first step.

        Runs once, on the host, after all `parts` are in place; not when a run goes on.

        Args:
          state: as `init` made it.
          key: of the run.
          batches: whole batches, the same in every process, without end.
        """
        del key, batches
        return state

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], batch: Examples) -> TrainState:
        """The state before the first step; only shapes of `batch` matter."""

    @abc.abstractmethod
    def step(
        self, state: TrainState, key: Key[Array, ""], batch: Examples, reduce: Reduce
    ) -> tuple[TrainState, Metrics]:
        """One update: pure, and the same on every device after `reduce`.

        Args:
          state: before the update.
          key: of the run, the same at every step; see `example_keys`.
          batch: this device's share.
          reduce: to be applied to gradients, statistics and metrics.

        Returns:
          The state with ``step + 1``, and scalars to log.
        """

    def params(self, state: TrainState) -> PyTree:
        """Parameters for the Synthesizer; ``{}`` unless it learns."""
        del state
        return {}

    def variables(self, state: TrainState) -> PyTree:
        """What the Detector needs: the averaged parameters if there are any."""
        return {"params": state.averaged, "statistics": state.statistics}

    def detector(self) -> Detector | None:
        """The Detector that goes with these settings, if the paper ends in one."""
        return None

    @final
    def example_keys(
        self, key: Key[Array, ""], batch: Examples, name: str
    ) -> Key[Array, " b"]:
        """A named key per example, whatever device the example is on."""
        own = stream(stream(key, "task"), name)
        return jax.vmap(lambda i: example_key(own, i))(batch.ids)

    @final
    def draw(
        self,
        key: Key[Array, ""],
        batch: Examples,
        *,
        clean_share: float = 0.0,
        params: PyTree | None = None,
    ) -> Synthesis:
        """Synthesize one anomaly per example, inside the step.

        Args:
          key: of the run.
          batch: `ready` anomalies are taken as they are; otherwise the method runs on
            `inputs`, whose images may be uint8 or (augmented) float32.
          clean_share: each example stays clean with this probability: its image is
            returned, with an empty mask.
          params: of the synthesizer.
        """
        if batch.ready is not None:
            out = _to_float(batch.ready)
        else:
            own = stream(key, self.synth.name)  # == method_key(seed, name)
            run, draws = over_examples(self.synth), jnp.zeros_like(batch.ids)
            out = run(params or {}, own, batch.bank, batch.ids, draws, batch.inputs)
        if not clean_share:
            return out
        keys = self.example_keys(key, batch, "clean")
        clean = jax.vmap(lambda k: jax.random.bernoulli(k, clean_share))(keys)
        each = clean[:, None, None, None]
        return out.replace(
            image=jnp.where(each, batch.images, out.image),
            mask=jnp.where(each, 0.0, out.mask),
            alpha=jnp.where(each, 0.0, out.alpha),
            label=jnp.where(clean, 0, out.label),
            anomalous=out.anomalous & ~clean,
        )


@dataclass(frozen=True)
class GradientTask(Task):
    """A task with one loss and one optimizer: implement `init_networks` and `loss`."""

    optimizer: Optimizer = Optimizer()
    ema_decay: float = hp(0.0, "of the averaged parameters; 0: none", low=0.0, high=1.0)
    ema_warmup: float | None = hp(
        None,
        "update k averages with a decay of at most (1 + k) / (this + k); none: no bound",
        low=1.0,
    )
    accumulate: int = hp(1, "parts that a device's batch is computed in", low=1)
    dtype: str = hp("float32", "compute in", choices=("float32", "bfloat16"))

    @abc.abstractmethod
    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        """Parameters (float32) and statistics before the first step."""

    @abc.abstractmethod
    def loss(
        self,
        params: PyTree,
        statistics: PyTree,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        """The mean loss of a batch, the new statistics, and scalars to log.

        Everything must be a mean over examples, so that a mean over devices of equal
        shares is the mean over the batch. Networks take ``dtype=self.compute_dtype``
        and BatchNorm takes ``axis_name=reduce.axis``; losses are float32.
        """

    def transform(self) -> optax.GradientTransformation:
        """The update rule; to be replaced where parts learn differently."""
        return self.optimizer.build(self.steps)

    @property
    def compute_dtype(self) -> Any:
        """What networks compute in; parameters and losses stay float32."""
        return jnp.bfloat16 if self.dtype == "bfloat16" else jnp.float32

    @final
    def init(self, key: Key[Array, ""], batch: Examples) -> TrainState:
        if batch.ready is not None and not self.learns_from_ready:
            raise AnojaxError(
                f"{self.name}, stage {self.stage}, cannot learn from ready anomalies; "
                "give data.input, not data.ready"
            )
        params, statistics = self.init_networks(stream(key, "init"), batch)
        return TrainState(
            params=params,
            statistics=statistics,
            opt_state=self.transform().init(params),
            ema=jax.tree.map(jnp.copy, params) if self.ema_decay else None,
            step=jnp.zeros((), jnp.int32),
        )

    @final
    def step(
        self, state: TrainState, key: Key[Array, ""], batch: Examples, reduce: Reduce
    ) -> tuple[TrainState, Metrics]:
        gradients, statistics, metrics = reduce(
            self._gradients(state, key, batch, reduce)
        )
        if frozen := {name: state.statistics[name] for name in self.parts()}:
            # A mean over devices would round what must never change.
            statistics = {**statistics, **frozen}
        updates, opt_state = self.transform().update(
            gradients, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            decay = self.ema_decay
            if self.ema_warmup is not None:
                decay = rising_decay(decay, self.ema_warmup, state.step + 1)
            ema = ema_update(ema, params, decay)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return TrainState(params, statistics, opt_state, ema, state.step + 1), metrics

    def _gradients(self, state, key, batch, reduce):
        grad = jax.value_and_grad(self.loss, has_aux=True)

        def part(statistics, examples):
            (loss, (statistics, metrics)), gradients = grad(
                state.params, statistics, key, examples, reduce
            )
            return statistics, (gradients, {"loss": loss, **metrics})

        if self.accumulate == 1:
            statistics, (gradients, metrics) = part(state.statistics, batch)
            return gradients, statistics, metrics
        parts = _split(batch.replace(bank=None), self.accumulate)

        def add(carry, examples):
            statistics, total = carry
            statistics, new = part(statistics, examples.replace(bank=batch.bank))
            return (statistics, jax.tree.map(jnp.add, total, new)), None

        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(
            lambda s, x: part(s, x.replace(bank=batch.bank))[1], state.statistics, first
        )
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (statistics, total), _ = lax.scan(add, (state.statistics, zeros), parts)
        gradients, metrics = jax.tree.map(lambda x: x / self.accumulate, total)
        return gradients, statistics, metrics


def get(name: str, stage: str | None = None) -> type[Task]:
    """A Task class of a method: its only one, its first, or the one of a stage.

    Raises:
      UnknownName: there is no such method, nothing of it is trained, or not in such a
        stage.
    """
    own = stages(name)
    if not own:
        able = ", ".join(n for n in registry.names() if stages(n)) or "none"
        raise UnknownName(
            f"method '{name}' has nothing to train; methods that have: {able}"
        )
    if stage is None:
        return next(iter(own.values()))
    if stage not in own:
        raise UnknownName(
            f"{name} has no stage '{stage}'{did_you_mean(stage, own)}; it has "
            f"{', '.join(own)}"
        )
    return own[stage]


def stages(name: str) -> dict[str, type[Task]]:
    """The trainings of a method by their stage: those that its file defines, in their
    order, then those that it imports."""
    module = sys.modules[registry.get(name).__module__]
    found = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Task)
        and not inspect.isabstract(value)
        and not key.startswith("_")
    ]
    found.sort(key=lambda task: task.__module__ != module.__name__)
    return {task.stage: task for task in found}


def _split(batch: Examples, parts: int) -> Examples:
    size = batch.ids.shape[0]
    if size % parts:
        raise AnojaxError(
            f"accumulate is {parts}, but a device has {size} examples; "
            f"choose a divisor of {size}"
        )
    split = partial(rearrange, pattern="(parts b) ... -> parts b ...", parts=parts)
    return jax.tree.map(split, batch)


def _to_float(ready: Synthesis) -> Synthesis:
    image = None if ready.image is None else in_unit_range(ready.image)
    return ready.replace(
        image=image,
        mask=(ready.mask > 0).astype(jnp.float32),
        alpha=in_unit_range(ready.alpha),
    )
