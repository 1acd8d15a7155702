"""Repainting a part of an image with a network that knows only whole ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from anojax.diffusion.plan import Sampler, rows
from anojax.diffusion.prediction import Prediction
from anojax.diffusion.samplers import Guide, Model, advance, step_noise
from anojax.diffusion.schedules import Schedule
from anojax.errors import AnojaxError
from anojax.random import stream


def inpaint(
    model: Model,
    keys: Key[Array, "*b"],
    x: Float[Array, "*b h w c"],
    image: Float[Array, "*b h w c"],
    mask: Float[Array, "*b h w 1"],
    *,
    schedule: Schedule,
    prediction: Prediction,
    sampler: Sampler,
    resampling: tuple[int, int] | None = None,
    guide: Guide | None = None,
    start: int = 0,
) -> Float[Array, "*b h w c"]:
    """Sample inside a mask, and put the image's own noisy self outside at each step.

    This is `blended diffusion <https://arxiv.org/abs/2111.14818>`_. With `resampling`
    it is `RePaint <https://arxiv.org/abs/2201.09865>`_: the sampler goes back now and
    then, adding the noise of the steps again, so that both parts come to fit.

    Args:
      model: the network.
      keys: one per example.
      x: what step `start` begins with, as it is: `samplers.initial_noise` (RePaint) or
        `samplers.start_from` the image (blended diffusion).
      image: clean images, or latents, in the range of the network.
      mask: 1 where to repaint, else 0.
      schedule: of the noise.
      prediction: the meaning of the output of `model`.
      sampler: ``ddpm`` (RePaint's), ``ddim``, ``cold`` or ``euler``, which have no
        memory; it must end without noise.
      resampling: (steps in a stretch, passes over each stretch), both at least 1;
        RePaint takes (10, 10) on 250 steps. ``None``: one pass.
      guide: see `samplers.sample`.
      start: index of the first step.

    Returns:
      Images that equal `image` bit for bit outside the mask.
    """
    settings: dict[str, Any] = dict(prediction=prediction, sampler=sampler, guide=guide)
    if x.ndim == 3:
        one = (v[None] for v in (keys, x, image, mask))
        more: dict[str, Any] = dict(
            schedule=schedule, resampling=resampling, start=start
        )
        return inpaint(model, *one, **settings, **more)[0]
    plan = _plan(schedule, sampler, start, resampling or (1, 1))

    def noise(name, step):
        named = jax.vmap(lambda key: stream(key, name))(keys)
        return step_noise(named, step["row"]["index"], x.shape[1:])

    def body(x, step):
        new, _ = advance(model, keys, x, {}, step["row"], **settings)
        own = step["alpha"] * image + step["sigma"] * noise("own", step)
        new = jnp.where(mask > 0.5, new, own)
        if resampling is not None:
            new = step["shrink"] * new + step["spread"] * noise("jump", step)
        return new, None

    new, _ = lax.scan(body, x, jax.tree.map(jnp.asarray, plan))
    return jnp.where(mask > 0.5, new, image)


def jump_schedule(steps: int, jump: int, passes: int) -> list[tuple[int, int]]:
    """The order of steps: (index of the step, by how many to go back after it).

    RePaint's own order: it goes back at every noise level that is a multiple of `jump`
    steps above the last one of the grid, `passes` - 1 times.

    Raises:
      AnojaxError: a number below 1.

    Example:
      >>> jump_schedule(4, 2, 2)
      [(0, 0), (1, 0), (2, 2), (1, 0), (2, 0), (3, 0)]
    """
    if jump < 1 or passes < 1:
        raise AnojaxError(f"resampling is ({jump}, {passes}); give two numbers from 1")
    left = dict.fromkeys(range(0, steps - jump, jump), passes - 1)
    order, level = [], 0
    while level < steps:
        height = steps - level - 2  # of the next level, above the last timestep
        back = jump if left.get(height, 0) else 0
        if back:
            left[height] -= 1
        order.append((level, back))
        level += 1 - back
    return order


def _plan(schedule, sampler, start, resampling):
    """Per step of the walk: the sampler's numbers, those of the image's own noise
    after it, and those of the way back."""
    if sampler.kind in ("heun", "dpmpp_2m") or sampler.final != "zero":
        raise AnojaxError(
            f"the sampler is '{sampler.kind}' with final '{sampler.final}'; "
            "inpainting takes ddpm, ddim, cold or euler, and final zero"
        )
    if not 0 <= start < sampler.steps:
        raise AnojaxError(f"start is {start}; steps go from 0 to {sampler.steps - 1}")
    taken, back = np.array(jump_schedule(sampler.steps - start, *resampling)).T
    row = jax.tree.map(lambda v: v[taken], rows(schedule, sampler, start))
    # A step that is taken twice draws new noise.
    row["index"] = start + np.arange(len(taken), dtype=np.int32)
    levels = sampler.levels(schedule)[start:]
    here, there = levels[taken + 1], levels[taken + 1 - back]
    plan = {
        "alpha": np.sqrt(here),
        "sigma": np.sqrt(1 - here),
        "shrink": np.sqrt(there / here),
        "spread": np.sqrt(1 - there / here),
    }
    return {name: v.astype(np.float32) for name, v in plan.items()} | {"row": row}
