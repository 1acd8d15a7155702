"""Step by step against the schedulers of diffusers, in PyTorch.

Their tables are made in float32, where 1 - ᾱ has lost up to 4 digits at the first
timesteps; here they get ᾱ in float64, so that what is compared are the formulas. Our
trajectory is what the network is shown: a plain loop under ``disable_jit`` calls it
with numbers.
"""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from anojax.diffusion.prediction import TARGETS, Prediction
from anojax.diffusion.samplers import Sampler, sample, step_noise
from anojax.diffusion.schedules import Schedule, alphas_cumprod

# diffusers asks numpy for arrays of tensors in a way that warns on float64.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SCHEDULE = Schedule("scaled_linear")
CONFIG = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
SPACINGS = ("leading", "linspace", "trailing")
SHAPE = (3, 4, 2)
STEPS = 8


def network(x: np.ndarray, t: float, channels: int) -> np.ndarray:
    """A fixed map in float64 of `SHAPE` to as many or twice the channels."""
    mixed = 0.8 * x + 0.4 * np.roll(x, 1, axis=1) - 0.3 * np.sin(t / 150)
    out = np.tanh(np.concatenate([mixed, np.cos(3 * x)], axis=-1))
    return out[..., :channels]


def ours(sampler, prediction, x, keys=None):
    """What the network is shown at each call, and the last image."""
    seen = []
    channels = 2 * SHAPE[-1] if prediction.variance == "learned_range" else SHAPE[-1]

    def model(x, t):
        seen.append(np.asarray(x[0], np.float64))
        return jnp.asarray(network(seen[-1], float(t[0]), channels), jnp.float32)[None]

    kwargs = dict(schedule=SCHEDULE, prediction=prediction, sampler=sampler)
    with jax.disable_jit():
        out = sample(model, keys, jnp.asarray(x, jnp.float32)[None], **kwargs)
    return [*seen, np.asarray(out[0], np.float64)]


def theirs(scheduler, x, channels, scale=None, **step):
    """The same for a scheduler; `scale` gives the network's input in σ-space."""
    seen = []
    x = torch.from_numpy(x).movedim(-1, 0)[None]
    noise = step.pop("noise", None)
    for i, t in enumerate(scheduler.timesteps):
        shown = scheduler.scale_model_input(x, t) if scale else x
        seen.append(shown[0].movedim(0, -1).double().numpy())
        output = network(seen[-1], float(t), channels)
        output = torch.from_numpy(output).movedim(-1, 0)[None]
        if noise is not None:
            step["variance_noise"] = noise(i)
        x = scheduler.step(output, t, x, **step).prev_sample
    return [*seen, x[0].movedim(0, -1).double().numpy()]


def compare(a, b, scheduler):
    assert len(a) == len(b) == len(scheduler.timesteps) + 1
    for i, (one, other) in enumerate(zip(a, b, strict=True)):
        scale = max(1, np.abs(other).max())
        np.testing.assert_allclose(
            one / scale, other / scale, atol=1e-5, err_msg=f"{i}"
        )


def precise(kind, steps=STEPS, **config):
    scheduler = kind(**CONFIG, **config)
    kept = torch.from_numpy(alphas_cumprod(SCHEDULE).copy())
    scheduler.alphas_cumprod = kept
    if hasattr(scheduler, "final_alpha_cumprod"):
        one = scheduler.config.set_alpha_to_one
        scheduler.final_alpha_cumprod = torch.ones(()).double() if one else kept[0]
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.fixture(scope="module")
def start():
    return np.random.default_rng(7).normal(size=SHAPE)


@pytest.fixture(scope="module")
def keys():
    return jax.random.key(7)[None]


@pytest.fixture(scope="module")
def noise(keys):
    """What our steps draw, for PyTorch."""
    drawn = [np.array(step_noise(keys, i, SHAPE), np.float64) for i in range(STEPS)]
    return [torch.from_numpy(one).movedim(-1, 1) for one in drawn]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("variance", "clip"),
    [
        ("fixed_small", None),
        ("fixed_large", (-0.7, 0.7)),
        ("learned_range", None),
        ("learned_range", (-0.7, 0.7)),
    ],
)
def test_ddpm(monkeypatch, start, keys, noise, variance, target, spacing, clip):
    drawn = iter(range(STEPS))
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor",
        lambda *_, **__: noise[next(drawn)],
    )
    scheduler = precise(
        diffusers.DDPMScheduler,
        variance_type=variance,
        prediction_type=target,
        timestep_spacing=spacing,
        clip_sample=clip is not None,
        clip_sample_range=0.7,
    )
    channels = SHAPE[-1] * (2 if variance == "learned_range" else 1)
    sampler = Sampler("ddpm", STEPS, spacing, clip=clip)
    mine = ours(sampler, Prediction(target, variance), start, keys)
    other = theirs(scheduler, start, channels)
    if spacing == "trailing":
        # The last step leaves timestep 124, not 0: diffusers still adds noise there.
        mine, other = mine[:-1], other[:-1]
        assert len(mine) == STEPS
        for one, two in zip(mine, other, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5 * max(1, np.abs(two).max()))
        return
    compare(mine, other, scheduler)


