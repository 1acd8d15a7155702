"""Samplers: known trajectories, known moments, and what must not matter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from anojax.diffusion.plan import KINDS, rows
from anojax.diffusion.prediction import TARGETS, Prediction
from anojax.diffusion.samplers import (
    Sampler,
    initial_noise,
    invert,
    sample,
    start_from,
    step_noise,
)
from anojax.diffusion.schedules import (
    Schedule,
    alphas_cumprod,
    split_grid,
    timestep_grid,
)
from anojax.errors import AnojaxError, SettingError

LINEAR = Schedule()
EPSILON = Prediction()
DETERMINISTIC = ("ddim", "cold", "euler", "heun", "dpmpp_2m")


def exact(x, t, schedule=LINEAR, m=0.3, c=0.4):
    """Where the probability flow of N(m, c²) leads from `x` at timestep t."""
    kept = alphas_cumprod(schedule)[t]
    return m + c * (x - np.sqrt(kept) * m) / np.sqrt(kept * c * c + 1 - kept)


def one_pixel(value=1.234):
    return jnp.full((1, 1, 1, 1), value, jnp.float32)


def error(gaussian, kind, grid, target="epsilon"):
    prediction = Prediction(target)
    sampler = Sampler(kind, len(grid), "given", timesteps=grid)
    kwargs = dict(schedule=LINEAR, prediction=prediction, sampler=sampler)
    out = sample(gaussian(LINEAR, prediction), None, one_pixel(), **kwargs)
    return float(out[0, 0, 0, 0]) - exact(1.234, grid[0])


def test_published_errors_for_a_gaussian(gaussian):
    """Both on the 50 highest of 51 evenly spaced timesteps, DPM-Solver++'s own grid."""
    grid = Sampler("dpmpp_2m", 50, "linspace").grid(LINEAR)
    assert error(gaussian, "ddim", grid) == pytest.approx(-0.0343, abs=1e-4)
    assert error(gaussian, "dpmpp_2m", grid) == pytest.approx(-0.0028, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "steps", "factor"),
    [("ddim", 80, 2), ("euler", 80, 2), ("heun", 20, 4), ("dpmpp_2m", 80, 4)],
)
def test_errors_fall_by_the_order_of_the_method(gaussian, kind, steps, factor):
    few, many = (timestep_grid(1000, n, "linspace") for n in (steps, 2 * steps))
    ratio = error(gaussian, kind, few) / error(gaussian, kind, many)
    assert ratio == pytest.approx(factor, rel=0.25)


@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_all_targets_give_the_same_trajectory(gaussian, kind):
    grid = timestep_grid(1000, 10, "linspace")
    errors = [error(gaussian, kind, grid, target) for target in TARGETS]
    np.testing.assert_allclose(errors, errors[0], atol=2e-5)


def close(a, b, tolerance=2e-6):
    """Equal up to rounding, which the largest value sets the scale of."""
    return np.abs(a - b).max() <= tolerance * np.abs(b).max()


def network(x, t):
    """A fixed map that no sampler knows: it mixes pixels and depends on t."""
    wave = jnp.sin(t.astype(jnp.float32) / 200)[:, None, None, None]
    return jnp.tanh(0.7 * x + 0.3 * jnp.roll(x, 1, axis=2) + wave)


@pytest.fixture
def run(key):
    """``run(sampler, start, stop, ...)`` of the fixed map, compiled, on two examples."""
    x = jax.random.normal(key, (2, 3, 4, 2))
    keys = jax.random.split(key, 2)

    def run(sampler, start=0, stop=None, x=x, keys=keys, strength=None, **kwargs):
        settings = dict(schedule=LINEAR, prediction=EPSILON, sampler=sampler)
        settings |= dict(start=start, stop=stop) | kwargs
        call = jax.jit(partial(sample, network, **settings))
        return call(keys, x, strength=strength)

    return run


def test_euler_is_ddim(run):
    for steps in (5, 50):
        a, b = (run(Sampler(kind, steps, "linspace")) for kind in ("euler", "ddim"))
        assert close(a, b, 1e-5)


def test_cold_is_ddim_until_something_is_clipped(run):
    for clip, same in ((None, True), ((-0.2, 0.2), False)):
        a, b = (
            run(Sampler(kind, 10, clip=clip, rederive_epsilon=kind == "cold"))
            for kind in ("cold", "ddim")
        )
        assert close(a, b, 1e-5) == same


