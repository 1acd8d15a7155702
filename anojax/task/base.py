"""What a trainable method adds to its Synthesizer."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from anojax.batching import over_examples
from anojax.component import Component
from anojax.core import Synthesizer, method_of
from anojax.detector import Detector
from anojax.errors import AnojaxError, MissingInput
from anojax.fields import check_fields, check_names, hp
from anojax.pixels import in_unit_range
from anojax.random import example_key, stream
from anojax.task.state import Examples, Metrics, Reduce, TrainState
from anojax.types import PyTree, Synthesis


@dataclass(frozen=True)
class Context:
    """When a quantity over many images is measured.

    >>> Context(every="1 epoch")
    Context(every='1 epoch', batches=None)
    """

    every: int | str | None = None
    """Updates from one measurement to the next, or a duration such as ``"1 epoch"``;
    the first comes before the first update, and without a number it stays."""
    batches: int | None = None
    """How many batches it rests on, the first of the images in their order; ``None``:
    every image, once."""


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
    accepts_precomputed: ClassVar[bool] = True
    """Whether precomputed anomalies can stand for those of the step."""
    synth: Synthesizer
    steps: int = hp(1000, "updates in the whole run, which schedules follow", low=1)

    def __new__(cls, *args, **settings):
        check_names(method_of(cls.__module__), cls, settings)
        return super().__new__(cls)

    def __post_init__(self):
        check_fields(self.name, self)

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.method or method_of(type(self).__module__)

    def components(self) -> dict[str, Component]:
        """Networks that come trained from elsewhere and stay as they are: their names
        in `TrainState.frozen`, where they take the place of what `init` made."""
        return {}

    def inherits(self, stage: str) -> dict[str, str]:
        """How a run of another stage of the method can be the beginning (`init_from`).

        Returns:
          Paths in this state -> paths in that run's: every array under the first begins
          as the one of the same name under the second, for instance
          ``{"params/generator": "ema/generator"}``. Arrays that the other lacks begin as
          in `init`. Empty: that stage is no beginning for this one.
        """
        del stage
        return {}

    def contexts(self) -> dict[str, Context]:
        """Quantities over many images that a step needs: their names in
        `TrainState.context`, and when they are measured.

        A task that has some implements `context_start`, `context_visit` and
        `context_finish`, which together are a fold over batches.
        """
        return {}

    def context_start(self, name: str, state: TrainState, batch: Examples) -> PyTree:
        """The fold before the first batch: arrays, for instance sums of 0.

        Args:
          name: of the context.
          state: of the networks that it is measured with.
          batch: of which only shapes matter, those of one device's share.
        """
        raise NotImplementedError(f"{type(self).__name__}.context_start for '{name}'")

    def context_visit(
        self,
        name: str,
        fold: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        weights: Float[Array, " b"],
        reduce: Reduce,
    ) -> PyTree:
        """The fold after one more batch: pure, and the same on every device.

        Args:
          name: of the context.
          fold: before.
          state: of the networks that it is measured with.
          key: of the run.
          batch: this device's share.
          weights: 1, or 0 for what only fills up the last batch.
          reduce: sums, means and gathers over the devices.
        """
        raise NotImplementedError(f"{type(self).__name__}.context_visit for '{name}'")

    def context_finish(self, name: str, fold: PyTree) -> PyTree:
        """What `TrainState.context` is to hold, from the fold over all batches."""
        del name
        return fold

    def begin(
        self, state: TrainState, key: Key[Array, ""], batches: Iterator[Examples]
    ) -> TrainState:
        """What has to be measured on examples before the first step.

        Runs once, on the host, after all `components` are in place; not when a run goes
        on. What is a fold over batches is a context instead.

        Args:
          state: as `init` made it.
          key: of the run.
          batches: whole batches, the same in every process, without end.
        """
        del key, batches
        return state

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], batch: Examples) -> TrainState:
        """The state before the first step.

        Args:
          key: of the run.
          batch: of which only shapes matter, ``[B, ...]``.
        """

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
        """What the Detector needs: the averaged parameters if there are any, the
        statistics, and frozen networks and contexts where there are some."""
        known = {"params": state.averaged, "statistics": state.statistics}
        others = {"frozen": state.frozen, "context": state.context}
        return known | {name: tree for name, tree in others.items() if tree}

    def detector(self) -> Detector | None:
        """The Detector that goes with these settings, if the paper ends in one."""
        return None

    @final
    def first_contexts(self, state: TrainState, batch: Examples) -> PyTree:
        """Zeros in the shapes of all contexts, until they are measured."""

        def one(name):
            return self.context_finish(name, self.context_start(name, state, batch))

        shapes = {
            name: jax.eval_shape(lambda n=name: one(n)) for name in self.contexts()
        }
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    @final
    def check_precomputed(self, batch: Examples) -> None:
        """Refuse what is of no use here.

        Raises:
          AnojaxError: there are precomputed anomalies, and the task makes its own.
        """
        if batch.precomputed is not None and not self.accepts_precomputed:
            raise AnojaxError(
                f"{self.name}, stage {self.stage}, cannot learn from precomputed anomalies; "
                "give data.input, not data.precomputed"
            )

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
          batch: its `precomputed` anomalies are taken as they are; otherwise the
            method runs on `inputs`, whose images may be uint8 or (augmented) float32.
          clean_share: each example stays clean with this probability: its image (its
            features, for methods that change those) is returned, with an empty mask.
          params: of the synthesizer, for instance ``state.frozen``.

        Raises:
          MissingInput: features that stay clean are not among the inputs.
        """
        if batch.precomputed is not None:
            out = _to_float(batch.precomputed)
        else:
            own = stream(key, self.synth.name)  # == method_key(seed, name)
            run, draws = over_examples(self.synth), jnp.zeros_like(batch.ids)
            out = run(params or {}, own, batch.bank, batch.ids, draws, batch.inputs)
        if not clean_share:
            return out
        keys = self.example_keys(key, batch, "clean")
        clean = jax.vmap(lambda k: jax.random.bernoulli(k, clean_share))(keys)
        each = clean[:, None, None, None]
        if out.image is None:
            out = out.replace(features=_clean_features(clean, batch, out))
        else:
            out = out.replace(image=jnp.where(each, batch.images, out.image))
        return out.replace(
            mask=jnp.where(each, 0.0, out.mask),
            alpha=jnp.where(each, 0.0, out.alpha),
            label=jnp.where(clean, 0, out.label),
            anomalous=out.anomalous & ~clean,
        )


def _clean_features(clean: Array, batch: Examples, out: Synthesis) -> PyTree:
    if batch.inputs.features is None:
        raise MissingInput(
            "a share of clean features needs the features of the normal images among "
            "the inputs; extract them before the draw"
        )

    def choose(normal, changed):
        each = clean.reshape(-1, *(1,) * (changed.ndim - 1))
        return jnp.where(each, normal, changed)

    return jax.tree.map(choose, batch.inputs.features, out.features)


def _to_float(precomputed: Synthesis) -> Synthesis:
    # Any value above 0 is part of the defect, also in float masks.
    mask = (precomputed.mask > 0).astype(jnp.float32)
    image, alpha = in_unit_range(precomputed.image), in_unit_range(precomputed.alpha)
    return precomputed.replace(image=image, mask=mask, alpha=alpha)
