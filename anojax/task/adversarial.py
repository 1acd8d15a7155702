"""Tasks of several networks that are moved in turn: generators against their critics.

Every update moves one player, with the others as they are at that moment; within a step
updates follow each other in the order that the task declares. Everything is one jitted
step with `reduce` injected, like that of any other task.
"""

import abc
import dataclasses
from dataclasses import dataclass
from typing import Any, final

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.errors import SettingError
from anojax.fields import check_fields, hp
from anojax.optim import Optimizer, ema_update, rising_decay
from anojax.random import stream
from anojax.task.base import Task
from anojax.task.state import Examples, Metrics, Reduce, TrainState
from anojax.types import PyTree

HELD = "held"
"""Beside the moments of the optimizers: the last metrics of updates that pause."""


@dataclass(frozen=True)
class Player:
    """Networks that are moved together, and how."""

    optimizer: Optimizer = Optimizer("adam", 2e-4, betas=(0.5, 0.999))
    ema_decay: float = hp(
        0.0, "decay of the averaged parameters; 0: none are kept", low=0.0, high=1.0
    )
    ema_warmup: float | None = hp(
        None,
        "step k averages with a decay of at most (1 + k) / (this + k); none: no bound",
        low=1.0,
    )

    def __post_init__(self):
        check_fields("player", self)


@dataclass(frozen=True)
class Update:
    """One of the updates of a step.

    >>> Update("critic", repeats=5).loss
    'critic'
    >>> Update("critic", "penalty", every=16).loss
    'penalty'
    """

    player: str
    """Who moves."""
    name: str | None = None
    """Of its loss; that of the player when absent."""
    every: int = 1
    """Runs at the steps that this divides: a lazy regularizer, or a generator that waits
    for a critic's steps on fresh images. Step 0 is one of them."""
    repeats: int = 1
    """Times in a row, on the same images with fresh keys."""

    def __post_init__(self):
        if self.every < 1 or self.repeats < 1:
            raise SettingError(
                f"update of {self.player}: every is {self.every} and repeats is "
                f"{self.repeats}; both are at least 1"
            )

    @property
    def loss(self) -> str:
        """The name that its loss, its keys and its metrics go by."""
        return self.player if self.name is None else self.name


