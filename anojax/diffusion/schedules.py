"""Noise schedules, their tables, and grids of timesteps.

Everything here but `add_noise` runs on the host, in float64: ``1 - ᾱ`` loses most of
its digits in float32 where there is little noise.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int

from anojax.errors import SettingError

KINDS = ("linear", "scaled_linear", "cosine")
SPACINGS = ("leading", "linspace", "trailing", "ddim", "interpolated")

Grid = tuple[int, ...] | tuple[float, ...]
"""Timesteps in the order in which a sampler visits them, largest first."""


@dataclass(frozen=True)
class Schedule:
    """How the noise grows.

    ``linear`` β (`Ho et al. 2020 <https://arxiv.org/abs/2006.11239>`_);
    ``scaled_linear``, linear in √β (Stable Diffusion); ``cosine`` (eq. 17 of `Nichol &
    Dhariwal 2021 <https://arxiv.org/abs/2102.09672>`_; "squaredcos_cap_v2" elsewhere).
    """

    kind: str = "linear"
    steps: int = 1000
    """T, the timesteps of training."""
    beta_range: tuple[float, float] | None = None
    """First and last β. ``None``: 1e-4 and 0.02 times 1000 / T for ``linear``, 8.5e-4
    and 0.012 for ``scaled_linear``; ``cosine`` has none."""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise SettingError(
                f"schedule is '{self.kind}'; choose one of {', '.join(KINDS)}"
            )
        if self.steps < 1:
            raise SettingError(f"a schedule has {self.steps} steps; give at least 1")
        if self.kind == "cosine":
            if self.beta_range is not None:
                raise SettingError("the cosine schedule has no beta_range; leave it")
            return
        low, high = self._range()
        if not 0 < low <= high < 1:
            raise SettingError(
                f"betas run from {low:g} to {high:g}; they must rise within (0, 1): "
                "take more steps or another beta_range"
            )

    def _range(self) -> tuple[float, float]:
        if self.beta_range is not None:
            return self.beta_range
        if self.kind == "scaled_linear":
            return 0.00085, 0.012
        return 0.1 / self.steps, 20 / self.steps


@lru_cache(maxsize=64)
def betas(schedule: Schedule) -> Float64[np.ndarray, " t"]:
    """β_t, the variance that timestep t adds.

    Example:
      >>> betas(Schedule("linear", steps=100)).round(3)[:3].tolist()
      [0.001, 0.003, 0.005]
    """
    if schedule.kind == "cosine":
        u = np.arange(schedule.steps + 1) / schedule.steps
        alpha_bar = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
        return _frozen(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))
    low, high = schedule._range()
    if schedule.kind == "linear":
        return _frozen(np.linspace(low, high, schedule.steps))
    return _frozen(np.linspace(low**0.5, high**0.5, schedule.steps) ** 2)


@lru_cache(maxsize=64)
def alphas_cumprod(schedule: Schedule) -> Float64[np.ndarray, " t"]:
    """ᾱ_t, the share of the image's variance that is left at timestep t.

    Example:
      >>> alphas_cumprod(Schedule("cosine", steps=4)).round(3).tolist()
      [0.847, 0.494, 0.144, 0.0]
    """
    return _frozen(np.cumprod(1 - betas(schedule)))


class Tables(NamedTuple):
    """What a step of the process needs, for each of its n timesteps, smallest first."""

    alpha: Float32[np.ndarray, " n"]
    """√ᾱ."""
    sigma: Float32[np.ndarray, " n"]
    """√(1 - ᾱ)."""
    posterior_x0: Float32[np.ndarray, " n"]
    """Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0); 1 at the first."""
    posterior_xt: Float32[np.ndarray, " n"]
    """Weight of x_t in that mean; 0 at the first."""
    log_beta: Float32[np.ndarray, " n"]
    """log β, the largest sensible variance of a reverse step."""
    log_posterior: Float32[np.ndarray, " n"]
    """log β̃, the smallest; the first, -∞, is replaced by the second."""


def respace(kept: Float64[np.ndarray, " n"]) -> Tables:
    """Tables of the process that has only some of the timesteps.

    Args:
      kept: ᾱ at the timesteps that remain, smallest timestep first (so it falls).

    β is 1 - ᾱ_i / ᾱ_{i-1} along the kept ones; the posterior is eq. 7 of Ho et al.
    """
    before = np.append(1.0, kept[:-1])
    beta = 1 - kept / before
    variance = beta * (1 - before) / (1 - kept)
    # No variance is left at the first timestep, whose logarithm is requested all the
    # same; a process of one timestep has no second to lend its own.
    variance[0] = variance[1] if len(kept) > 1 else beta[0]
    columns = (
        np.sqrt(kept),
        np.sqrt(1 - kept),
        beta * np.sqrt(before) / (1 - kept),
        (1 - before) * np.sqrt(kept / before) / (1 - kept),
        np.log(beta),
        np.log(variance),
    )
    return Tables(*(_frozen(column.astype(np.float32)) for column in columns))


@lru_cache(maxsize=64)
def tables(schedule: Schedule) -> Tables:
    """Tables of all timesteps of a schedule."""
    return respace(alphas_cumprod(schedule))


def gather(
    table: Float32[np.ndarray, " t"], t: Int[Array, " b"]
) -> Float[Array, "b 1 1 1"]:
    """A table's entries for a batch, shaped to multiply images."""
    return jnp.asarray(table)[t][:, None, None, None]


