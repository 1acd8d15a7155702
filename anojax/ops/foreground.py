"""Which pixels show the object, when no mask says so.

`otsu_threshold` and `threshold_foreground` are the classical tools; `object_mask` finds
an object on a plain bright or dark background; `saliency` says where an image is
unusual. What needs connected components lives on the host, in `data.foregrounds`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Scalar

from anojax.ops.filters import gaussian_blur
from anojax.ops.morphology import closing

BINS = 256


def luma(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """Gray level by ITU-R 601 weights; single-channel images as they are."""
    if image.shape[-1] == 1:
        return image
    weights = jnp.asarray(np.array([[[0.299, 0.587, 0.114]]], np.float32))
    return jnp.sum(image * weights, axis=-1, keepdims=True)


def otsu_threshold(values: Float[Array, "h w 1"]) -> Scalar:
    """Otsu's threshold (1979) of values in [0, 1], over 256 bins.

    Values above it are one class. It is the center of the bin that maximizes the
    variance between the classes; of several such bins the middle one.

    Example:
      >>> values = jnp.asarray([0.1, 0.12, 0.8, 0.9]).reshape(2, 2, 1)
      >>> 0.12 < float(otsu_threshold(values)) < 0.8
      True
    """
    bins = jnp.clip(jnp.floor(values.ravel() * BINS), 0, BINS - 1).astype(jnp.int32)
    counts = jnp.zeros(BINS, jnp.float32).at[bins].add(1.0, mode="promise_in_bounds")
    share = counts / counts.sum()
    centers = jnp.asarray((np.arange(BINS, dtype=np.float32) + 0.5) / BINS)
    below = jnp.cumsum(share)
    mean = jnp.cumsum(share * centers)
    spread = (mean[-1] * below - mean) ** 2
    between = spread / jnp.maximum(below * (1.0 - below), 1e-9)
    # Between two well separated classes all bins are equally good.
    best = (between >= between.max() * (1.0 - 1e-5)).astype(jnp.float32)
    return jnp.sum(best * centers) / jnp.sum(best)


def threshold_foreground(
    image: Float[Array, "h w c"], threshold: float | Scalar, *, bright: bool = True
) -> Float[Array, "h w 1"]:
    """Pixels brighter than a gray level in [0, 1] (`bright`), or all the others."""
    above = luma(image) > threshold
    return (above if bright else ~above).astype(jnp.float32)


def border_distance(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """Euclidean color distance, divided by the root of C, to the border's median.

    The border is a ring of 1/32 of the shorter side. On a plain background, bright or
    dark, this is small on the background and large on the object: no polarity to guess.
    """
    h, w, channels = image.shape
    ring = max(1, min(h, w) // 32)
    strips = [image[:ring], image[-ring:], image[:, :ring], image[:, -ring:]]
    border = jnp.concatenate([s.reshape(-1, channels) for s in strips])
    reference = jnp.median(border, axis=0)[None, None]
    squared = jnp.mean((image - reference) ** 2, axis=-1, keepdims=True)
    return jnp.sqrt(squared)


def object_mask(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """The object on a plain background: blur, distance from the border's color, Otsu,
    closing with a 5x5 box.

    The blur has sigma 2 and the box 5 pixels at a height of 256. All ones when the result
    covers less than 5 % or more than 95 % of the image, that is, when there is no such
    object.
    """
    h, w, _ = image.shape
    scale = min(h, w) / 256
    radius = min(max(1, round(6 * scale)), min(h, w) - 1)
    blurred = gaussian_blur(image, jnp.float32(2 * scale), radius=radius)
    far = border_distance(blurred)
    mask = (far > otsu_threshold(far)).astype(jnp.float32)
    mask = closing(mask, size=2 * max(1, round(2 * scale)) + 1)
    share = jnp.mean(mask)
    return jnp.where((share < 0.05) | (share > 0.95), 1.0, mask)


def saliency(image: Float[Array, "h w c"]) -> Float[Array, "h w 1"]:
    """Spectral-residual saliency (Hou and Zhang, CVPR 2007), scaled to [0, 1].

    The part of the log spectrum (at 64 x 64) that its 3x3 mean does not explain, with
    the phase of the image, squared and blurred with sigma 2.5.
    """
    h, w, _ = image.shape
    small = jax.image.resize(luma(image)[..., 0], (64, 64), "linear")
    spectrum = jnp.fft.fft2(small)
    log = jnp.log(jnp.abs(spectrum) + 1e-6)
    rows = log + jnp.roll(log, 1, 0) + jnp.roll(log, -1, 0)
    mean = (rows + jnp.roll(rows, 1, 1) + jnp.roll(rows, -1, 1)) / 9
    phase = jnp.angle(spectrum)
    residual = jnp.exp(log - mean)
    back = jnp.fft.ifft2(
        jax.lax.complex(residual * jnp.cos(phase), residual * jnp.sin(phase))
    )
    energy = (jnp.abs(back) ** 2)[..., None]
    energy = gaussian_blur(energy, jnp.float32(2.5), radius=8)
    full = jax.image.resize(energy, (h, w, 1), "linear")
    low, high = full.min(), full.max()
    return jnp.clip((full - low) / jnp.maximum(high - low, 1e-12), 0.0, 1.0)
