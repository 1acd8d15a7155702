"""Losses and similarity maps of the published methods, on batches ``[B, H, W, C]``.

Losses are scalars, means over everything unless said otherwise; maps have one value
per pixel. Compute them in float32.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from anojax.errors import AnojaxError
from anojax.nn.resize import resize_bilinear
from anojax.nn.smoothing import gaussian_taps, separable_filter

Batch = Float[Array, "b h w c"]
Scalar = Float[Array, ""]


def l2(a: Float[Array, "*s"], b: Float[Array, "*s"]) -> Scalar:
    """Mean squared difference."""
    return jnp.mean(jnp.square(a - b))


def focal(
    logits: Float[Array, "b h w k"],
    classes: Int[Array, "b h w"],
    *,
    gamma: float = 2.0,
    margin: float = 1e-5,
) -> Scalar:
    """Focal loss over exclusive classes, as DRAEM uses it: -(1 - p)^gamma ln p.

    p is the softmax probability of the true class under a target that leaves `margin`
    to the others, plus `margin`, so that the logarithm is finite.

    Args:
      logits: of k classes, on the last axis.
      classes: the truth, 0 to k - 1.
      gamma: how much what is certain counts less.
      margin: the target keeps away from 0 and 1.
    """
    probability = jax.nn.softmax(logits, axis=-1)
    target = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    target = jnp.clip(target, margin, 1 - margin)
    # Rounding may carry the sum above one, where a fractional power has no value.
    p = jnp.minimum(jnp.sum(target * probability, axis=-1) + margin, 1)
    return jnp.mean(-((1 - p) ** gamma) * jnp.log(p))


def soft_bce(logits: Float[Array, "*s"], target: Float[Array, "*s"]) -> Scalar:
    """Cross-entropy of a sigmoid against a target in [0, 1] (NSA)."""
    return jnp.mean(
        -target * jax.nn.log_sigmoid(logits)
        - (1 - target) * jax.nn.log_sigmoid(-logits)
    )


def dice(
    probability: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    *,
    smoothing: float = 1.0,
) -> Scalar:
    """1 - (2 |P T| + s) / (|P| + |T| + s) per example, averaged over the batch.

    The sums run over pixels and channels; `smoothing` s makes two empty masks agree.

    Example:
      >>> mask = jnp.ones((1, 4, 4, 1))
      >>> float(dice(mask, mask))
      0.0
    """
    axes = (1, 2, 3)
    overlap = jnp.sum(probability * target, axis=axes)
    total = jnp.sum(probability, axis=axes) + jnp.sum(target, axis=axes)
    return jnp.mean(1 - (2 * overlap + smoothing) / (total + smoothing))


def cosine_distance(
    a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]
) -> Float[Array, "b h w 1"]:
    """1 - cosine of the angle between the feature vectors at every position.

    A zero vector is at distance 1 from everything, with gradient zero.
    """
    return 1 - jnp.sum(_unit(a) * _unit(b), axis=-1, keepdims=True)


def _unit(x: Array) -> Array:
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    present = square > 0
    # Two selections: the gradient of the root at zero must not be computed at all.
    length = jnp.sqrt(jnp.where(present, square, jnp.ones_like(square)))
    return jnp.where(present, x / length, jnp.zeros_like(x))


def cosine(
    a: Float[Array, "b h w c"],
    b: Float[Array, "b h w c"],
    *,
    reduction: Literal["mean", "batch_sum"] = "mean",
) -> Scalar:
    """Mean cosine distance; ``batch_sum`` adds up the means of the examples (DeSTSeg,
    whose learning rate presumes it)."""
    per_example = jnp.mean(cosine_distance(a, b), axis=(1, 2, 3))
    return jnp.mean(per_example) if reduction == "mean" else jnp.sum(per_example)


def ssim_map(a: Batch, b: Batch, *, data_range: float = 1.0) -> Batch:
    """Structural similarity per pixel and channel, at most 1 (Wang et al., 2004).

    Gaussian window of 11 x 11 pixels, sigma 1.5, zeros beyond the border.
    """
    taps = gaussian_taps(11, 1.5)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    moments = separable_filter(jnp.concatenate([a, b, a * a, b * b, a * b], -1), taps)
    mean_a, mean_b, square_a, square_b, product = jnp.split(moments, 5, axis=-1)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    above = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return above / below


def ssim(a: Batch, b: Batch, *, data_range: float = 1.0) -> Scalar:
    """1 - mean structural similarity.

    Example:
      >>> image = jnp.ones((1, 16, 16, 1))
      >>> round(float(ssim(image, image)), 4)
      0.0
    """
    return 1 - jnp.mean(ssim_map(a, b, data_range=data_range))


def gradient_magnitude(x: Batch) -> Batch:
    """Length of the Prewitt gradient (taps +-1/3), per channel, zeros beyond the border.

    1e-12 inside the root keeps the gradient finite where the image is flat.
    """
    h, w = x.shape[1:3]
    p = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    across = p[:, :, :w] - p[:, :, 2:]
    down = p[:, :h] - p[:, 2:]
    gx = (across[:, :h] + across[:, 1 : h + 1] + across[:, 2:]) / 3
    gy = (down[:, :, :w] + down[:, :, 1 : w + 1] + down[:, :, 2:]) / 3
    return jnp.sqrt(gx**2 + gy**2 + 1e-12)


def gms_map(a: Batch, b: Batch, *, c: float = 0.0026) -> Batch:
    """Gradient magnitude similarity in (0, 1], per pixel and channel (RIAD).

    Blind to flat shifts of color. `c` suits images in [0, 1].
    """
    ga, gb = gradient_magnitude(a), gradient_magnitude(b)
    return (2 * ga * gb + c) / (ga**2 + gb**2 + c)


def msgms_map(a: Batch, b: Batch, *, scales: int = 4, c: float = 0.0026) -> Batch:
    """`gms_map` averaged over `scales`, each resized to full size (half-pixel centers).

    Every scale halves both images by averaging 2 x 2 pixels.

    Args:
      a, b: images of one shape.
      scales: how often they are halved, plus one.
      c: keeps the quotient finite where gradients vanish.
    """
    shape = a.shape[1:3]
    maps = [resize_bilinear(m, shape) for m in _gms_pyramid(a, b, scales, c)]
    return sum(maps[1:], maps[0]) / scales


def msgms(a: Batch, b: Batch, *, scales: int = 4, c: float = 0.0026) -> Scalar:
    """Mean of 1 - `gms_map` over `scales`; all scales weigh the same.

    Args:
      a, b: images of one shape.
      scales: how often they are halved, plus one.
      c: keeps the quotient finite where gradients vanish.
    """
    losses = [1 - jnp.mean(m) for m in _gms_pyramid(a, b, scales, c)]
    return sum(losses[1:], losses[0]) / scales


def _gms_pyramid(a: Array, b: Array, scales: int, c: float) -> list[Array]:
    smallest = 2 ** (scales - 1)
    if min(a.shape[1:3]) < smallest:
        raise AnojaxError(
            f"{scales} scales need sides of at least {smallest} px; "
            f"got {a.shape[1]} x {a.shape[2]}: use fewer scales or larger images"
        )
    maps = []
    for scale in range(scales):
        if scale:
            a, b = avg_pool_2x2(a), avg_pool_2x2(b)
        maps.append(gms_map(a, b, c=c))
    return maps


def avg_pool_2x2(x: Batch) -> Float[Array, "b h//2 w//2 c"]:
    """Mean of every 2 x 2 block; an odd last row or column is dropped.

    Example:
      >>> avg_pool_2x2(jnp.arange(4.0).reshape(1, 2, 2, 1)).item()
      1.5
    """
    _, h, w, _ = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return rearrange(x, "b (h i) (w j) c -> b h i w j c", i=2, j=2).mean((2, 4))
