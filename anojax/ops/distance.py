"""Exact Euclidean distance transform: two one-dimensional passes, static shapes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def distance_transform(mask: Float[Array, "h w 1"]) -> Float[Array, "h w 1"]:
    """Distance in pixels from every pixel of `mask` to the nearest pixel outside it.

    0 outside the mask. Where nothing lies outside the mask at all, every distance is
    h + w. The lower envelope of parabolas (Felzenszwalb and Huttenlocher, 2012) is
    taken by brute force, h·w² operations without branches: exact up to sides of 2048.

    Example:
      >>> distance_transform(jnp.ones((1, 5, 1)).at[0, 0].set(0.0))[0, :, 0].tolist()
      [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    h, w, _ = mask.shape
    inside = mask[..., 0] > 0
    far = np.float32(h + w)
    rows = jnp.broadcast_to(jnp.arange(h, dtype=jnp.float32)[:, None], (h, w))
    # Nearest outside pixel of the same column, seen from above and from below.
    above = jax.lax.cummax(jnp.where(inside, -far, rows), axis=0)
    below = jax.lax.cummin(jnp.where(inside, 2 * far, rows), axis=0, reverse=True)
    column = jnp.minimum(jnp.minimum(rows - above, below - rows), far)
    x = np.arange(w, dtype=np.float32)
    across = (x[:, None] - x[None, :]) ** 2
    squared = jnp.min((column * column)[:, None, :] + jnp.asarray(across)[None], axis=2)
    return jnp.minimum(jnp.sqrt(squared), far)[..., None]
