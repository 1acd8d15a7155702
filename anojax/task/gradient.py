"""Tasks with one loss and one optimizer."""

import abc
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.errors import AnojaxError
from anojax.fields import hp
from anojax.optim import Optimizer, ema_update, rising_decay
from anojax.random import stream
from anojax.task.base import Task
from anojax.task.state import Examples, Metrics, Reduce, TrainState
from anojax.types import PyTree


@dataclass(frozen=True)
class GradientTask(Task):
    """A task with one loss and one optimizer: implement `init_networks` and `loss`."""

    optimizer: Optimizer = Optimizer()
    ema_decay: float = hp(
        0.0, "decay of the averaged parameters; 0: none are kept", low=0.0, high=1.0
    )
    ema_warmup: float | None = hp(
        None,
        "update k averages with a decay of at most (1 + k) / (this + k); none: no bound",
        low=1.0,
    )
    accumulate: int = hp(
        1, "parts in which a device's batch is computed, one after the other", low=1
    )
    dtype: str = hp(
        "float32",
        "number type of the computation; on accelerators bfloat16 is the choice, with "
        "parameters, statistics and losses in float32 all the same",
        choices=("float32", "bfloat16"),
    )

    @abc.abstractmethod
    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[PyTree, PyTree]:
        """Parameters (float32) and statistics before the first step."""

    def init_frozen(self, key: Key[Array, ""], batch: Examples) -> dict[str, PyTree]:
        """Networks that are not trained, by name, before `components` take their place."""
        del key, batch
        return {}

    @abc.abstractmethod
    def loss(
        self,
        params: PyTree,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
        """The mean loss of a batch, the new statistics, and scalars to log.

        Everything must be a mean over examples, so that a mean over devices of equal
        shares is the mean over the batch; what is none goes through ``reduce.gather``.
        Networks take ``dtype=self.compute_dtype`` and BatchNorm takes
        ``axis_name=reduce.axis``; losses are float32.

        Args:
          params: what the gradient is taken of; `state` holds them, too.
          state: its `statistics`, `frozen` networks, `context`, `ema` and `step`.
          key: of the run.
          batch: this device's share, ``[B, ...]``.
          reduce: what the devices know together.
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
        self.check_precomputed(batch)
        params, statistics = self.init_networks(stream(key, "init"), batch)
        state = TrainState(
            params=params,
            statistics=statistics,
            opt_state=self.transform().init(params),
            ema=jax.tree.map(jnp.copy, params) if self.ema_decay else None,
            step=jnp.zeros((), jnp.int32),
            frozen=self.init_frozen(stream(key, "frozen"), batch),
        )
        return state.replace(context=self.first_contexts(state, batch))

    @final
    def step(
        self, state: TrainState, key: Key[Array, ""], batch: Examples, reduce: Reduce
    ) -> tuple[TrainState, Metrics]:
        gradients, statistics, metrics = reduce(
            self._gradients(state, key, batch, reduce)
        )
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
        state = state.replace(
            params=params,
            statistics=statistics,
            opt_state=opt_state,
            ema=ema,
            step=state.step + 1,
        )
        return state, metrics

    def _gradients(self, state, key, batch, reduce):
        def part(statistics, examples):
            def loss(params):
                known = state.replace(params=params, statistics=statistics)
                return self.loss(params, known, key, examples, reduce)

            (value, (new, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(
                state.params
            )
            return new, (gradients, {"loss": value, **metrics})

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


def _split(batch: Examples, parts: int) -> Examples:
    size = batch.ids.shape[0]
    if size % parts:
        raise AnojaxError(
            f"accumulate is {parts}, but a device has {size} examples; "
            f"choose a divisor of {size}"
        )
    split = partial(rearrange, pattern="(parts b) ... -> parts b ...", parts=parts)
    return jax.tree.map(split, batch)