def test_cold_keeps_the_network_s_noise():
    """One step, as Defect-Gen takes it: epsilon comes from the x_0 before clipping."""
    sampler = Sampler("cold", 2, clip=(-0.5, 0.5))
    now, then, _ = sampler.levels(LINEAR)
    a, s, to_a, to_s = (np.sqrt(v) for v in (now, 1 - now, then, 1 - then))
    kwargs = dict(schedule=LINEAR, prediction=Prediction("sample"), sampler=sampler)
    out = sample(lambda x, t: 0 * x + 0.8, None, one_pixel(2.0), **kwargs, stop=1)
    epsilon = (2.0 - a * 0.8) / s
    expected = 2.0 - (a * 0.5 + s * epsilon) + (to_a * 0.5 + to_s * epsilon)
    np.testing.assert_allclose(out[0, 0, 0, 0], expected, rtol=1e-5)


def test_cold_returns_the_clipped_image(run):
    out = run(Sampler("cold", 10, clip=(-0.2, 0.2)))
    assert np.abs(out).max() == np.float32(0.2)


def test_epsilon_follows_the_clipped_image_unless_told_otherwise(run):
    """After one step, x = a_p x_0 + s_p epsilon for the epsilon that was meant."""
    given = dict(kind="ddim", steps=2, clip=(-0.1, 0.1))
    x = jnp.full((1, 1, 1, 1), 2.0)
    now, then, _ = Sampler(**given).levels(LINEAR)
    a, s = np.sqrt(now), np.sqrt(1 - now)
    raw = float(network(x, jnp.array([500]))[0, 0, 0, 0])
    x0 = np.clip((2.0 - s * raw) / a, -0.1, 0.1)
    for rederive, epsilon in ((True, (2.0 - a * x0) / s), (False, raw)):
        sampler = Sampler(**given, rederive_epsilon=rederive)
        out = run(sampler, stop=1, x=x, keys=None)
        expected = np.sqrt(then) * x0 + np.sqrt(1 - then) * epsilon
        np.testing.assert_allclose(out[0, 0, 0, 0], expected, rtol=1e-5)


def test_a_network_of_zeros():
    """It leaves x_T / a_T when epsilon is predicted, and 0 when x_0 is."""
    x = jax.random.normal(jax.random.key(3), (1, 4, 4, 3))
    sampler = Sampler("ddim", 10)
    for target, factor in (("epsilon", 1), ("sample", 0)):
        kwargs = dict(schedule=LINEAR, prediction=Prediction(target), sampler=sampler)
        out = sample(lambda x, t: jnp.zeros_like(x), None, x, **kwargs)
        expected = factor * x / np.float32(np.sqrt(sampler.levels(LINEAR)[0]))
        np.testing.assert_allclose(out, expected, rtol=2e-6)


def test_a_true_constant_noise_is_removed_exactly():
    x0, noise = jax.random.normal(jax.random.key(4), (2, 1, 3, 3, 1))
    for final, level in (("zero", 1.0), ("sigma_min", alphas_cumprod(LINEAR)[0])):
        sampler = Sampler("ddim", 7, offset=1, final=final)
        first = sampler.levels(LINEAR)[0]
        a, s = (np.float32(np.sqrt(v)) for v in (first, 1 - first))
        kwargs = dict(schedule=LINEAR, prediction=EPSILON, sampler=sampler)
        out = sample(lambda x, t: noise, None, a * x0 + s * noise, **kwargs)
        expected = np.sqrt(level) * x0 + np.sqrt(1 - level) * noise
        np.testing.assert_allclose(out, expected, atol=2e-5)


MOMENTS = [
    Sampler("ddpm", 300, "linspace"),
    Sampler("ddim", 300, "linspace", eta=1.0),
    Sampler("ddim", 300, "linspace", eta=0.5),
    Sampler("ddim", 150, "linspace"),
    Sampler("euler", 150, "linspace"),
    Sampler("heun", 40, "linspace"),
    Sampler("dpmpp_2m", 60, "linspace"),
]


@pytest.mark.parametrize("sampler", MOMENTS, ids=lambda s: f"{s.kind}-{s.eta}")
def test_moments_of_a_mixture(mixture, sampler):
    """Sampling with the true score gives the true mean and deviation within 2 %."""
    model = mixture(LINEAR, EPSILON)
    keys = jax.random.split(jax.random.key(5), 4)
    kwargs = dict(schedule=LINEAR, prediction=EPSILON, sampler=sampler)
    call = jax.jit(partial(sample, model, **kwargs))
    x = np.asarray(call(keys, initial_noise(keys, (128, 128, 1))), np.float64)
    # The mean is 0.1, a deviation 0.5: its standard error is 0.002, 2 % of the latter.
    assert abs(x.mean() - mixture.mean) < 0.02 * mixture.std
    assert x.std() == pytest.approx(mixture.std, rel=0.02)
    assert (x < -0.1).mean() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.2])
