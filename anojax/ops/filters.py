"""Small separable filters with fixed taps and traced strength."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Scalar = Float[Array, ""] | float


def gaussian_blur(
    image: Float[Array, "h w c"], sigma: Scalar, *, radius: int
) -> Float[Array, "h w c"]:
    """Gaussian blur with the border mirrored about the edge pixel (reflect-101).

    Args:
      image: any range.
      sigma: standard deviation in pixels, traced, at least 0; near 0 is the identity.
      radius: taps on either side (static): 2 radius + 1 in all. The kernel is cut
        there and normalized; 3 sigma is ample. It must be below both sides.

    Example:
      >>> image = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
      >>> round(float(gaussian_blur(image, 1.0, radius=3)[4, 4, 0]), 3)
      0.159
    """
    step = np.arange(-radius, radius + 1, dtype=np.float32)
    width = jnp.maximum(jnp.asarray(sigma, jnp.float32), 1e-3)
    taps = jnp.exp(-0.5 * (jnp.asarray(step) / width) ** 2)
    taps = taps / jnp.sum(taps)
    for axis in (0, 1):
        image = _correlate(image, taps, axis, radius)
    return image


def smooth(levels: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Pillow's SMOOTH: 3x3 of ones with 5 in the middle, over 13, rounded half up.

    The outermost ring of pixels is copied. Levels are integers 0..255.
    """
    h, w = levels.shape
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    box = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    inner = jnp.floor((box + 4.0 * levels[1:-1, 1:-1]) / 13.0 + 0.5)
    y, x = jnp.arange(h)[:, None], jnp.arange(w)[None]
    inside = (y > 0) & (y < h - 1) & (x > 0) & (x < w - 1)
    return jnp.where(inside, jnp.pad(inner, 1), levels)


def sharpen(levels: Float[Array, "h w"], factor: Scalar) -> Float[Array, "h w"]:
    """Pillow's ImageEnhance.Sharpness on one channel of levels 0..255.

    Args:
      levels: integers 0..255 as floats.
      factor: 0 is blurred, 1 the identity, 2 sharpened. The result is floored.
    """
    blurred = smooth(levels)
    return jnp.floor(jnp.clip(blurred + factor * (levels - blurred), 0.0, 255.0))


def _correlate(
    image: Float[Array, "h w c"], taps: Float[Array, " t"], axis: int, radius: int
) -> Float[Array, "h w c"]:
    pad = [(0, 0)] * 3
    pad[axis] = (radius, radius)
    padded = jnp.pad(image, pad, mode="reflect")
    size = image.shape[axis]
    index = [slice(None)] * 3
    total = jnp.zeros_like(image)
    for i in range(2 * radius + 1):
        index[axis] = slice(i, i + size)
        total = total + taps[i] * padded[tuple(index)]
    return total