def add_noise(
    x0: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    t: Int[Array, " b"],
    *,
    schedule: Schedule,
) -> Float[Array, "b h w c"]:
    """x_t ~ q(x_t | x_0) for standard normal `noise` (eq. 4 of Ho et al.).

    Args:
      x0: clean images.
      noise: standard normal, of their shape.
      t: a timestep for each, from 0 to T - 1.
      schedule: of the noise.

    Example:
      >>> x0 = jnp.ones((1, 4, 4, 1))
      >>> noisy = add_noise(x0, -x0, jnp.asarray([999]), schedule=Schedule())
      >>> round(float(noisy.mean()), 2)
      -0.99
    """
    known = tables(schedule)
    return gather(known.alpha, t) * x0 + gather(known.sigma, t) * noise


def timestep_grid(total: int, steps: int, spacing: str, *, offset: int = 0) -> Grid:
    """`steps` of the timesteps 0 … `total` - 1, largest first.

    ``leading``: multiples of ⌊total / steps⌋ plus `offset`; ``linspace``: evenly from
    total - 1 to 0, rounded; ``trailing``: downwards from total - 1 in strides of
    total / steps (`Lin et al. 2023 <https://arxiv.org/abs/2305.08891>`_, table 2);
    ``ddim``: multiples of the smallest stride that gives as many (ADM's "ddimN");
    ``interpolated``: as ``linspace``, not rounded ("linspace" of the Euler and Heun
    schedulers of diffusers).

    Args:
      total: T, the timesteps of training.
      steps: how many are taken, from 1 to `total`.
      spacing: one of the above.
      offset: is added to ``leading``; 0 with all others.

    Raises:
      SettingError: an unknown spacing, an offset that does not fit, or a number of
        steps that cannot be taken.

    Example:
      >>> timestep_grid(1000, 4, "trailing")
      (999, 749, 499, 249)
    """
    if not 1 <= steps <= total:
        raise SettingError(f"a sampler has {steps} steps; take 1 to {total}")
    if offset and spacing != "leading":
        raise SettingError(f"offset is {offset}; only leading spacing has one")
    i = np.arange(steps)
    if spacing == "leading":
        grid = i[::-1] * (total // steps) + offset
    elif spacing == "linspace":
        grid = np.linspace(0, total - 1, steps)[::-1].round()
    elif spacing == "interpolated":
        return tuple(np.linspace(0, total - 1, steps)[::-1].tolist())
    elif spacing == "trailing":
        grid = np.round(total - i * (total / steps)) - 1
    elif spacing == "ddim":
        strides = (k for k in range(1, total + 1) if -(-total // k) == steps)
        stride = next(strides, None)
        if stride is None:
            raise SettingError(
                f"no stride through {total} timesteps takes {steps}; "
                "choose another number of steps, or linspace"
            )
        grid = i[::-1] * stride
    else:
        raise SettingError(
            f"spacing is '{spacing}'; choose one of {', '.join(SPACINGS)}"
        )
    if not 0 <= grid[-1] <= grid[0] < total:
        raise SettingError(
            f"offset {offset} puts timestep {grid[0]:g} outside 0 to {total - 1}"
        )
    return tuple(int(t) for t in grid)


def split_grid(total: int, at: int, above: int, below: int) -> tuple[int, ...]:
    """`above` timesteps evenly from `total` - 1 to `at`, `below` from `at` - 1 to 0.

    For two networks that share the work (Defect-Gen): the first `above` steps are the
    first one's. ``at=0`` needs ``below=0``, and ``at=total`` needs ``above=0``.

    Args:
      total: T, the timesteps of training.
      at: where the second network begins, from 0 to `total`.
      above: steps of the first network.
      below: steps of the second one.

    Raises:
      SettingError: a part has more steps than timesteps, or none where it needs some.

    Example:
      >>> split_grid(1000, at=400, above=3, below=2)
      (999, 700, 400, 399, 0)
    """
    fits = 0 <= above <= total - at and 0 <= below <= at
    needed = bool(above) == (at < total) and bool(below) == (at > 0)
    if not (0 <= at <= total and fits and needed):
        raise SettingError(
            f"{above} steps from {total - 1} to {at} and {below} from {at - 1} to 0 "
            "are not to be had; give both parts between 1 and all of their timesteps"
        )
    high = np.linspace(total - 1, at, above).round()
    low = np.linspace(at - 1, 0, below).round()
    return tuple(int(t) for t in np.concatenate([high, low]))


def at_timesteps(schedule: Schedule, grid: Grid) -> Float64[np.ndarray, " n"]:
    """ᾱ on a grid; between timesteps, √(1 - ᾱ) / √ᾱ is interpolated linearly.

    Raises:
      SettingError: the grid leaves the schedule.
    """
    known = alphas_cumprod(schedule)
    if not 0 <= grid[-1] <= grid[0] < len(known):
        raise SettingError(
            f"timesteps run from {grid[0]} to {grid[-1]}; "
            f"the schedule has 0 to {len(known) - 1}"
        )
    if isinstance(grid[0], int):
        return known[np.asarray(grid)]
    ratio = np.sqrt((1 - known) / known)
    return 1 / (1 + np.interp(grid, np.arange(len(known)), ratio) ** 2)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
