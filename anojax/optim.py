"""Optimizers as data: a frozen, comparable description that builds the optax rule.

A method's file states its paper's optimizer in one line, and a configuration changes
single numbers of it, because everything is a field. Times are fractions of the whole
run, so that the same description serves a run of 100 updates and one of 100 000.
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from anojax.errors import SettingError
from anojax.fields import check_fields, hp
from anojax.types import PyTree

RULES = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "linear", "drops")


@dataclass(frozen=True)
class Optimizer:
    """An update rule and its schedule.

    ``adam`` and ``sgd`` add `weight_decay` times the parameters to the gradient (the
    L2 penalty that PyTorch's rules of these names use); ``adamw`` decouples it.
    """

    rule: str = hp("adam", "update rule", choices=RULES)
    learning_rate: float = hp(1e-4, "highest learning rate", low=0.0)
    schedule: str = hp("constant", "how the rate falls", choices=SCHEDULES)
    drops: tuple[tuple[float, float], ...] = hp(
        (), "(fraction of the run, factor) of each drop; for schedule 'drops'", low=0.0
    )
    warmup: float = hp(
        0.0, "fraction of the run in which the rate rises from 0", low=0.0, high=1.0
    )
    weight_decay: float = hp(0.0, "strength of the weight decay", low=0.0)
    momentum: float | None = hp(None, "momentum of sgd; none is 0", low=0.0, high=1.0)
    betas: tuple[float, float] | None = hp(
        None,
        "decay of both averages of adam and adamw; none is (0.9, 0.999)",
        low=0.0,
        high=1.0,
    )
    clip_norm: float | None = hp(None, "largest norm of the whole gradient", low=0.0)

    def __post_init__(self):
        check_fields("optimizer", self)
        if self.momentum is not None and self.rule != "sgd":
            raise SettingError(f"optimizer: {self.rule} has no momentum; leave it out")
        if self.betas is not None and self.rule == "sgd":
            raise SettingError("optimizer: sgd has no betas; use momentum")
        if bool(self.drops) != (self.schedule == "drops"):
            raise SettingError(
                f"optimizer: drops {self.drops} do not fit schedule "
                f"'{self.schedule}'; give both (schedule: drops) or neither"
            )

    def rate(self, step: Int[Array, ""] | int, steps: int) -> Float[Array, ""]:
        """The learning rate of update `step` (0 is the first) in a run of `steps`."""
        done = jnp.asarray(step, jnp.float32) / steps
        if self.schedule == "cosine":
            fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
        elif self.schedule == "linear":
            fall = 1 - jnp.clip(done, 0, 1)
        else:
            fall = jnp.float32(1)
            for when, factor in self.drops:
                fall = fall * jnp.where(done >= when, factor, 1.0)
        # The first update of a warm-up is not wasted on a rate of exactly 0.
        rise = jnp.clip((done + 1 / steps) / self.warmup, 0, 1) if self.warmup else 1.0
        return jnp.float32(self.learning_rate) * fall * rise

    def lazily(self, every: int) -> "Optimizer":
        """For a player with a regularizer that runs at one step of `every`, as an update
        of its own: the rate and the decays of the moments make up for the one update
        more in `every` (StyleGAN2, appendix B).

        >>> Optimizer("adam", 0.0025, betas=(0.0, 0.99)).lazily(4).learning_rate
        0.002
        """
        share = every / (every + 1)
        b1, b2 = self.betas or (0.9, 0.999)
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate * share,
            betas=None if self.rule == "sgd" else (b1**share, b2**share),
        )

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax rule for a run of `steps` updates."""
        decay = optax.add_decayed_weights(self.weight_decay)
        b1, b2 = self.betas or (0.9, 0.999)
        parts = []
        if self.clip_norm is not None:
            parts.append(optax.clip_by_global_norm(self.clip_norm))
        if self.weight_decay and self.rule != "adamw":
            parts.append(decay)
        if self.rule == "sgd":
            if self.momentum:
                parts.append(optax.trace(self.momentum))
        else:
            parts.append(optax.scale_by_adam(b1, b2))
        if self.weight_decay and self.rule == "adamw":
            parts.append(decay)
        parts.append(
            optax.scale_by_learning_rate(lambda i: self.rate(jnp.asarray(i), steps))
        )
        return _promoting(optax.chain(*parts))


def _promoting(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    # optax mixes integer counts with floats, which strict promotion forbids.
    def update(gradients, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return rule.update(gradients, state, params)

    return optax.GradientTransformation(rule.init, update)


def rising_decay(
    decay: float, warmup: float, update: Int[Array, ""] | int
) -> Float[Array, ""]:
    """Decay that grows from small values: at first the average follows closely.

    Args:
      decay: the largest.
      warmup: at update k it is at most ``(1 + k) / (warmup + k)``, at least 1.
      update: number of this update; 1 is the first.
    """
    k = jnp.asarray(update, jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1 + k) / (warmup + k))


def ema_update(
    average: PyTree, params: PyTree, decay: float | Float[Array, ""]
) -> PyTree:
    """One step of the exponential moving average: ``decay a + (1 - decay) p``.

    Not corrected for its start: begin it as a copy of the first parameters.
    """
    return jax.tree.map(
        lambda a, p: (decay * a + (1 - decay) * p).astype(a.dtype), average, params
    )
