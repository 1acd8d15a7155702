"""How much two masks have in common, for many placements of one on the other.

Masks are packed 32 pixels to a word, so that a placement costs a few hundred word
operations instead of ten thousand pixels, and no placement has to wait for another.
"""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

_WORD = 32


def overlap_counts(
    mask: Float[Array, "h w 1"],
    patch: Float[Array, "p q 1"],
    y0: Int[Array, " k"],
    x0: Int[Array, " k"],
) -> Int[Array, " k"]:
    """Number of pixels set in both masks, with the patch's corner at (y0, x0).

    Args:
      mask: 0 or 1.
      patch: 0 or 1, any size.
      y0: row of the mask on which the patch's first row lies, 0 to h.
      x0: column likewise, 0 to w. Parts of the patch beyond the mask count as 0.
    """
    ph = patch.shape[0]
    tile = _pack(patch)
    words = tile.shape[1]
    # One word more: a patch that starts inside a word ends inside the one after.
    packed = jnp.pad(_pack(mask), ((0, ph), (0, words + 1)))
    rows = y0[:, None] + jnp.arange(ph)[None]
    columns = x0[:, None] // _WORD + jnp.arange(words + 1)[None]
    index = rows[:, :, None] * packed.shape[1] + columns[:, None, :]
    below = packed.reshape(-1).at[index].get(mode="promise_in_bounds")
    shift = (x0 % _WORD).astype(jnp.uint32)[:, None, None]
    low = jnp.right_shift(below[:, :, :-1], shift)
    # In two steps, because a shift by the whole word is undefined.
    high = jnp.left_shift(below[:, :, 1:], np.uint32(_WORD - 1) - shift) << np.uint32(1)
    common = (low | high) & tile[None]
    return lax.population_count(common).sum(axis=(1, 2)).astype(jnp.int32)


def _pack(mask: Float[Array, "h w 1"]) -> UInt32[Array, "h words"]:
    """Column x of the mask becomes bit x % 32 of word x // 32."""
    w = mask.shape[1]
    bits = jnp.pad((mask[..., 0] > 0).astype(jnp.uint32), ((0, 0), (0, -w % _WORD)))
    bits = rearrange(bits, "h (words bit) -> h words bit", bit=_WORD)
    bits = bits << jnp.arange(_WORD, dtype=jnp.uint32)[None, None]
    return bits.sum(axis=-1, dtype=jnp.uint32)
