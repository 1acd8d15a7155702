"""Random pixels, boxes and box sums against direct counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.ops import placement


def test_random_pixel_is_uniform_over_the_mask(key):
    mask = np.zeros((13, 21, 1), np.float32)
    mask[2, 3], mask[2, 20], mask[12, 0], mask[7, 7] = 1, 1, 1, 1
    draw = jax.vmap(lambda k: jnp.stack(placement.random_pixel(k, jnp.asarray(mask))))
    pixels, counts = np.unique(
        np.asarray(draw(jax.random.split(key, 4000))), axis=0, return_counts=True
    )
    assert pixels.tolist() == [[2, 3], [2, 20], [7, 7], [12, 0]]
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(750)


def test_random_pixel_without_a_mask_covers_the_image(key):
    draw = jax.vmap(lambda k: jnp.stack(placement.random_pixel(k, None, shape=(3, 2))))
    pixels = np.asarray(draw(jax.random.split(key, 300)))
    assert len(np.unique(pixels, axis=0)) == 6
    with pytest.raises(ValueError, match="pass shape"):
        placement.random_pixel(key, None)


def test_random_pixel_of_an_empty_mask_is_the_origin(key):
    y, x = placement.random_pixel(key, jnp.zeros((5, 9, 1)))
    assert (int(y), int(x)) == (0, 0)


@pytest.mark.parametrize(
    ("center", "size", "corner"),
    [((5, 5), (3, 4), (4, 3)), ((0, 19), (6, 6), (0, 14)), ((9, 9), (12, 30), (0, 0))],
)
def test_box_around_is_pushed_inside(center, size, corner):
    y, x = (jnp.int32(c) for c in center)
    got = placement.box_around(y, x, *size, (11, 20))
    assert tuple(map(int, got)) == corner


def test_box_sides_keep_the_area_when_one_side_is_cut():
    sides = lambda area, aspect: tuple(  # noqa: E731
        map(int, placement.box_sides(jnp.float32(area), jnp.float32(aspect), (64, 40)))
    )
    assert sides(400, 4.0) == (10, 40)
    assert sides(1600, 9.0) == (40, 40)
    assert sides(900, 0.01) == (64, 14)
    assert sides(1e6, 1.0) == (64, 40)
    assert sides(1, 1.0) == (2, 2)


def test_area_that_fits_only_shrinks_what_would_stick_out():
    f32 = jnp.float32
    kept = placement.area_that_fits(f32(100), f32(1), f32(0.3), (40, 40))
    assert float(kept) == 100
    cut = placement.area_that_fits(f32(1600), f32(1), f32(np.pi / 4), (40, 40))
    assert float(jnp.sqrt(cut) * np.sqrt(2)) == pytest.approx(38, abs=1e-3)


def test_box_sum_equals_slicing(key):
    mask = jax.random.bernoulli(key, 0.4, (17, 23, 1)).astype(jnp.float32)
    boxes = jnp.asarray([[0, 0, 17, 23], [3, 5, 4, 7], [16, 22, 1, 1], [-2, 20, 5, 9]])
    got = placement.box_sum(placement.integral_image(mask), *boxes.T)
    plain = np.asarray(mask[..., 0])
    want = [
        plain[max(y, 0) : y + h, max(x, 0) : x + w].sum()
        for y, x, h, w in boxes.tolist()
    ]
    np.testing.assert_array_equal(got, want)


def test_first_acceptable_prefers_order_then_size():
    pick = lambda *s: int(  # noqa: E731
        placement.first_acceptable(jnp.asarray(s, jnp.float32), threshold=0.7)
    )
    assert pick(0.1, 0.7, 0.9) == 1
    assert pick(0.1, 0.6, 0.3) == 1


def test_window_covers_its_box():
    corner, inside = placement.window_over(
        jnp.int32(8), jnp.int32(1), (6, 10), (12, 30)
    )
    assert [int(c) for c in corner] == [6, 1]
    assert [int(c) for c in inside] == [2, 0]
