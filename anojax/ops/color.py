"""Color adjustments and jitter, with torchvision's definitions.

Images lie in [0, 1], and most functions take their channels as separate planes:
arithmetic along an innermost axis of three does not vectorize. With one channel, hue
and saturation have nothing to act on.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Scalar = Float[Array, ""] | float
Channels = tuple[Float[Array, "*s"], ...]
Real = Float[Array, "*s"]

_LUMA = (0.299, 0.587, 0.114)
# Where red, green and blue stand on the hexagon of hues, in sixths.
HEXAGON_OFFSETS = (5.0, 3.0, 1.0)


def split_channels(image: Float[Array, "h w c"]) -> Channels:
    """The channels as separate planes; `merge_channels` puts them together again."""
    return tuple(image[..., c] for c in range(image.shape[-1]))


def merge_channels(channels: Channels) -> Float[Array, "h w c"]:
    """Image `[h, w, c]` of the planes."""
    return jnp.stack(channels, axis=-1)


def luma(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """0.299 R + 0.587 G + 0.114 B; a gray image is its own luma.

    Example:
      >>> import jax.numpy as jnp
      >>> round(float(luma(jnp.asarray([[[1.0, 0.5, 0.0]]]))[0, 0, 0]), 4)
      0.5925
    """
    return gray(split_channels(image))[..., None]


def gray(channels: Channels) -> Float[Array, "*s"]:
    """Luma of planes."""
    if len(channels) == 1:
        return channels[0]
    return sum(weight * v for weight, v in zip(_LUMA, channels, strict=True))


def adjust_brightness(channels: Channels, factor: Scalar) -> Channels:
    """Multiply by `factor`, clipped to [0, 1]."""
    return tuple(jnp.clip(factor * v, 0.0, 1.0) for v in channels)


def adjust_contrast(
    channels: Channels, factor: Scalar, *, weights: Float[Array, "*s"] | None = None
) -> Channels:
    """Stretch about the mean luma of the pixels with weight, clipped to [0, 1]."""
    level = gray(channels)
    if weights is None:
        mean = jnp.mean(level)
    else:
        mean = jnp.sum(level * weights) / jnp.maximum(jnp.sum(weights), 1.0)
    return tuple(jnp.clip(mean + factor * (v - mean), 0.0, 1.0) for v in channels)


def adjust_saturation(channels: Channels, factor: Scalar) -> Channels:
    """Stretch each pixel about its own luma, clipped to [0, 1]; 0 is grayscale."""
    if len(channels) == 1:
        return channels
    level = gray(channels)
    return tuple(jnp.clip(level + factor * (v - level), 0.0, 1.0) for v in channels)


def adjust_hue(channels: Channels, turns: Scalar) -> Channels:
    """Turn the HSV hue by a fraction of the circle; S and V stay."""
    if len(channels) == 1:
        return channels
    r, g, b = channels
    top = jnp.maximum(jnp.maximum(r, g), b)
    bottom = jnp.minimum(jnp.minimum(r, g), b)
    turn = sixths(r, g, b, top, top - bottom) + 6.0 * turns
    return tuple(
        top - (top - bottom) * hexagon(turn + offset) for offset in HEXAGON_OFFSETS
    )


def jitter(
    key: Key[Array, ""],
    image: Float[Array, "h w c"],
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    weights: Float[Array, "h w 1"] | None = None,
) -> Float[Array, "h w c"]:
    """Color jitter as in torchvision: four adjustments in random order.

    Args:
      key: source of the factors and of the order.
      image: values in [0, 1].
      brightness, contrast, saturation: the factor is drawn from U(1 - x, 1 + x), x in
        [0, 1]. 0 leaves the adjustment out.
      hue: the turn is drawn from U(-x, x) of the circle, x in [0, 0.5].
      weights: pixels over which the mean luma of the contrast is taken; all by default.

    Example:
      >>> import jax.numpy as jnp
      >>> jitter(jax.random.key(0), jnp.full((4, 4, 3), 0.5), brightness=0.4).shape
      (4, 4, 3)
    """
    weights = None if weights is None else weights[..., 0]
    adjustments: list[tuple[float, Callable]] = [
        (brightness, lambda x, u: adjust_brightness(x, 1.0 + brightness * u)),
        (
            contrast,
            lambda x, u: adjust_contrast(x, 1.0 + contrast * u, weights=weights),
        ),
    ]
    if image.shape[-1] == 3:
        adjustments += [
            (saturation, lambda x, u: adjust_saturation(x, 1.0 + saturation * u)),
            (hue, lambda x, u: adjust_hue(x, hue * u)),
        ]
    active = [adjust for amount, adjust in adjustments if amount]
    if not active:
        return image
    if len(active) == 1:
        # A loop of one step would be inlined, and fused with what is around it, which
        # repeats the work for every channel.
        active.append(lambda x, u: x)
    drawn = jax.random.uniform(key, (2, len(active)), minval=-1.0)
    order, strength = jnp.argsort(drawn[0]), drawn[1]

    def step(channels, which):
        return jax.lax.switch(which, active, channels, strength[which]), None

    return merge_channels(jax.lax.scan(step, split_channels(image), order)[0])


def sixths(r: Real, g: Real, b: Real, top: Real, span: Real) -> Real:
    """Hue in sixths of the circle, from -1 to 5; `top` is the largest channel."""
    safe = jnp.where(span > 0.0, span, 1.0)
    return jnp.where(
        top == r,
        (g - b) / safe,
        jnp.where(top == g, 2.0 + (b - r) / safe, 4.0 + (r - g) / safe),
    )


def hexagon(turn: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """How far a channel lies below the largest one: 0 at the top, 1 at the bottom."""
    turn = turn - 6.0 * jnp.floor(turn / 6.0)
    return jnp.clip(jnp.minimum(turn, 4.0 - turn), 0.0, 1.0)
