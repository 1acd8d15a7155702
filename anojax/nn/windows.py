"""Overlapping windows of an image, and a map from what was found in each."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Int, Key

from anojax.types import PyTree


def window_starts(
    shape: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]]:
    """Rows and columns where windows (h, w) begin: evenly, at most `strides` apart, the
    first and the last at the borders.

    Example:
      >>> rows, columns = window_starts((10, 8), (4, 4), (4, 4))
      >>> rows.tolist(), columns.tolist()
      ([0, 3, 6], [0, 4])
    """
    found = []
    for side, size, stride in zip(shape, window, strides, strict=True):
        count = -(-(side - size) // stride) + 1
        found.append(np.round(np.linspace(0, side - size, count)).astype(np.int32))
    return found[0], found[1]


def gather_windows(
    image: Float[Array, "h w c"],
    row: Int[Array, ""] | np.int32,
    columns: Int[np.ndarray, " n"],
    window: tuple[int, int],
) -> Float[Array, "n i j c"]:
    """The windows (h, w) of an image that begin in `row` and in each of `columns`.

    Args:
      image: any values.
      row: where all begin.
      columns: where each begins.
      window: height and width.
    """
    rows = jnp.asarray(row, jnp.int32) + np.arange(window[0], dtype=np.int32)
    band = image.at[rows].get(mode="promise_in_bounds")
    places = columns[:, None] + np.arange(window[1], dtype=np.int32)[None]
    found = band.at[:, places].get(mode="promise_in_bounds")
    return rearrange(found, "i n j c -> n i j c")


def gaussian_upsample(
    found: Float[Array, "m n"],
    shape: tuple[int, int],
    window: tuple[int, int],
    begins: tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]],
) -> Float[Array, "h w"]:
    """A value for every pixel: the mean of the windows' values, weighted by a Gaussian
    about the center of each, whose deviation is a sixth of the window.

    Args:
      found: a value for each window.
      shape: height and width of the image.
      window: height and width of a window.
      begins: rows and columns where windows begin, of `window_starts`.
    """
    weights = []
    for side, size, begin in zip(shape, window, begins, strict=True):
        distance = np.arange(side)[:, None] - (begin[None] + (size - 1) / 2)
        exponent = -0.5 * (distance / (size / 6)) ** 2
        # The largest exponent is taken off: far from all windows nothing underflows.
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        weights.append((weight / weight.sum(axis=1, keepdims=True)).astype(np.float32))
    return weights[0] @ found @ weights[1].T


def tile_windows(
    images: Float[Array, "b h w c"], window: tuple[int, int]
) -> Float[Array, "n i j c"]:
    """Windows side by side that cover every image."""
    rows, columns = window_starts(images.shape[1:3], window, window)
    found = [
        jax.vmap(lambda x, y=y: gather_windows(x, y, columns, window))(images)
        for y in rows
    ]
    return rearrange(jnp.concatenate(found), "b n i j c -> (b n) i j c")


def window_size(shape: tuple[int, int], frac: float) -> tuple[int, int]:
    """Sides of a window that is that fraction of each side."""
    return tuple(max(round(frac * side), 1) for side in shape)


def random_window(
    key: Key[Array, ""], images: PyTree, window: tuple[int, int]
) -> PyTree:
    """The same window, drawn uniformly, of images and masks ``[h, w, c]``."""
    shape = jax.tree.leaves(images)[0].shape[:2]
    room = np.subtract(shape, window).astype(np.int32) + 1
    y, x = jax.random.randint(key, (2,), 0, room)
    return jax.tree.map(
        lambda v: lax.dynamic_slice(v, (y, x, 0), (*window, v.shape[2])), images
    )
