"""The settings of a sampler, and the numbers of all its steps, computed on the host.

Every sampler here is linear in what a step knows: x, the predicted x_0 and epsilon, and
those of the step before. So a sampler is a table of coefficients, one row for each
evaluation of the network, and one loop (`samplers.sample`) serves them all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from anojax.diffusion.schedules import (
    SPACINGS,
    Grid,
    Schedule,
    alphas_cumprod,
    at_timesteps,
    respace,
    timestep_grid,
)
from anojax.errors import SettingError

KINDS = ("ddpm", "ddim", "cold", "euler", "heun", "dpmpp_2m")

Levels = Float64[np.ndarray, " n"]
Terms = dict[str, Float[np.ndarray, " _"]]
"""Coefficients by what they multiply: ``x``, ``x0``, ``epsilon`` of this evaluation, and
``last_x``, ``last_x0``, ``last_epsilon`` of the one before."""


@dataclass(frozen=True)
class Sampler:
    """Which steps are taken, and by which rule.

    ``ddpm``: ancestral (Ho et al. 2020); ``ddim`` with `eta` (Song et al. 2021, eq. 12);
    ``cold``: swaps the noise level of x in place (algorithm 2 of `Bansal et al. 2022
    <https://arxiv.org/abs/2208.09392>`_), as Defect-Gen does; ``euler`` and ``heun`` in
    σ / α (`Karras et al. 2022 <https://arxiv.org/abs/2206.00364>`_, algorithm 1 without
    churn); ``dpmpp_2m``: DPM-Solver++(2M) (`Lu et al. 2022
    <https://arxiv.org/abs/2211.01095>`_, algorithm 2). ``heun`` evaluates the network
    2 steps - 1 times, the others once a step.
    """

    kind: str = "ddim"
    steps: int = 50
    """Timesteps that are visited."""
    spacing: str = "leading"
    """See `schedules.timestep_grid`; ``given``: by `timesteps`. As in diffusers,
    ``dpmpp_2m`` spaces one more by ``leading`` and ``linspace`` and leaves out the
    last."""
    offset: int = 0
    """Added to the timesteps of ``leading`` spacing."""
    timesteps: tuple[int, ...] = ()
    """The grid itself, largest first, for spacing ``given``."""
    eta: float = 0.0
    """Noise of ``ddim`` in [0, 1]: 0 is deterministic, 1 as much as ``ddpm``."""
    clip: tuple[float, float] | None = None
    """Range to which the predicted x_0 is clipped; ``None`` leaves it."""
    rederive_epsilon: bool = True
    """Whether epsilon follows from the clipped x_0 (ADM, GLIDE) or stays what the
    network saw. Only ``ddim`` has the choice: ``cold`` keeps the network's, ``euler``
    and ``heun`` follow x_0, the others use no epsilon."""
    final: str = "zero"
    """Where the last step ends: ``zero`` noise, or the noise of timestep 0
    (``sigma_min``; for ``ddim``, ``euler`` and ``dpmpp_2m``)."""

    def __post_init__(self):
        _choose("kind", self.kind, KINDS)
        _choose("spacing", self.spacing, (*SPACINGS, "given"))
        _choose("final", self.final, ("zero", "sigma_min"))
        grid = self.timesteps
        if (self.spacing == "given") != bool(grid):
            raise SettingError(
                f"sampler: timesteps {grid} do not fit spacing '{self.spacing}'; "
                "give both (spacing: given) or neither"
            )
        if grid and (len(grid) != self.steps or grid != tuple(sorted({*grid}))[::-1]):
            raise SettingError(
                f"sampler: timesteps are {grid}; give {self.steps} (steps) of them, "
                "each smaller than the one before"
            )
        if not 0 <= self.eta <= 1 or (self.eta and self.kind != "ddim"):
            raise SettingError(
                f"sampler: eta is {self.eta} for '{self.kind}'; "
                "ddim takes 0 to 1, others 0"
            )
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise SettingError(f"sampler: clip is {self.clip}; give (low, high)")
        if not self.rederive_epsilon and self.kind != "ddim":
            raise SettingError(
                f"sampler: rederive_epsilon is off for '{self.kind}'; only ddim has it"
            )
        if self.final == "sigma_min" and self.kind in ("ddpm", "cold", "heun"):
            raise SettingError(
                f"sampler: '{self.kind}' ends without noise; final must be zero"
            )

    def grid(self, schedule: Schedule) -> Grid:
        """The timesteps in the order in which they are visited, largest first."""
        if self.timesteps:
            return self.timesteps
        total = schedule.steps
        if self.kind == "dpmpp_2m" and self.spacing in ("leading", "linspace"):
            more = self.steps + 1
            return timestep_grid(total, more, self.spacing, offset=self.offset)[:-1]
        return timestep_grid(total, self.steps, self.spacing, offset=self.offset)

    def levels(self, schedule: Schedule) -> Levels:
        """ᾱ on the grid, and where the last step ends: steps + 1 rising numbers."""
        last = 1.0 if self.final == "zero" else alphas_cumprod(schedule)[0]
        return np.append(at_timesteps(schedule, self.grid(schedule)), last)

    def index_below(self, schedule: Schedule, timestep: int) -> int:
        """How many steps are at `timestep` or above: the index of the first below.

        ``stop=index_below(schedule, u)`` for one network and the same as ``start`` for
        another hand x over at timestep u.
        """
        return sum(t >= timestep for t in self.grid(schedule))


def rows(
    schedule: Schedule, sampler: Sampler, start: int = 0, stop: int | None = None
) -> dict[str, Any]:
    """What each evaluation of the network from step `start` up to `stop` needs.

    Args:
      schedule: of the noise.
      sampler: its settings.
      start: index of the first step taken.
      stop: index of the first step not taken; ``None``: all are.

    Returns:
      Arrays with one entry per evaluation: ``index`` of the step, ``t`` for the
      network, ``alpha`` and ``sigma`` of its input, ``terms``, the coefficients of its
      result, and for ``ddpm`` and ``ddim`` the ``deviation`` of the noise that does not
      depend on the network, ``noisy`` (0 at the last step, else 1), and the variances
      ``log_small`` and ``log_large``.

    Raises:
      SettingError: steps that the sampler does not have.
    """
    stop = sampler.steps if stop is None else stop
    if not 0 <= start <= stop <= sampler.steps:
        raise SettingError(
            f"steps {start} to {stop} are requested; the sampler has 0 to "
            f"{sampler.steps}"
        )
    grid, levels = sampler.grid(schedule), sampler.levels(schedule)
    index = np.arange(sampler.steps)
    columns: dict[str, Any] = {}
    if sampler.kind == "heun":
        index, chosen = _heun_order(sampler.steps), slice(2 * start, 2 * stop)
        terms = heun(levels[:-1], levels[1:])
    else:
        chosen = slice(start, stop)
        terms = _terms(sampler, levels, start)
    if sampler.kind in ("ddpm", "ddim"):
        process = respace(levels[:-1][::-1])
        columns |= {
            "deviation": ddim_deviation(levels[:-1], levels[1:], sampler.eta),
            "noisy": index < sampler.steps - 1,
            "log_small": process.log_posterior[::-1],
            "log_large": process.log_beta[::-1],
        }
    columns |= {"alpha": np.sqrt(levels[index]), "sigma": np.sqrt(1 - levels[index])}
    columns = {name: values.astype(np.float32) for name, values in columns.items()}
    whole = isinstance(grid[0], int)
    columns["t"] = np.asarray(grid, np.int32 if whole else np.float32)[index]
    columns["index"] = index.astype(np.int32)
    columns = {name: values[chosen] for name, values in columns.items()}
    columns["terms"] = {k: v.astype(np.float32)[chosen] for k, v in terms.items()}
    return columns


def _terms(sampler: Sampler, levels: Levels, start: int) -> Terms:
    now, then = levels[:-1], levels[1:]
    if sampler.kind == "ddpm":
        process = respace(now[::-1])
        return {"x0": process.posterior_x0[::-1], "x": process.posterior_xt[::-1]}
    if sampler.kind == "ddim":
        return ddim(now, then, sampler.eta)
    if sampler.kind == "cold":
        return cold(now, then)
    if sampler.kind == "euler":
        return euler(now, then)
    # Without noise at the end there is no second order, and few steps do without.
    first_order_end = sampler.final == "zero" or sampler.steps < 15
    return dpmpp_2m(now, then, start, first_order_end)


def ddim_deviation(now: Levels, then: Levels, eta: float) -> Levels:
    """σ of eq. 16 of Song et al. 2021, from ᾱ before (`now`) and after (`then`)."""
    if not eta:
        return np.zeros_like(now)
    return eta * np.sqrt((1 - then) / (1 - now) * (1 - now / then))


def ddim(now: Levels, then: Levels, eta: float) -> Terms:
    """Eq. 12 of Song et al. 2021; towards more noise it is the inversion."""
    left = 1 - then - ddim_deviation(now, then, eta) ** 2
    return {"x0": np.sqrt(then), "epsilon": np.sqrt(np.maximum(left, 0))}


def cold(now: Levels, then: Levels) -> Terms:
    """x minus itself at the old noise level plus itself at the new; x_0 at the end."""
    clean = then == 1
    return {
        "x": np.where(clean, 0.0, 1.0),
        "x0": np.where(clean, 1.0, np.sqrt(then) - np.sqrt(now)),
        "epsilon": np.where(clean, 0.0, np.sqrt(1 - then) - np.sqrt(1 - now)),
    }


def euler(now: Levels, then: Levels) -> Terms:
    """x / α moves by the change of σ / α times epsilon."""
    change = np.sqrt((1 - then) / then) - np.sqrt((1 - now) / now)
    return {"x": np.sqrt(then / now), "epsilon": np.sqrt(then) * change}


def heun(now: Levels, then: Levels) -> Terms:
    """An Euler step to the next level, then the same again with the mean epsilon.

    The last step ends without noise, where no second evaluation is possible.
    """
    first = euler(now, then)
    both = {name: np.zeros(2 * len(now) - 1) for name in ("x", "epsilon")}
    both |= {name: np.zeros(2 * len(now) - 1) for name in ("last_x", "last_epsilon")}
    both["x"][::2] = first["x"]
    both["epsilon"][::2] = first["epsilon"]
    both["last_x"][1::2] = first["x"][:-1]
    both["epsilon"][1::2] = both["last_epsilon"][1::2] = first["epsilon"][:-1] / 2
    return both


def _heun_order(steps: int) -> np.ndarray:
    # The second evaluation of a step is at the next step's timestep.
    return (np.arange(2 * steps - 1) + 1) // 2


def dpmpp_2m(now: Levels, then: Levels, start: int, first_order_end: bool) -> Terms:
    """Eqs. of algorithm 2 of Lu et al. 2022, with half-log-SNR λ = log(α / σ).

    First order where the step before is unknown: at `start`.
    """

    def half_log_snr(level):
        with np.errstate(divide="ignore"):
            return (np.log(level) - np.log1p(-level)) / 2

    before = half_log_snr(now)
    h = half_log_snr(then) - before
    extrapolation = np.zeros_like(h)
    extrapolation[1:] = h[1:] / (2 * np.diff(before))
    extrapolation[start : start + 1] = 0
    if first_order_end:
        extrapolation[-1] = 0
    weight = -np.sqrt(then) * np.expm1(-h)
    return {
        "x": np.sqrt((1 - then) / (1 - now)),
        "x0": weight * (1 + extrapolation),
        "last_x0": -weight * extrapolation,
    }


def _choose(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingError(
            f"sampler: {name} is '{value}'; choose one of {', '.join(known)}"
        )
