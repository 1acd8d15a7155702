"""Losses, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anojax.errors import AnojaxError
from anojax.nn import losses

# Compiled whole: op by op, each small operation is compiled alone.
ssim, ssim_map = (
    jax.jit(f, static_argnames="data_range") for f in (losses.ssim, losses.ssim_map)
)
gms_map, msgms, msgms_map = map(
    jax.jit, (losses.gms_map, losses.msgms, losses.msgms_map)
)


@pytest.fixture
def pair(key):
    a, b = jax.random.uniform(key, (2, 2, 24, 32, 3))
    return a, b


def test_l2(pair):
    a, b = pair
    expected = np.mean((np.float64(a) - np.float64(b)) ** 2)
    assert float(losses.l2(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.l2(a, a)) == 0


def test_focal_at_one_half():
    classes = jnp.asarray([[[0, 1], [1, 0]]])
    loss = losses.focal(jnp.zeros((1, 2, 2, 2)), classes)
    p = 0.5 + 1e-5
    assert float(loss) == pytest.approx(-((1 - p) ** 2) * np.log(p), abs=1e-6)
    assert float(loss) == pytest.approx(0.1733, abs=1e-4)


def test_focal_of_certainty(key):
    classes = jax.random.randint(key, (2, 8, 8), 0, 2)
    right = 40.0 * jax.nn.one_hot(classes, 2)
    for gamma in (2.0, 1.5):
        cost = lambda x, gamma=gamma: losses.focal(x, classes, gamma=gamma)  # noqa: E731
        assert float(cost(right)) < 1e-8
        assert jnp.all(jnp.isfinite(jax.jit(jax.grad(cost))(right)))
    wrong = float(losses.focal(-right, classes))
    assert wrong == pytest.approx(-np.log(2e-5), rel=1e-3)


def test_focal_prefers_the_truth(key):
    classes = jnp.ones((1, 2, 2), jnp.int32)
    gradient = jax.jit(jax.grad(losses.focal))(jnp.zeros((1, 2, 2, 2)), classes)
    assert jnp.all(gradient[..., 1] < 0) and jnp.all(gradient[..., 0] > 0)


def test_soft_bce():
    p = np.asarray([0.1, 0.5, 0.9, 0.3])
    target = np.asarray([0.0, 0.25, 1.0, 0.7])
    expected = np.mean(-target * np.log(p) - (1 - target) * np.log(1 - p))
    logits = jnp.asarray(np.log(p / (1 - p)), jnp.float32)
    loss = losses.soft_bce(logits, jnp.asarray(target, jnp.float32))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    # The minimum over the prediction is the entropy of the target, at the target.
    gradient = jax.grad(losses.soft_bce)(logits, jnp.asarray(p, jnp.float32))
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_dice():
    mask = jnp.zeros((2, 4, 4, 1)).at[0, :2].set(1.0)
    assert float(losses.dice(mask, mask)) == pytest.approx(0, abs=1e-7)
    # First example: disjoint halves, 1 - 1 / 17; second: all of it wrong.
    assert float(losses.dice(1 - mask, mask)) == pytest.approx(1 - 1 / 17)
    half = jnp.full((2, 4, 4, 1), 0.5)
    expected = 1 - ((8 + 1) / (16 + 1) + 1 / 9) / 2
    assert float(losses.dice(half, mask)) == pytest.approx(expected, rel=1e-6)


def test_cosine_distance(pair):
    a, b = pair
    expected = 1 - np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(
        b, axis=-1
    )
    np.testing.assert_allclose(
        losses.cosine_distance(a, b)[..., 0], expected, atol=1e-5
    )
    assert float(losses.cosine(a, 3 * a)) == pytest.approx(0, abs=1e-6)
    assert float(losses.cosine(a, -a)) == pytest.approx(2, abs=1e-6)
    twice = losses.cosine(
        jnp.concatenate([a, a]), jnp.concatenate([b, b]), reduction="batch_sum"
    )
    once = losses.cosine(a, b, reduction="batch_sum")
    assert float(twice) == pytest.approx(2 * float(once), rel=1e-5)
    assert float(once) == pytest.approx(2 * float(losses.cosine(a, b)), rel=1e-5)


def test_cosine_distance_of_nothing(pair):
    zero = jnp.zeros_like(pair[0])
    loss, gradient = jax.jit(jax.value_and_grad(losses.cosine))(zero, pair[1])
    assert float(loss) == 1
    np.testing.assert_array_equal(gradient, 0)


def test_ssim_of_constants():
    a, b = jnp.full((1, 21, 23, 3), 0.2), jnp.full((1, 21, 23, 3), 0.7)
    inside = ssim_map(a, b)[0, 5:-5, 5:-5]
    c1 = 0.01**2
    expected = (2 * 0.2 * 0.7 + c1) / (0.2**2 + 0.7**2 + c1)
    np.testing.assert_allclose(inside, expected, atol=1e-3)


def test_ssim_is_that_of_scikit_image(pair):
    metrics = pytest.importorskip("skimage.metrics", reason="needs scikit-image")
    a, b = (np.float64(x[0]) for x in pair)
    _, expected = metrics.structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
        full=True,
    )
    ours = ssim_map(*pair)[0]
    # Inside, where neither border rule matters.
    np.testing.assert_allclose(ours[5:-5, 5:-5], expected[5:-5, 5:-5], atol=1e-4)


def test_ssim_properties(pair):
    a, b = pair
    assert float(ssim(a, a)) == pytest.approx(0, abs=1e-6)
    assert float(ssim(a, b)) == pytest.approx(float(ssim(b, a)), rel=1e-5)
    assert 0.5 < float(ssim(a, b)) < 1.5
    wide = ssim(2 * a, 2 * b, data_range=2.0)
    assert float(wide) == pytest.approx(float(ssim(a, b)), rel=1e-4)


def test_gradient_magnitude_of_a_ramp():
    x = jnp.broadcast_to(
        jnp.arange(9, dtype=jnp.float32)[None, None, :, None], (1, 8, 9, 2)
    )
    inside = losses.gradient_magnitude(x)[0, 1:-1, 1:-1]
    np.testing.assert_allclose(inside, 2, atol=1e-6)  # three rows of 2, over 3


def test_gms(pair):
    a, b = pair
    np.testing.assert_allclose(gms_map(a, a), 1, atol=1e-6)
    np.testing.assert_allclose(gms_map(a, b), gms_map(b, a), rtol=1e-6)
    assert jnp.all((gms_map(a, b) > 0) & (gms_map(a, b) <= 1))
    dark, light = jnp.full((1, 16, 16, 1), 0.2), jnp.full((1, 16, 16, 1), 0.9)
    np.testing.assert_array_equal(gms_map(dark, light)[0, 1:-1, 1:-1], 1)


def test_gms_of_a_step():
    """A vertical edge of height s against nothing: g = s next to it."""
    step = jnp.zeros((1, 16, 16, 1)).at[:, :, 8:].set(0.5)
    flat = jnp.zeros_like(step)
    row = gms_map(step, flat)[0, 8, 5:12, 0]
    edge = 0.0026 / (0.25 + 0.0026)
    np.testing.assert_allclose(row, [1, 1, edge, edge, 1, 1, 1], atol=1e-5)


def test_msgms(pair):
    a, b = pair
    assert float(msgms(a, a)) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(msgms_map(a, a), 1, atol=1e-6)
    assert msgms_map(a, b).shape == a.shape
    by_hand, x, y = [], a, b
    for _ in range(4):
        by_hand.append(1 - np.mean(gms_map(x, y)))
        x, y = (np.asarray(v) for v in (x, y))
        x, y = (
            jnp.asarray(
                (v[:, ::2, ::2] + v[:, 1::2, ::2] + v[:, ::2, 1::2] + v[:, 1::2, 1::2])
                / 4
            )
            for v in (x, y)
        )
    assert float(msgms(a, b)) == pytest.approx(np.mean(by_hand), rel=1e-5)
    with pytest.raises(AnojaxError, match="sides of at least 8 px; got 6 x 32"):
        msgms(a[:, :6], b[:, :6])


def test_gradients_are_finite_on_flat_images():
    flat = jnp.full((1, 8, 8, 1), 0.5)

    def total(a, b):
        return msgms(a, b) + ssim(a, b) + losses.cosine(a, b)

    assert jnp.all(jnp.isfinite(jax.jit(jax.grad(total))(flat, flat)))
