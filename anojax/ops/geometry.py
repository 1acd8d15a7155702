"""Geometry: sampling, affine maps, rotation and resizing of one image.

Pixel centers have integer coordinates: x runs over columns, y over rows, and the
center of an image is ((h - 1) / 2, (w - 1) / 2).
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from anojax.ops.rounding import rounded

Method = Literal["bilinear", "nearest"]
Scalar = float | Float[Array, ""]


def sample(
    image: Float[Array, "h w c"],
    y: Float[Array, "a b"],
    x: Float[Array, "a b"],
    *,
    fill: Scalar | None = 0.0,
    method: Method = "bilinear",
) -> Float[Array, "a b c"]:
    """Values of `image` at the continuous pixel coordinates (y, x).

    Every pixel outside the image has the value `fill`, so that the outermost
    pixels fade into it over one pixel; `fill=None` repeats the border instead.
    Coordinates that are not finite count as outside.

    Args:
      image: any values.
      y, x: pixel coordinates; centers lie on integers.
      fill: value beyond the border.
      method: ``bilinear`` or ``nearest``.
    """
    h, w, channels = image.shape
    rim = 0 if fill is None else 1
    pad = ((rim, rim + 1), (rim, rim + 1), (0, 0))
    if fill is None:
        padded = jnp.pad(image, pad, mode="edge")
    else:
        padded = jnp.pad(image, pad, constant_values=fill)
    y, x = _clamp(y, -rim, h - 1 + rim), _clamp(x, -rim, w - 1 + rim)
    if method == "nearest":
        y0, x0 = jnp.floor(y + 0.5), jnp.floor(x + 0.5)
    else:
        y0, x0 = jnp.floor(y), jnp.floor(x)

    # Channels are spread along the columns ([a, b * c]): an innermost axis of three
    # vectorizes badly on CPU.
    def spread(values: Array) -> Array:
        return jnp.repeat(values, channels, axis=1)

    stride = padded.shape[1] * channels
    index = (y0.astype(jnp.int32) + rim) * padded.shape[1] + x0.astype(jnp.int32) + rim
    channel = np.tile(np.arange(channels, dtype=np.int32), index.shape[1])
    index = spread(index * channels) + channel[None]
    flat = padded.reshape(-1)

    def at(offset: int) -> Array:
        return flat.at[index + offset].get(mode="promise_in_bounds")

    shape = (*y.shape, channels)
    if method == "nearest":
        return at(0).reshape(shape)
    dy, dx = spread(y - y0), spread(x - x0)
    upper = at(0) * (1 - dx) + at(channels) * dx
    lower = at(stride) * (1 - dx) + at(stride + channels) * dx
    return (upper * (1 - dy) + lower * dy).reshape(shape)


def _clamp(values: Array, low: int, high: int) -> Array:
    """Clamp to [low, high]; NaN becomes `low`, so that no index leaves the image."""
    return jnp.where(values > low, jnp.minimum(values, high), low)


def affine(
    image: Float[Array, "h w c"],
    matrix: Float[Array, "2 3"],
    *,
    shape: tuple[int, int] | None = None,
    fill: Scalar | None = 0.0,
    method: Method = "bilinear",
) -> Float[Array, "a b c"]:
    """Resample through an affine map of output to input pixel coordinates (x, y).

    `shape` is the size (h, w) of the result, the input's by default; `fill` and
    `method` as in `sample`.
    """
    y, x = affine_coordinates(matrix, shape or image.shape[:2])
    return sample(image, y, x, fill=fill, method=method)


def affine_coordinates(
    matrix: Float[Array, "2 3"], shape: tuple[int, int]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Where `matrix` sends every pixel of an image of `shape` (h, w): (y, x)."""
    y = jnp.arange(shape[0], dtype=jnp.float32)[:, None]
    x = jnp.arange(shape[1], dtype=jnp.float32)[None]
    # No matmul: accelerators may round its inputs to 10 bits.
    (xx, xy, x1), (yx, yy, y1) = matrix
    return yx * x + (yy * y + y1), xx * x + (xy * y + x1)


def rotation(shape: tuple[int, int], angle_rad: Scalar) -> Float[Array, "2 3"]:
    """Output-to-input matrix that turns an image of `shape` (h, w) about its center.

    Positive angles turn the content counter-clockwise as seen on a screen.
    """
    cy, cx = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    cos, sin = jnp.cos(angle_rad), jnp.sin(angle_rad)
    cos_x, sin_x, cos_y, sin_y = cos * cx, sin * cx, cos * cy, sin * cy
    if cx == cy:
        # Each product serves two sums. Compilers round such a one before the sums, but
        # join it with each of them where they have copied it: the pixels of one image
        # and of a batch would differ.
        cos_x, sin_x = rounded(cos_x), rounded(sin_x)
        cos_y, sin_y = cos_x, sin_x
    return jnp.stack(
        [
            jnp.stack([cos, -sin, cx - cos_x + sin_y]),
            jnp.stack([sin, cos, cy - sin_x - cos_y]),
        ]
    )


def rotate(
    image: Float[Array, "h w c"],
    angle_rad: Scalar,
    *,
    fill: Scalar | None = 0.0,
    method: Method = "bilinear",
) -> Float[Array, "h w c"]:
    """Turn about the center, counter-clockwise, at the same size.

    `fill` is the value of the corners that swing in (`None`: repeat the border).

    Args:
      image: any values.
      angle_rad: counter-clockwise on the screen.
      fill: value beyond the border.
      method: ``bilinear`` or ``nearest``.
    """
    matrix = rotation(image.shape[:2], angle_rad)
    return affine(image, matrix, fill=fill, method=method)


def resize_bilinear(
    image: Float[Array, "h w c"], shape: tuple[int, int]
) -> Float[Array, "a b c"]:
    """Resize to `shape` (h, w), pixel centers at half integers, without antialiasing.

    The convention of OpenCV's and PyTorch's plain bilinear modes.

    Example:
      >>> resize_bilinear(jnp.asarray([[[0.0], [1.0]]]), (1, 4))[0, :, 0].tolist()
      [0.0, 0.25, 0.75, 1.0]
    """
    (y0, y1, dy), (x0, x1, dx) = (
        _taps(n_in, n_out) for n_in, n_out in zip(image.shape[:2], shape, strict=True)
    )
    rows = image[y0] * (1 - dy[:, None, None]) + image[y1] * dy[:, None, None]
    return rows[:, x0] * (1 - dx[None, :, None]) + rows[:, x1] * dx[None, :, None]


def _taps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second source index, and weight of the second, per output index."""
    position = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    position = np.clip(position, 0, n_in - 1)
    first = np.minimum(position.astype(np.int32), max(n_in - 2, 0))
    second = np.minimum(first + 1, n_in - 1)
    return first, second, (position - first).astype(np.float32)
