"""Schedules: published values, grids, and the digits that float32 would lose."""

import jax.numpy as jnp
import numpy as np
import pytest

from anojax.diffusion.schedules import (
    Schedule,
    add_noise,
    alphas_cumprod,
    at_timesteps,
    betas,
    respace,
    split_grid,
    tables,
    timestep_grid,
)
from anojax.errors import SettingError

ALL = [Schedule(kind) for kind in ("linear", "scaled_linear", "cosine")]


def test_published_values():
    assert alphas_cumprod(Schedule())[999] == pytest.approx(4.0358e-5, rel=1e-4)
    cosine = alphas_cumprod(Schedule("cosine"))
    published = [0.99201, 0.64748, 0.34081]
    np.testing.assert_allclose(cosine[[49, 399, 599]], published, atol=6e-6)
    assert cosine[999] == pytest.approx(2.4e-9, rel=0.02)
    stable = alphas_cumprod(Schedule("scaled_linear"))
    np.testing.assert_allclose(stable[[0, 999]], [0.99915, 0.00466], atol=6e-6)


def test_linear_betas_scale_with_the_number_of_steps():
    few = betas(Schedule(steps=250))
    np.testing.assert_allclose(few[[0, -1]], [4e-4, 0.08])
    given = betas(Schedule(steps=250, beta_range=(1e-4, 0.02)))
    np.testing.assert_allclose(given[[0, -1]], [1e-4, 0.02])


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: s.kind)
def test_tables_agree_with_their_definitions(schedule):
    known, beta = tables(schedule), betas(schedule)
    kept = np.cumprod(1 - beta)
    assert all(table.dtype == np.float32 for table in known)
    np.testing.assert_allclose(known.sigma**2, 1 - kept, rtol=1e-6)
    assert known.posterior_x0[0] == 1 and known.posterior_xt[0] == 0
    assert known.log_posterior[0] == known.log_posterior[1]
    # The posterior of two Gaussian steps: precision adds up.
    precision = (1 - beta[1:]) / beta[1:] + 1 / (1 - kept[:-1])
    np.testing.assert_allclose(known.log_posterior[1:], -np.log(precision), rtol=1e-6)
    weight = np.sqrt(1 - beta[1:]) / beta[1:] / precision
    np.testing.assert_allclose(known.posterior_xt[1:], weight, rtol=1e-6)


def test_respacing_to_everything_changes_nothing():
    schedule = Schedule("cosine")
    for a, b in zip(tables(schedule), respace(alphas_cumprod(schedule)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_respaced_betas_reach_the_same_noise():
    kept = alphas_cumprod(Schedule())[::50]
    few = respace(kept)
    np.testing.assert_allclose(np.cumprod(1 - np.exp(few.log_beta)), kept, rtol=1e-4)
    assert few.posterior_x0[0] == 1


def test_one_kept_timestep_has_finite_tables():
    assert all(np.isfinite(table).all() for table in respace(np.array([0.5])))


def test_add_noise_uses_each_example_s_own_level(key):
    schedule = Schedule()
    x0, noise = jnp.ones((2, 2, 3, 1)), jnp.full((2, 2, 3, 1), 2.0)
    x = add_noise(x0, noise, jnp.array([0, 999]), schedule=schedule)
    kept = alphas_cumprod(schedule)[[0, 999]]
    expected = np.sqrt(kept) + 2 * np.sqrt(1 - kept)
    np.testing.assert_allclose(x[:, 0, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("spacing", "steps", "offset", "expected"),
    [
        ("leading", 4, 1, (751, 501, 251, 1)),
        ("leading", 3, 0, (666, 333, 0)),
        ("linspace", 4, 0, (999, 666, 333, 0)),
        ("trailing", 4, 0, (999, 749, 499, 249)),
        ("trailing", 3, 0, (999, 666, 332)),
        ("ddim", 20, 0, tuple(range(950, -1, -50))),
        ("interpolated", 3, 0, (999.0, 499.5, 0.0)),
    ],
)
def test_grids(spacing, steps, offset, expected):
    assert timestep_grid(1000, steps, spacing, offset=offset) == expected


@pytest.mark.parametrize("steps", range(1, 41))
def test_trailing_grids_have_the_steps_asked_for(steps):
    assert len(timestep_grid(1000, steps, "trailing")) == steps


def test_split_grid_has_both_parts():
    grid = split_grid(1000, 400, 50, 25)
    assert len(grid) == 75 and len(set(grid)) == 75
    assert (grid[0], grid[49], grid[50], grid[-1]) == (999, 400, 399, 0)
    assert (
        split_grid(10, 0, 10, 0) == split_grid(10, 10, 0, 10) == split_grid(10, 4, 6, 4)
    )
    with pytest.raises(SettingError, match="not to be had"):
        split_grid(10, 4, 7, 4)


def test_interpolated_timesteps_lie_between():
    schedule = Schedule()
    low, middle, high = at_timesteps(schedule, (10.0, 9.5, 9.0))
    assert low < middle < high
    known = alphas_cumprod(schedule)
    np.testing.assert_allclose([low, high], known[[10, 9]])


def test_equal_schedules_are_one():
    assert Schedule(steps=1000) == Schedule() and hash(Schedule()) == hash(Schedule())
    assert tables(Schedule()) is tables(Schedule(steps=1000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule("quadratic"), "choose one of"),
        (lambda: Schedule(steps=10), "within \\(0, 1\\)"),
        (lambda: Schedule("cosine", beta_range=(0.1, 0.2)), "no beta_range"),
        (lambda: timestep_grid(100, 101, "linspace"), "take 1 to 100"),
        (lambda: timestep_grid(100, 10, "trailing", offset=1), "only leading"),
        (lambda: timestep_grid(100, 10, "leading", offset=11), "outside 0 to 99"),
        (lambda: timestep_grid(100, 60, "ddim"), "another number of steps"),
        (lambda: timestep_grid(100, 10, "random"), "choose one of"),
        (lambda: at_timesteps(Schedule(), (1000, 0)), "has 0 to 999"),
    ],
)
def test_mistakes_are_told(make, message):
    with pytest.raises(SettingError, match=message):
        make()
