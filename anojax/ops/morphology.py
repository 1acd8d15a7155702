"""Gray-level and binary morphology with the kernels OpenCV calls rect and ellipse.

A kernel is a union of centered rectangles (one for a box, a few for an ellipse), so
every operation is a handful of separable running maxima.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from anojax.errors import AnojaxError

SHAPES = ("box", "ellipse")


def _row_halves(size: int, shape: str) -> np.ndarray:
    """Half-width of every row of the kernel, top to bottom."""
    if size < 1 or size % 2 == 0:
        raise AnojaxError(f"kernel size is {size}; give an odd number of pixels")
    if shape not in SHAPES:
        raise AnojaxError(f"kernel shape is '{shape}'; choose box or ellipse")
    radius = size // 2
    if shape == "box" or radius == 0:
        return np.full(size, radius)
    dy = np.arange(-radius, radius + 1)
    # cv2.getStructuringElement rounds the half-chord of the circle.
    return np.rint(np.sqrt(radius * radius - dy * dy)).astype(int)


def structuring_element(size: int, shape: str = "box") -> Bool[np.ndarray, "k k"]:
    """The kernel of odd `size` as booleans; ellipse equals OpenCV's, e.g. rows of
    1, 5, 5, 5, 1 pixels for size 5.

    Example:
      >>> structuring_element(5, "ellipse").sum(axis=1).tolist()
      [1, 5, 5, 5, 1]
    """
    halves = _row_halves(size, shape)
    return np.abs(np.arange(size) - size // 2)[None, :] <= halves[:, None]


def _rectangles(size: int, shape: str) -> list[tuple[int, int]]:
    """Centered rectangles (height, width) whose union is the kernel."""
    halves = _row_halves(size, shape)
    reach = np.abs(np.arange(size) - size // 2)
    return [
        (2 * int(reach[halves >= half].max()) + 1, 2 * int(half) + 1)
        for half in np.unique(halves)
    ]


def _running_max(image: Array, rows: int, columns: int) -> Array:
    low = np.array(-np.inf, image.dtype)
    one = (1,) * image.ndim
    for window in ((rows, 1, 1), (1, columns, 1)):
        if max(window) > 1:
            image = jax.lax.reduce_window(image, low, jax.lax.max, window, one, "SAME")
    return image


def dilate(
    image: Float[Array, "h w c"], *, size: int, shape: str = "box"
) -> Float[Array, "h w c"]:
    """Largest value under the kernel; nothing lies beyond the border.

    `size` is odd, in pixels; `shape` is "box" or "ellipse".

    Example:
      >>> dot = jnp.zeros((5, 5, 1)).at[2, 2].set(1.0)
      >>> int(dilate(dot, size=3).sum())
      9
    """
    passes = [_running_max(image, h, w) for h, w in _rectangles(size, shape)]
    out = passes[0]
    for other in passes[1:]:
        out = jnp.maximum(out, other)
    return out


def erode(
    image: Float[Array, "h w c"], *, size: int, shape: str = "box"
) -> Float[Array, "h w c"]:
    """Smallest value under the kernel; the border itself does not erode.

    Example:
      >>> int(erode(jnp.ones((5, 5, 1)).at[2, 2].set(0.0), size=3).sum())
      16
    """
    return -dilate(-image, size=size, shape=shape)


def closing(
    image: Float[Array, "h w c"], *, size: int, shape: str = "box"
) -> Float[Array, "h w c"]:
    """Dilation, then erosion: closes gaps smaller than the kernel.

    Example:
      >>> hole = jnp.ones((5, 5, 1)).at[2, 2].set(0.0)
      >>> int(closing(hole, size=3).sum())
      25
    """
    return erode(dilate(image, size=size, shape=shape), size=size, shape=shape)
