"""From noise to images: one loop for every sampler, and DDIM's way back.

``sample(model, keys, x, schedule=..., prediction=..., sampler=...)`` is pure and works
under `jit`; everything but the arrays is static.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from anojax.diffusion.plan import Sampler, ddim, rows
from anojax.diffusion.prediction import Images, Prediction, epsilon_of
from anojax.diffusion.schedules import Schedule, at_timesteps
from anojax.errors import AnojaxError
from anojax.random import stream

Model = Callable[[Array, Array], Array]
"""``(x [b h w c], t [b]) -> [b h w k]``; t is int32, or float32 on an interpolated
grid."""
Guide = Callable[[Array, Array], Array]
"""``(x [b h w c], t [b]) -> [b h w c]``: the gradient by x of the logarithm of a
likelihood that the images should have, times its weight."""
Keys = Key[Array, "*b"]
Some = Float[Array, "*b h w c"]


def sample(
    model: Model,
    keys: Keys | None,
    x: Some,
    *,
    schedule: Schedule,
    prediction: Prediction,
    sampler: Sampler,
    guide: Guide | None = None,
    strength: Float[Array, "*b"] | None = None,
    start: int = 0,
    stop: int | None = None,
) -> Some:
    """Take the steps `start` … `stop` - 1 of a sampler.

    A run in two parts, the second from where the first stopped, equals one run,
    except that ``dpmpp_2m`` takes its first step in each part in first order.

    Args:
      model: the network.
      keys: one per example; ``None`` if nothing is random. Step i draws `step_noise`.
      x: images at the noise level of step `start`, one or a batch: `initial_noise`,
        or `start_from` an image.
      schedule: of the noise.
      prediction: the meaning of the output of `model`.
      sampler: its settings.
      guide: see `guidance.classifier`. ``ddpm`` shifts the mean by the variance
        times it; others shift epsilon, and x_0 with it, after clipping (Dhariwal &
        Nichol 2021, algorithms 1 and 2).
      strength: s ≥ 0 per example, for ``ddpm`` and for ``ddim`` without eta (RealNet):
        the variance of the noise is (1 + s) Σ for ``ddpm``; for ``ddim`` noise of
        variance s Σ is added. None at the last step.
      start: index of the first step taken.
      stop: index of the first step not taken; ``None``: all are.

    Returns:
      Images at the noise level of step `stop`; clean ones after the last.

    Example:
      >>> schedule, sampler = Schedule(steps=100), Sampler("ddim", steps=4)
      >>> x = jnp.ones((2, 8, 8, 3))
      >>> model = lambda x, t: jnp.zeros_like(x)  # sees no noise
      >>> how = dict(schedule=schedule, prediction=Prediction(), sampler=sampler)
      >>> clean = sample(model, None, x, **how)
      >>> clean.shape
      (2, 8, 8, 3)
    """
    settings: dict[str, Any] = dict(prediction=prediction, sampler=sampler, guide=guide)
    if x.ndim == 3:
        keys, strength = (None if v is None else v[None] for v in (keys, strength))
        more: dict[str, Any] = dict(
            schedule=schedule, strength=strength, start=start, stop=stop
        )
        return sample(model, keys, x[None], **settings, **more)[0]
    _check(sampler, keys, strength)
    plan = rows(schedule, sampler, start, stop)
    if not len(plan["index"]):
        return x

    def body(carry, row):
        x, last = carry
        return advance(model, keys, x, last, row, strength=strength, **settings), None

    (x, _), _ = lax.scan(body, (x, memory(x, plan)), jax.tree.map(jnp.asarray, plan))
    return x


def memory(x: Images, plan: dict[str, Any]) -> dict[str, Images]:
    """What the first step remembers: zeros, and only what the sampler will use."""
    return {k: jnp.zeros_like(x) for k in plan["terms"] if k.startswith("last_")}


def advance(
    model: Model,
    keys: Key[Array, " b"] | None,
    x: Images,
    last: dict[str, Images],
    row: dict[str, Any],
    *,
    prediction: Prediction,
    sampler: Sampler,
    guide: Guide | None = None,
    strength: Float[Array, " b"] | None = None,
) -> tuple[Images, dict[str, Images]]:
    """One evaluation of the network and what follows from it; `row` of `plan.rows`."""
    t = jnp.broadcast_to(row["t"], x.shape[:1])
    alpha, sigma = row["alpha"], row["sigma"]
    output = model(x, t).astype(jnp.float32)
    output, values = prediction.split(output, x.shape[-1])
    x0, epsilon = prediction.solve(output, x, alpha, sigma)
    if sampler.clip is not None:
        x0 = jnp.clip(x0, *sampler.clip)
        if sampler.rederive_epsilon and sampler.kind != "cold":
            epsilon = epsilon_of(x, x0, alpha, sigma)
    push = None if guide is None else guide(x, t)
    if push is not None and sampler.kind != "ddpm":
        epsilon = epsilon - sigma * push
        x0 = x0 + sigma * sigma / alpha * push
    known = {"x": x, "x0": x0, "epsilon": epsilon, **last}
    new: Any = sum(k * known[name] for name, k in row["terms"].items())
    last = {name: known[name.removeprefix("last_")] for name in last}
    if sampler.kind not in ("ddpm", "ddim"):
        return new, last

    deviation = row["deviation"]
    if sampler.kind == "ddpm" or strength is not None:
        small, large = row["log_small"], row["log_large"]
        half_log = prediction.log_variance(values, small, large) / 2
        deviation = row["noisy"] * jnp.exp(half_log)
        if push is not None and sampler.kind == "ddpm":
            new = new + jnp.exp(2 * half_log) * push
        if strength is not None:
            more = strength + 1 if sampler.kind == "ddpm" else strength
            deviation = deviation * jnp.sqrt(more)[:, None, None, None]
    if keys is not None and _is_random(sampler, strength):
        new = new + deviation * step_noise(keys, row["index"], x.shape[1:])
    return new, last


def invert(
    model: Model,
    x0: Some,
    *,
    schedule: Schedule,
    prediction: Prediction,
    sampler: Sampler,
    stop: int = 0,
) -> Some:
    """Noise from which deterministic DDIM gets back to an image (Song et al. 2021).

    The steps of `sampler`, ``ddim`` with eta 0, are taken backwards; the network sees x
    where the step begins. The image counts as x at the last timestep of the grid,
    which should be 0 or close to it.

    Args:
      model: the network.
      x0: one image or a batch.
      schedule: of the noise.
      prediction: the meaning of the output of `model`.
      sampler: its settings.
      stop: index of the step from whose noise level `sample` shall start.

    Raises:
      AnojaxError: the sampler is not deterministic DDIM, or `stop` is none of its steps.
    """
    if sampler.kind != "ddim" or sampler.eta:
        raise AnojaxError(
            f"the sampler is '{sampler.kind}' with eta {sampler.eta}; "
            "only ddim with eta 0 can be inverted"
        )
    if not 0 <= stop < sampler.steps:
        raise AnojaxError(f"stop is {stop}; steps go from 0 to {sampler.steps - 1}")
    if x0.ndim == 3:
        kwargs: dict[str, Any] = dict(
            schedule=schedule, prediction=prediction, sampler=sampler
        )
        return invert(model, x0[None], **kwargs, stop=stop)[0]
    plan = rows(schedule, sampler, stop)
    levels = at_timesteps(schedule, sampler.grid(schedule)[stop:])
    # Each step but the first one, backwards, from its level to that of the one before.
    plan = jax.tree.map(lambda v: v[:0:-1], plan)
    terms = ddim(levels[:0:-1], levels[-2::-1], 0.0)
    plan["terms"] = {name: v.astype(np.float32) for name, v in terms.items()}
    if not len(plan["index"]):
        return x0

    def body(x, row):
        kwargs: dict[str, Any] = dict(prediction=prediction, sampler=sampler)
        return advance(model, None, x, {}, row, **kwargs)[0], None

    return lax.scan(body, x0, jax.tree.map(jnp.asarray, plan))[0]


def step_noise(
    keys: Key[Array, " b"], index: Int[Array, ""] | int, shape: tuple[int, ...]
) -> Float[Array, "b ..."]:
    """Standard normal noise of step `index`, of `shape` for each example."""
    return jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, index), shape))(
        keys
    )


def initial_noise(keys: Keys, shape: tuple[int, int, int]) -> Float[Array, "*b h w c"]:
    """Standard normal images of `shape` (h, w, c), one per key.

    Example:
      >>> initial_noise(jax.random.split(jax.random.key(0), 2), (8, 8, 3)).shape
      (2, 8, 8, 3)
    """
    if keys.ndim == 1:
        return jax.vmap(lambda key: initial_noise(key, shape))(keys)
    return jax.random.normal(stream(keys, "initial"), shape)


def start_from(
    keys: Keys,
    x0: Some,
    *,
    schedule: Schedule,
    sampler: Sampler,
    start: int,
) -> Some:
    """Images with the noise that step `start` expects (`SDEdit
    <https://arxiv.org/abs/2108.01073>`_).

    Args:
      keys: one per image.
      x0: one clean image or a batch.
      schedule: of the noise.
      sampler: whose step it is.
      start: index of the step; see `Sampler.index_below` to find one by its timestep.
    """
    level = sampler.levels(schedule)[start]
    alpha, sigma = np.float32(np.sqrt(level)), np.float32(np.sqrt(1 - level))
    h, w, c = x0.shape[-3:]
    return alpha * x0 + sigma * initial_noise(keys, (h, w, c))


def _is_random(sampler: Sampler, strength: Array | None) -> bool:
    return sampler.kind == "ddpm" or sampler.eta > 0 or strength is not None


def _check(sampler: Sampler, keys: Array | None, strength: Array | None) -> None:
    if strength is not None and (sampler.kind not in ("ddpm", "ddim") or sampler.eta):
        raise AnojaxError(
            f"strength is for ddpm, and ddim with eta 0; the sampler is "
            f"'{sampler.kind}' with eta {sampler.eta}"
        )
    if keys is None and _is_random(sampler, strength):
        raise AnojaxError(f"sampler '{sampler.kind}' is random here; give keys")
