"""Median filters of small integers and of masks, by counting instead of sorting.

Outside the image the nearest border pixel is repeated, as OpenCV's ``medianBlur``
and scikit-image's ``rank`` filters do.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int


def binary_median(
    mask: Float[Array, "h w 1"], *, size_px: int
) -> Float[Array, "h w 1"]:
    """The median of a 0/1 mask over a square: 1 where more than half of it is 1.

    Args:
      mask: exactly 0 or 1.
      size_px: side of the square, an odd number from 1 to 15.

    Example:
      >>> speck = jnp.zeros((5, 5, 1)).at[2, 2].set(1.0)
      >>> float(binary_median(speck, size_px=3).sum())
      0.0
    """
    h, w, _ = mask.shape
    # Sums of at most 15 * 15 ones fit into a byte: 32 pixels per vector operation.
    padded = jnp.pad(mask[..., 0].astype(jnp.uint8), size_px // 2, mode="edge")
    rows = sum(padded[:, x : x + w] for x in range(size_px))
    count = sum(rows[y : y + h] for y in range(size_px))
    return (count > size_px**2 // 2).astype(mask.dtype)[..., None]


def disk_median(
    values: Int[Array, "h w"], *, radius_px: int, bits: int
) -> Int[Array, "h w"]:
    """The median over a disk (pixels with x² + y² <= radius²).

    Each pixel finds its answer bit by bit: a bit is set if at least half of the disk
    is as large as the answer with that bit. The cost is `bits` counts over the disk.

    Args:
      values: integers in [0, 2**bits).
      radius_px: radius of the disk, at least 1; unrolled, so keep it below 10.
      bits: 1 to 14.
    """
    h, w = values.shape
    across = np.arange(-radius_px, radius_px + 1)
    disk = across[:, None] ** 2 + across[None] ** 2 <= radius_px**2
    offsets = [(int(y), int(x)) for y, x in np.argwhere(disk)]
    half = len(offsets) // 2 + 1
    # 16-bit comparisons: twice as many pixels per vector operation as with 32.
    padded = jnp.pad(values.astype(jnp.int16), radius_px, mode="edge")

    def decide(step: Array, low: Array) -> Array:
        bit = jnp.left_shift(jnp.int16(1), jnp.int16(bits - 1) - step.astype(jnp.int16))
        tried = low + bit
        count = sum(
            (padded[y : y + h, x : x + w] >= tried).astype(jnp.int16)
            for y, x in offsets
        )
        return jnp.where(count >= half, tried, low)

    found = lax.fori_loop(0, bits, decide, jnp.zeros((h, w), jnp.int16))
    return found.astype(values.dtype)