def test_strength_scales_the_variance(gaussian, strength):
    """RealNet on its grid of 20: 0.09145 (1 + s) for N(0, 0.4²)."""
    prediction = Prediction(variance="learned_range")
    model = gaussian(LINEAR, prediction, m=0.0)
    sampler = Sampler("ddpm", 20, "ddim")
    assert sampler.grid(LINEAR)[0] == 950
    keys = jax.random.split(jax.random.key(6), 4)
    kwargs = dict(schedule=LINEAR, prediction=prediction, sampler=sampler)
    call = jax.jit(partial(sample, model, **kwargs))
    x = call(keys, initial_noise(keys, (256, 256, 1)), strength=jnp.full(4, strength))
    # The standard error over 262 144 pixels is 0.28 %.
    assert np.var(x) == pytest.approx(0.09145 * (1 + strength), rel=0.01)


def test_strength_is_per_example_and_zero_is_none(run, key):
    keys = jnp.stack([key, key])
    x = jnp.broadcast_to(jax.random.normal(key, (1, 3, 4, 2)), (2, 3, 4, 2))
    for sampler in (Sampler("ddpm", 6), Sampler("ddim", 6)):
        plain = run(sampler, x=x, keys=keys)
        some = run(sampler, x=x, keys=keys, strength=jnp.array([0.0, 0.2]))
        np.testing.assert_array_equal(some[0], plain[0])
        moved = [
            np.abs(run(sampler, x=x, keys=keys, strength=jnp.full(2, s)) - plain).mean()
            for s in (0.1, 0.2)
        ]
        assert 0 < moved[0] < moved[1]


def test_the_learned_variance_is_used(gaussian, key):
    """From its lower to its upper bound, the noise of the first step grows as told."""
    prediction = Prediction(variance="learned_range")
    sampler, keys = Sampler("ddpm", 4), key[None]
    steps, x = {}, jnp.zeros((1, 2, 2, 1))
    for values in (-1.0, 0.0, 1.0):
        model = gaussian(LINEAR, prediction, values=values)
        kwargs = dict(schedule=LINEAR, prediction=prediction, sampler=sampler)
        steps[values] = sample(model, keys, x, **kwargs, stop=1)
    plan = rows(LINEAR, sampler)
    small, large = (np.exp(plan[k][0] / 2) for k in ("log_small", "log_large"))
    noise = step_noise(keys, 0, (2, 2, 1))
    np.testing.assert_allclose(
        steps[1.0] - steps[-1.0], (large - small) * noise, atol=1e-6
    )
    half = np.sqrt(small * large) - small
    np.testing.assert_allclose(steps[0.0] - steps[-1.0], half * noise, atol=1e-6)


EVERY = [
    Sampler("ddpm", 6, clip=(-1.0, 1.0)),
    Sampler("ddim", 6, eta=0.7),
    Sampler("cold", 6, "trailing"),
    Sampler("euler", 6, "interpolated"),
    Sampler("heun", 6, "linspace"),
    Sampler("dpmpp_2m", 6, final="sigma_min"),
]


@pytest.mark.parametrize("sampler", EVERY, ids=lambda s: s.kind)
def test_a_image_depends_on_its_key_alone(run, key, sampler):
    """Not on the batch, its size, or the devices; and one example needs no batch."""
    keys = jax.random.split(key, 8)
    x = initial_noise(keys, (3, 4, 2))
    whole = run(sampler, x=x, keys=keys)
    for part in (slice(0, 3), slice(7, 8)):
        assert close(run(sampler, x=x[part], keys=keys[part]), whole[part])
    assert close(run(sampler, x=x[5], keys=keys[5]), whole[5])
    mesh = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), P("data"))
    spread = run(sampler, x=jax.device_put(x, mesh), keys=jax.device_put(keys, mesh))
    assert close(spread, whole)


@pytest.mark.parametrize("sampler", EVERY, ids=lambda s: s.kind)
def test_the_scan_is_a_plain_loop(run, sampler):
    compiled = run(sampler)
    with jax.disable_jit():
        assert close(run(sampler), compiled)


@pytest.mark.parametrize("sampler", EVERY[:5], ids=lambda s: s.kind)
def test_two_parts_make_a_whole(run, sampler):
    whole = run(sampler)
    for middle in (0, 2, 6):
        first = run(sampler, stop=middle)
        assert close(run(sampler, middle, x=first), whole)


