"""Perlin noise against the corner-by-corner definition, and the distribution of its masks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import noise
from anojax.types import Controls, Inputs

ANGLES = np.random.default_rng(0).uniform(0, 2 * np.pi, (33, 33)).astype(np.float32)


def definition(angles, cells, y, x, extent):
    """Noise at (y, x) from the four corners of the cell, in float64."""
    angles = np.asarray(angles, np.float64)
    ry, rx = cells
    top = np.minimum(y * ry // extent[0], ry - 1).astype(int)
    left = np.minimum(x * rx // extent[1], rx - 1).astype(int)
    ty, tx = y * ry / extent[0] - top, x * rx / extent[1] - left

    def corner(p, q):
        angle = angles[top + p, left + q]
        return np.cos(angle) * (ty - p) + np.sin(angle) * (tx - q)

    def fade(t):
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    first = (1 - fade(ty)) * corner(0, 0) + fade(ty) * corner(1, 0)
    second = (1 - fade(ty)) * corner(0, 1) + fade(ty) * corner(1, 1)
    return np.sqrt(2) * ((1 - fade(tx)) * first + fade(tx) * second)


@pytest.fixture(scope="module")
def field():
    return jax.jit(noise.perlin_field, static_argnums=(2,), static_argnames=("extent",))


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (224, 96)])
def test_every_lattice_equals_the_definition(field, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    for ey, ex in itertools.product(range(6), repeat=2):
        cells = (2**ey, 2**ex)
        expected = definition(ANGLES, cells, y, x, shape)
        got = field(ANGLES, jnp.array(cells), shape)
        np.testing.assert_allclose(got[..., 0], expected, atol=2e-6)
        assert np.abs(got).max() <= 1.0


def test_noise_vanishes_at_the_nodes_for_sizes_that_do_not_divide(field):
    # 96 rows in 32 cells: node rows are multiples of 3. 3 * r / 96 is not a float.
    got = field(ANGLES, jnp.array([32, 16]), (96, 48))
    np.testing.assert_array_equal(got[::3, ::3], 0.0)


def test_parallel_gradients_give_the_closed_form(field):
    got = field(np.zeros((33, 33), np.float32), jnp.array([4, 8]), (64, 40))
    t = (np.arange(64) * 4 % 64) / 64
    profile = np.sqrt(2) * (t - (6 * t**5 - 15 * t**4 + 10 * t**3))
    np.testing.assert_allclose(got[..., 0], np.tile(profile[:, None], 40), atol=1e-6)


def test_extent_crops_a_larger_field(field):
    whole = field(ANGLES, jnp.array([8, 4]), (64, 128))
    part = field(ANGLES, jnp.array([8, 4]), (40, 70), extent=(64, 128))
    np.testing.assert_allclose(part, whole[:40, :70], atol=1e-6)


def test_noise_at_any_coordinate_equals_the_definition():
    rng = np.random.default_rng(1)
    y, x = rng.uniform(0, 49, (20, 30)), rng.uniform(0, 79, (20, 30))
    for cells in ((1, 1), (32, 2), (8, 16)):
        expected = definition(ANGLES, cells, y, x, (50, 80))
        got = noise.perlin_field_at(
            jnp.asarray(ANGLES),
            jnp.array(cells),
            jnp.float32(y),
            jnp.float32(x),
            extent=(50, 80),
        )
        np.testing.assert_allclose(got[..., 0], expected, atol=5e-5)


def test_direct_and_resampled_rotation_agree_on_the_mask():
    # Cells of eight pixels or more, as at 256 pixels: interpolation blurs finer ones.
    draws, options = {}, {"exponents": (0, 3)}
    for rotation in ("direct", "resample", "nearest"):
        mask = jax.jit(
            jax.vmap(
                lambda k, r=rotation: noise.perlin_mask(
                    k, (96, 64), rotation=r, **options
                )
            )
        )(jax.random.split(jax.random.key(0), 64))
        draws[rotation] = np.asarray(mask) > 0.5
    for other in ("resample", "nearest"):
        both = (draws["direct"] & draws[other]).sum()
        either = (draws["direct"] | draws[other]).sum()
        assert both / either > 0.9


def test_corners_are_empty_or_rank_last():
    key = jax.random.key(3)
    zero = noise.perlin(key, (48, 64), corners="zero")
    last = noise.perlin(key, (48, 64), corners="last")
    changed = np.asarray(zero != last)
    assert 0.02 < changed.mean() < 0.5
    np.testing.assert_array_equal(np.asarray(last)[changed] < -1, True)
    assert np.abs(np.asarray(zero)[changed]).max() < 1


def test_law_of_the_draem_mask():
    # Measured on 4,000 draws of the public code: mean 4.9 %, empty 4.8 % of the time.
    keys = jax.random.split(jax.random.key(1), 2000)

    @jax.jit
    def areas(keys):
        return jax.lax.map(lambda k: noise.perlin_mask(k, (256, 256)).mean(), keys)

    area = np.asarray(areas(keys))
    assert 0.045 < area.mean() < 0.055
    assert 0.03 < (area == 0).mean() < 0.07
    assert area.max() > 0.2


def empty_share(**options):
    keys = jax.random.split(jax.random.key(2), 200)
    draw = jax.jit(
        lambda keys: jax.lax.map(
            lambda k: noise.perlin_mask(k, (32, 32), exponents=(0, 1), **options), keys
        )
    )
    masks = np.asarray(draw(keys))
    assert set(np.unique(masks)) <= {0.0, 1.0}
    return (masks.sum((1, 2, 3)) == 0).mean(), masks


def test_empty_masks_are_kept_redrawn_or_rescaled():
    kept, masks = empty_share()
    retried, again = empty_share(on_empty="retry")
    rescaled, _ = empty_share(on_empty="rescale")
    assert 0.25 < kept < 0.5
    assert retried < 0.02
    # A peak can still turn out of the image or between two pixels.
    assert rescaled < kept / 2
    full = masks.sum((1, 2, 3)) > 0
    np.testing.assert_array_equal(again[full], masks[full])


def test_normalized_fields_reach_the_threshold():
    share, masks = empty_share(normalize=True, rotation="none")
    assert share == 0.0
    assert masks.mean() > 0.3


@pytest.mark.parametrize("rotation", ["none", "resample", "direct"])
def test_area_is_exact_up_to_ties_whatever_the_size(rotation):
    within = np.zeros((51, 40, 1), np.float32)
    within[4:30, 3:35] = 1
    allowed = jnp.asarray(within)

    @jax.jit
    def draw(key, area):
        return noise.perlin_mask(
            key, (51, 40), rotation=rotation, area=area, within=allowed
        )

    for area in (0.001, 0.1, 0.5, 0.97, 1.0):
        for seed in range(4):
            mask = np.asarray(draw(jax.random.key(seed), area))
            assert (mask * (1 - within)).sum() == 0
            wanted = max(1, round(area * within.sum()))
            assert mask.sum() >= wanted
            assert mask.sum() <= wanted + 0.05 * within.sum()


def test_area_is_a_fraction_of_the_foreground_inside_the_region():
    image = jnp.zeros((32, 32, 3))
    foreground = jnp.zeros((32, 32, 1)).at[:, :16].set(1.0)
    region = jnp.zeros((32, 32, 1)).at[:16].set(1.0)
    inputs = Inputs(image=image, foreground=foreground, region=region)
    for area, expected in ((0.25, 128), (0.9, 256)):
        requested = inputs.replace(controls=Controls(area=jnp.float32(area)))
        mask = noise.perlin_shape(jax.random.key(0), requested)
        assert abs(float(mask.sum()) - expected) <= 3
        assert float((mask * (1 - foreground * region)).sum()) == 0.0


def test_a_mask_within_nothing_is_empty():
    for options in ({}, {"area": 0.2}, {"on_empty": "retry"}):
        mask = noise.perlin_mask(
            jax.random.key(0), (16, 16), within=jnp.zeros((16, 16, 1)), **options
        )
        assert float(mask.sum()) == 0.0


def test_large_images_do_not_overflow(field):
    # Last rows of a 20,000 pixel high strip, where i * r exceeds 2**19.
    y, x = np.mgrid[:20000, :2]
    got = field(ANGLES, jnp.array([32, 1]), (20000, 2))
    expected = definition(ANGLES, (32, 1), y, x, (20000, 2))
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-5)


def test_power_of_two_extent_differs_and_stays_in_range():
    key = jax.random.key(5)
    plain = noise.perlin(key, (48, 80), rotation="none")
    padded = noise.perlin(key, (48, 80), rotation="none", power_of_two=True)
    same = noise.perlin(key, (64, 128), rotation="none")[:48, :80]
    np.testing.assert_allclose(padded, same, atol=1e-6)
    assert not np.allclose(plain, padded)


def test_a_gpu_evaluates_the_field_that_products_give():
    angles = jax.random.uniform(jax.random.key(2), (33, 33), maxval=2 * np.pi)
    for cells in ([1, 32], [8, 4]):
        axes = [
            noise._axis(n, n, jnp.int32(c))
            for n, c in zip((40, 56), cells, strict=True)
        ]
        given = (angles, *axes[0], *axes[1])
        np.testing.assert_allclose(
            noise._by_gathers(*given), noise._by_products(*given), atol=2e-6
        )