@pytest.mark.parametrize("clip", [None, (-0.7, 0.7)], ids=["free", "clipped"])
@pytest.mark.parametrize("rederive", [True, False], ids=["rederived", "raw"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("grid", ["leading", "offset", "trailing"])
def test_ddim(start, keys, noise, grid, target, eta, rederive, clip):
    """ "linspace" is not compared: their step ends T // N below its timestep, which is
    not the next timestep of that grid."""
    offset = int(grid == "offset")
    spacing = "leading" if offset else grid
    scheduler = precise(
        diffusers.DDIMScheduler,
        prediction_type=target,
        timestep_spacing=spacing,
        steps_offset=offset,
        set_alpha_to_one=not offset,
        clip_sample=clip is not None,
        clip_sample_range=0.7,
    )
    final = "sigma_min" if offset else "zero"
    settings = dict(eta=eta, clip=clip, rederive_epsilon=rederive, final=final)
    sampler = Sampler("ddim", STEPS, spacing, offset, **settings)
    step = dict(eta=eta, use_clipped_model_output=rederive)
    if eta:
        step["noise"] = noise.__getitem__
    other = theirs(scheduler, start, SHAPE[-1], **step)
    compare(ours(sampler, Prediction(target), start, keys), other, scheduler)


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("target", TARGETS)
def test_euler(start, target, spacing, final):
    scheduler = precise(
        diffusers.EulerDiscreteScheduler,
        prediction_type=target,
        timestep_spacing=spacing,
        final_sigmas_type=final,
    )
    own = "interpolated" if spacing == "linspace" else spacing
    in_sigma_space(scheduler, Sampler("euler", STEPS, own, final=final), target, start)


@pytest.mark.parametrize("clip", [None, (-0.7, 0.7)], ids=["free", "clipped"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("target", TARGETS)
def test_heun(start, target, spacing, clip):
    scheduler = precise(
        diffusers.HeunDiscreteScheduler,
        prediction_type=target,
        timestep_spacing=spacing,
        clip_sample=clip is not None,
        clip_sample_range=0.7,
    )
    own = "interpolated" if spacing == "linspace" else spacing
    in_sigma_space(scheduler, Sampler("heun", STEPS, own, clip=clip), target, start)


def in_sigma_space(scheduler, sampler, target, start):
    levels = sampler.levels(SCHEDULE)
    scaled = start / np.sqrt(levels[0])
    other = theirs(scheduler, scaled, SHAPE[-1], scale=True)
    other[-1] = other[-1] * np.sqrt(levels[-1])
    compare(ours(sampler, Prediction(target), start), other, scheduler)


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("steps", [STEPS, 16])
def test_dpmpp_2m(start, steps, target, spacing, final):
    scheduler = precise(
        diffusers.DPMSolverMultistepScheduler,
        steps,
        prediction_type=target,
        timestep_spacing=spacing,
        final_sigmas_type=final,
    )
    sampler = Sampler("dpmpp_2m", steps, spacing, final=final)
    other = theirs(scheduler, start, SHAPE[-1])
    compare(ours(sampler, Prediction(target), start), other, scheduler)


@pytest.mark.parametrize("kind", ["ddim", "euler"])
def test_first_order_dpm_solver_on_a_linspace_grid(start, kind):
    """DDIM on linspace is covered by its other name."""
    scheduler = precise(
        diffusers.DPMSolverMultistepScheduler,
        timestep_spacing="linspace",
        solver_order=1,
    )
    grid = Sampler("dpmpp_2m", STEPS, "linspace").grid(SCHEDULE)
    sampler = Sampler(kind, STEPS, "given", timesteps=grid)
    other = theirs(scheduler, start, SHAPE[-1])
    compare(ours(sampler, Prediction(), start), other, scheduler)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_schedules(kind):
    own = Schedule("cosine" if kind == "squaredcos_cap_v2" else kind)
    config = CONFIG if kind == "scaled_linear" else {}
    scheduler = diffusers.DDPMScheduler(**{**config, "beta_schedule": kind})
    known = scheduler.alphas_cumprod.numpy()
    np.testing.assert_allclose(alphas_cumprod(own), known, rtol=2e-3, atol=1e-6)
