"""Overlapping windows of a picture, and a map from what was found in each."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def window_starts(
    side_px: int, window_px: int, stride_px: int
) -> Int[np.ndarray, " n"]:
    """Where windows begin on a side: at most `stride_px` apart, evenly, the first and
    the last at the borders."""
    room = side_px - window_px
    count = -(-room // stride_px) + 1
    return np.round(np.linspace(0, room, count)).astype(np.int32)


def cut(
    image: Float[Array, "h w c"],
    row: Int[Array, ""] | int,
    columns: Int[np.ndarray, " n"],
    window: tuple[int, int],
) -> Float[Array, "n i j c"]:
    """The windows (h, w) of a picture that begin in `row` and in each of `columns`."""
    rows = jnp.asarray(row, jnp.int32) + np.arange(window[0], dtype=np.int32)
    band = image.at[rows].get(mode="promise_in_bounds")
    places = columns[:, None] + np.arange(window[1], dtype=np.int32)[None]
    return band.at[:, places].get(mode="promise_in_bounds").transpose(1, 0, 2, 3)


def spread(
    found: Float[Array, "m n"],
    shape: tuple[int, int],
    window: tuple[int, int],
    starts: tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]],
) -> Float[Array, "h w"]:
    """A value for every pixel: the mean of the windows' values, weighted by a Gaussian
    about the centre of each, whose deviation is a sixth of the window."""
    weights = []
    for side, size, begin in zip(shape, window, starts, strict=True):
        distance = np.arange(side)[:, None] - (begin[None] + (size - 1) / 2)
        exponent = -0.5 * (distance / (size / 6)) ** 2
        # The largest exponent is taken off: far from all windows nothing underflows.
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        weights.append((weight / weight.sum(axis=1, keepdims=True)).astype(np.float32))
    return weights[0] @ found @ weights[1].T