@dataclass(frozen=True)
class AdversarialTask(Task):
    """A task whose fields of the type `Player` are moved in turn.

    Implement `updates`, `init_networks` and `loss`. `TrainState.params` has an entry for
    each player; `TrainState.ema` has one for each that is averaged.
    """

    dtype: str = hp(
        "float32",
        "number type of the computation; on accelerators bfloat16 is the choice, with "
        "parameters, statistics and losses in float32 all the same",
        choices=("float32", "bfloat16"),
    )

    def players(self) -> dict[str, Player]:
        """All players by name: the fields that are one."""
        every = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: one for name, one in every.items() if isinstance(one, Player)}

    @abc.abstractmethod
    def updates(self) -> tuple[Update, ...]:
        """The updates of a step, in their order."""

    @abc.abstractmethod
    def init_networks(
        self, key: Key[Array, ""], batch: Examples
    ) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
        """Parameters (float32) of every player by its name, and statistics by theirs."""

    def init_frozen(self, key: Key[Array, ""], batch: Examples) -> dict[str, PyTree]:
        """Networks that are not trained, by name, before `components` take their place."""
        del key, batch
        return {}

    def share(
        self, state: TrainState, key: Key[Array, ""], batch: Examples, reduce: Reduce
    ) -> tuple[PyTree, dict[str, PyTree]]:
        """What all updates of a step may use, made by the networks as they were before
        it: synthetic anomalies, or images that a critic sees after their generator has
        moved on.

        Args:
          state: before the step.
          key: of the run, as `Task.draw` wants it.
          batch: this device's share, ``[B, ...]``.
          reduce: what the devices know together.

        Returns:
          What is shared, and the statistics that change (others stay).
        """
        del state, key, batch, reduce
        return None, {}

    @abc.abstractmethod
    def loss(
        self,
        name: str,
        state: TrainState,
        key: Key[Array, ""],
        batch: Examples,
        shared: PyTree,
        reduce: Reduce,
    ) -> tuple[Float[Array, ""], tuple[dict[str, PyTree], Metrics]]:
        """The loss of one update.

        Args:
          name: `Update.loss`.
          state: the networks as they are now. The gradient is taken of the entry of the
            update's player in `params`, and of nothing else.
          key: of this update and repeat, the same at every step; see `example_keys`.
          batch: this device's share, ``[B, ...]``.
          shared: from `share`.
          reduce: what the devices know together.

        Returns:
          A mean over the examples, and the statistics that change (others stay) with
          scalars to log.
        """

    def transform(self, player: str) -> optax.GradientTransformation:
        """The update rule of a player; its schedule counts the player's updates."""
        per_step = sum(
            u.repeats / u.every for u in self.updates() if u.player == player
        )
        steps = max(1, round(self.steps * per_step))
        return self.players()[player].optimizer.build(steps)

    @property
    def compute_dtype(self) -> Any:
        """What networks compute in; parameters and losses stay float32."""
        return jnp.bfloat16 if self.dtype == "bfloat16" else jnp.float32

    @final
    def init(self, key: Key[Array, ""], batch: Examples) -> TrainState:
        self.check_precomputed(batch)
        self._check_updates()
        params, statistics = self.init_networks(stream(key, "init"), batch)
        averaged = [n for n, player in self.players().items() if player.ema_decay]
        moments = {n: self.transform(n).init(params[n]) for n in self.players()}
        state = TrainState(
            params=params,
            statistics=statistics,
            opt_state=moments,
            ema={n: jax.tree.map(jnp.copy, params[n]) for n in averaged} or None,
            step=jnp.zeros((), jnp.int32),
            frozen=self.init_frozen(stream(key, "frozen"), batch),
        )
        state = state.replace(context=self.first_contexts(state, batch))
        held = jax.eval_shape(lambda s: self._held(s, key, batch), state)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), held)
        return state.replace(opt_state={**moments, HELD: zeros})

    @final
    def step(
        self, state: TrainState, key: Key[Array, ""], batch: Examples, reduce: Reduce
    ) -> tuple[TrainState, Metrics]:
        shared, changed = self.share(state, key, batch, reduce)
        state = _with_statistics(state, reduce(changed))
        metrics = {}
        for update in self.updates():
            state, found = self._run(update, state, key, batch, shared, reduce)
            metrics |= {f"{update.loss}/{name}": x for name, x in found.items()}
        state = self._average(state)
        return state.replace(step=state.step + 1), metrics

    def _run(self, update, state, key, batch, shared, reduce):
        """An update, if it is its turn; its metrics, or those of its last turn."""

        def move(state):
            return self._move(update, state, key, batch, shared, reduce)

        if update.every == 1:
            return move(state)

        def wait(state):
            return state, state.opt_state[HELD][update.loss]

        turn = state.step % update.every == 0
        state, found = lax.cond(turn, move, wait, state)
        held = {**state.opt_state[HELD], update.loss: found}
        return state.replace(opt_state={**state.opt_state, HELD: held}), found

    def _move(self, update, state, key, batch, shared, reduce):
        rule, found = self.transform(update.player), {}
        for repeat in range(update.repeats):
            own = jax.random.fold_in(stream(key, update.loss), repeat)

            def loss(params, state=state, own=own):
                known = state.replace(params={**state.params, update.player: params})
                return self.loss(update.loss, known, own, batch, shared, reduce)

            before = state.params[update.player]
            (value, (changed, found)), gradients = jax.value_and_grad(
                loss, has_aux=True
            )(before)
            found = {"loss": value, **found}
            gradients, changed, found = reduce((gradients, changed, found))
            moves, moments = rule.update(
                gradients, state.opt_state[update.player], before
            )
            after = optax.apply_updates(before, moves)
            state = _with_statistics(state, changed).replace(
                params={**state.params, update.player: after},
                opt_state={**state.opt_state, update.player: moments},
            )
            found["gradient_norm"] = optax.tree.norm(gradients)
        return state, found

    def _average(self, state: TrainState) -> TrainState:
        """Averages follow in the steps in which their players moved."""
        if state.ema is None:
            return state
        ema = {}
        for name, average in state.ema.items():
            player, decay = self.players()[name], self.players()[name].ema_decay
            if player.ema_warmup is not None:
                decay = rising_decay(decay, player.ema_warmup, state.step + 1)
            new = ema_update(average, state.params[name], decay)
            every = [u.every for u in self.updates() if u.player == name]
            if 1 not in every:
                turns = [state.step % n == 0 for n in every]
                moved = jnp.stack(turns).any()
                new = jax.tree.map(
                    lambda a, b, moved=moved: jnp.where(moved, a, b), new, average
                )
            ema[name] = new
        return state.replace(ema=ema)

    def _held(self, state, key, batch):
        shared, changed = self.share(state, key, batch, Reduce())
        state = _with_statistics(state, changed)
        return {
            update.loss: self._move(update, state, key, batch, shared, Reduce())[1]
            for update in self.updates()
            if update.every > 1
        }

    def _check_updates(self) -> None:
        updates, players = self.updates(), self.players()
        names = [update.loss for update in updates]
        unknown = [u.player for u in updates if u.player not in players]
        if unknown or len(set(names)) < len(names):
            raise SettingError(
                f"{self.name}, stage {self.stage}: updates {', '.join(names)} must have "
                f"names of their own, and move one of {', '.join(players)}"
            )
        if idle := players.keys() - {update.player for update in updates}:
            raise SettingError(
                f"{self.name}, stage {self.stage}: no update moves {', '.join(idle)}"
            )


def _with_statistics(state: TrainState, changed: dict[str, PyTree]) -> TrainState:
    return state.replace(statistics={**state.statistics, **changed})
