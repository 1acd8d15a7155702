"""Inpainting: exact outside the mask, and, with resampling, in tune with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.diffusion.inpainting import inpaint, jump_schedule
from anojax.diffusion.prediction import Prediction
from anojax.diffusion.samplers import Sampler, initial_noise, sample, start_from
from anojax.diffusion.schedules import Schedule, alphas_cumprod, gather, tables
from anojax.errors import AnojaxError

SCHEDULE, EPSILON = Schedule(), Prediction()
SETTINGS = dict(schedule=SCHEDULE, prediction=EPSILON)
SAMPLERS = [Sampler("ddpm", 6), Sampler("ddim", 6, eta=0.5), Sampler("euler", 6)]


def network(x, t):
    return jnp.tanh(0.5 * x + jnp.sin(t.astype(jnp.float32))[:, None, None, None])


@pytest.fixture(scope="module")
def scene():
    """Keys, noise, images and masks of three examples."""
    k = jax.random.split(jax.random.key(2), 3)
    keys = jax.random.split(k[0], 3)
    image = jax.random.uniform(k[1], (3, 5, 6, 2), minval=-1)
    mask = jax.random.bernoulli(k[2], 0.4, (3, 5, 6, 1)).astype(jnp.float32)
    return keys, initial_noise(keys, (5, 6, 2)), image, mask


@pytest.mark.parametrize("resampling", [None, (2, 3)], ids=["blended", "repaint"])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
def test_outside_the_mask_nothing_changes(scene, sampler, resampling):
    keys, x, image, mask = scene
    call = partial(inpaint, network, **SETTINGS, sampler=sampler, resampling=resampling)
    out = np.asarray(jax.jit(call)(keys, x, image, mask))
    inside = np.broadcast_to(np.asarray(mask) > 0, out.shape)
    np.testing.assert_array_equal(out[~inside], np.asarray(image)[~inside])
    assert (out[inside] != np.asarray(image)[inside]).all()
    # An example alone, without a batch, gets the same image.
    one = jax.jit(call)(keys[1], x[1], image[1], mask[1])
    scale = np.abs(out[1]).max()
    np.testing.assert_allclose(one / scale, out[1] / scale, atol=2e-6)


@pytest.mark.parametrize("resampling", [None, (2, 3)], ids=["blended", "repaint"])
def test_the_network_sees_the_image_as_noisy_as_it_is_told(key, resampling):
    """Outside the mask x has the distribution of q(x_t | x_0), also after going back."""
    seen = []

    def spy(x, t):
        report = (t[0], x.mean(), x.std())
        jax.debug.callback(lambda *v: seen.append(v), *report, ordered=True)
        return x

    keys, image = key[None], jnp.full((1, 64, 64, 1), 0.5)
    kwargs = dict(**SETTINGS, sampler=Sampler("ddpm", 8), resampling=resampling)
    x = initial_noise(keys, (64, 64, 1))
    out = inpaint(spy, keys, x, image, jnp.zeros_like(image), **kwargs)
    jax.block_until_ready(out)
    jax.effects_barrier()
    t, mean, std = np.array(seen).T
    assert len(t) == len(jump_schedule(8, *(resampling or (1, 1))))
    kept = alphas_cumprod(SCHEDULE)[t.astype(int)]
    # 4096 pixels: standard errors are at most 0.016 and 0.011. The first x is noise.
    np.testing.assert_allclose(mean[1:], 0.5 * np.sqrt(kept[1:]), atol=0.06)
    np.testing.assert_allclose(std[1:], np.sqrt(1 - kept[1:]), rtol=0.05)


def test_a_broken_network_stays_inside_the_mask(scene):
    keys, x, image, mask = scene
    kwargs = dict(**SETTINGS, sampler=SAMPLERS[0])
    out = inpaint(lambda x, t: x * jnp.nan, keys, x, image, mask, **kwargs)
    outside = np.broadcast_to(np.asarray(mask) == 0, out.shape)
    np.testing.assert_array_equal(out[outside], image[outside])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.kind)
@pytest.mark.parametrize("start", [0, 2])
def test_the_whole_image_repainted_is_a_sample(scene, sampler, start):
    keys, x, image, mask = scene
    kwargs = dict(**SETTINGS, sampler=sampler, start=start)
    out = jax.jit(partial(inpaint, network, **kwargs))(
        keys, x, image, jnp.ones_like(mask)
    )
    plain = jax.jit(partial(sample, network, **kwargs))(keys, x)
    np.testing.assert_allclose(out / 100, plain / 100, atol=2e-6)


def test_repaint_s_order():
    """States as RePaint lists them: 5 is the noisiest of 6 steps, -1 is clean."""
    states, t = [5], 5
    for step, back in jump_schedule(6, 2, 2):
        assert step == 5 - t  # a step always begins where the last one left x
        t -= 1
        states.append(t)
        for _ in range(back):
            t += 1
            states.append(t)
    assert states == [5, 4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0, -1]


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_one_pass_is_a_straight_walk(steps):
    assert jump_schedule(steps, 10, 1) == [(i, 0) for i in range(steps)]
    # Every stretch is passed 10 times: 9 more, of 10 steps each.
    assert len(jump_schedule(250, 10, 10)) == 250 + 24 * 9 * 10


def pair(variance, correlation):
    """The perfect model of two pixels, normal, with mean 0 and a correlation."""

    def model(x, t):
        known = tables(SCHEDULE)
        a, s = gather(known.alpha, t), gather(known.sigma, t)
        even = (x + x[:, :, ::-1]) / 2
        parts = ((even, 1 + correlation), (x - even, 1 - correlation))
        return sum(s * p / (a * a * variance * k + s * s) for p, k in parts)

    return model


def test_resampling_makes_both_parts_fit():
    """Of two pixels with correlation 0.9, one is known: the other has mean 0.9 times
    it, of which one pass finds two thirds, and RePaint, the finer its steps, all."""
    count, known = 1000, 0.8
    keys = jax.random.split(jax.random.key(3), count)
    image = jnp.full((count, 1, 2, 1), known)
    mask = jnp.broadcast_to(jnp.array([0.0, 1.0])[None, None, :, None], image.shape)
    means, deviations = [], []
    for resampling in (None, (5, 10)):
        kwargs = dict(**SETTINGS, sampler=Sampler("ddpm", 100), resampling=resampling)
        call = jax.jit(partial(inpaint, pair(0.25, 0.9), **kwargs))
        out = call(keys, initial_noise(keys, (1, 2, 1)), image, mask)[:, 0, 1, 0]
        means.append(float(out.mean()))
        deviations.append(float(out.std()))
    assert means[0] < 0.5
    assert means[1] == pytest.approx(0.9 * known, abs=0.06)
    assert deviations[1] == pytest.approx(0.5 * (1 - 0.81) ** 0.5, rel=0.1)


def test_blended_diffusion_starts_from_the_image(scene):
    """At little noise, what is repainted stays near what was there."""
    keys, _, image, mask = scene
    sampler = Sampler("ddim", 50)
    model, gaps = pair(1.0, 0.0), []
    for timestep in (21, 401, 981):
        start = sampler.index_below(SCHEDULE, timestep)
        where = dict(schedule=SCHEDULE, sampler=sampler, start=start)
        x = start_from(keys, image, **where)
        out = inpaint(model, keys, x, image, mask, **where, prediction=EPSILON)
        gaps.append(np.abs(out - image)[np.asarray(mask)[..., 0] > 0].mean())
    assert gaps[0] < 0.15 and gaps[0] < gaps[1] < gaps[2]


def test_samplers_with_a_memory_are_refused(scene):
    for sampler in (Sampler("heun", 4), Sampler("ddim", 4, final="sigma_min")):
        with pytest.raises(AnojaxError, match="inpainting takes"):
            inpaint(network, *scene, **SETTINGS, sampler=sampler)
    with pytest.raises(AnojaxError, match="from 0 to 5"):
        inpaint(network, *scene, **SETTINGS, sampler=SAMPLERS[0], start=6)
    with pytest.raises(AnojaxError, match="two numbers from 1"):
        jump_schedule(10, 0, 2)