def test_a_part_of_a_multistep_method_starts_in_first_order(run):
    sampler = EVERY[-1]
    first = run(sampler, stop=2)
    levels, out = sampler.levels(LINEAR), run(sampler, 2, 3, x=first)
    one = Sampler("ddim", 1, "given", timesteps=sampler.grid(LINEAR)[2:3])
    x0 = run(one, x=first)
    ratio = np.sqrt((1 - levels[3]) / (1 - levels[2]))
    expected = ratio * first + (np.sqrt(levels[3]) - ratio * np.sqrt(levels[2])) * x0
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_two_networks_share_a_grid(gaussian):
    """Defect-Gen: the same model handed over at any u equals one run; u = 0 and T use
    one network only."""
    schedule, prediction = Schedule("cosine", 100), Prediction("sample")
    model = gaussian(schedule, prediction)

    def handed(u, large, small):
        grid = split_grid(100, u, min(12, 100 - u), min(6, u))
        sampler = Sampler("cold", len(grid), "given", timesteps=grid)
        part = dict(schedule=schedule, prediction=prediction, sampler=sampler)
        at = sampler.index_below(schedule, u)
        x = sample(large, None, one_pixel(), **part, stop=at)
        whole = sample(large, None, one_pixel(), **part)
        return sample(small, None, x, **part, start=at), whole

    def constant(value):
        return lambda x, t: jnp.full_like(x, value)

    for u in (0, 5, 40, 100):
        two, one = handed(u, model, model)
        np.testing.assert_allclose(two, one, atol=1e-6)
        said, _ = handed(u, constant(0.25), constant(-0.25))
        np.testing.assert_allclose(said, 0.25 if u == 0 else -0.25, atol=1e-6)


def test_inversion_finds_the_way_back(gaussian):
    """The probability flow keeps the place within the distribution; errors of the way
    there and of the round trip are of first order."""
    model, x0 = gaussian(LINEAR, EPSILON), jnp.array([[[[-0.2], [0.3], [0.9]]]])
    gaps = []
    for steps in (50, 100):
        settings = dict(schedule=LINEAR, prediction=EPSILON)
        settings["sampler"] = Sampler("ddim", steps, "linspace")
        noise = invert(model, x0, **settings)
        again = sample(model, None, noise, **settings)
        gaps.append([np.abs(noise - (x0 - 0.3) / 0.4).max(), np.abs(again - x0).max()])
        half = invert(model, x0[0], **settings, stop=steps // 2)
        again = sample(model, None, half, **settings, start=steps // 2)
        assert np.abs(again - x0[0]).max() < gaps[-1][1]
    np.testing.assert_allclose(np.divide(*gaps), 2, rtol=0.2)
    assert max(gaps[1]) < 0.06


def test_start_from_a_image(key):
    sampler = Sampler("ddim", 10)
    at = sampler.index_below(LINEAR, 301)
    assert sampler.grid(LINEAR)[at] == 300
    keys, x0 = key[None], jnp.full((1, 64, 64, 1), 0.5)
    x = start_from(keys, x0, schedule=LINEAR, sampler=sampler, start=at)
    kept = alphas_cumprod(LINEAR)[300]
    assert np.mean(x) == pytest.approx(0.5 * np.sqrt(kept), abs=0.05)
    assert np.std(x) == pytest.approx(np.sqrt(1 - kept), rel=0.05)
    one = start_from(key, x0[0], schedule=LINEAR, sampler=sampler, start=at)
    np.testing.assert_array_equal(one, x[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_compiled_once(kind):
    calls = []

    def counted(x, t):
        calls.append(t.dtype)
        return network(x, t)

    sampler = Sampler(kind, 7)
    keys = jax.random.split(jax.random.key(0), 2)
    kwargs = dict(schedule=LINEAR, prediction=EPSILON, sampler=sampler)
    call = jax.jit(partial(sample, counted, **kwargs))
    call(keys, jnp.zeros((2, 2, 2, 1)))
    call(keys, jnp.ones((2, 2, 2, 1)))
    assert calls == [jnp.int32]


def test_original_timesteps_reach_the_network():
    seen = []

    def spy(x, t):
        seen.append(int(t[0]))
        return x

    kwargs = dict(schedule=LINEAR, prediction=EPSILON)
    with jax.disable_jit():
        x = jnp.zeros((1, 1, 1, 1))
        sample(spy, None, x, **kwargs, sampler=Sampler("ddim", 4, "ddim"))
        assert seen == [750, 500, 250, 0]
        seen.clear()
        sample(spy, None, x, **kwargs, sampler=Sampler("heun", 3, "linspace"))
        assert seen == [999, 500, 500, 0, 0]
        seen.clear()
        invert(spy, x, **kwargs, sampler=Sampler("ddim", 4, "ddim"))
        assert seen == [0, 250, 500]


def test_calls_that_do_not_fit(run, gaussian):
    with pytest.raises(AnojaxError, match="give keys"):
        run(Sampler("ddpm", 2), keys=None)
    with pytest.raises(AnojaxError, match="strength is for"):
        run(Sampler("euler", 2), strength=jnp.zeros(2))
    with pytest.raises(SettingError, match="has 0 to 2"):
        run(Sampler("ddim", 2), start=3)
    settings = dict(schedule=LINEAR, prediction=EPSILON)
    with pytest.raises(AnojaxError, match="only ddim"):
        invert(network, one_pixel(), **settings, sampler=Sampler("euler", 4))
