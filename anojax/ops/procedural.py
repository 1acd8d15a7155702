"""Building blocks of procedural images: noise, cells, distances, light, color.

Lengths are fractions of the image's height, frequencies are cycles per image, so
that a drawing looks the same at every size. Fields are ``[h, w]``; colors come last.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

Number = float | Float[Array, ""] | Float[np.ndarray, ""]


def grid(shape: tuple[int, int]) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Coordinates (y, x) of the pixel centers, 0 in the middle, height = 1."""
    h, w = shape
    y = (jnp.arange(h, dtype=jnp.float32) + 0.5 - h / 2) / h
    x = (jnp.arange(w, dtype=jnp.float32) + 0.5 - w / 2) / h
    return jnp.broadcast_to(y[:, None], shape), jnp.broadcast_to(x[None, :], shape)


def rotate_coordinates(
    y: Float[Array, "h w"], x: Float[Array, "h w"], angle_rad: Number
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """The same coordinates in a frame rotated by `angle_rad`."""
    c, s = jnp.cos(angle_rad), jnp.sin(angle_rad)
    return c * y - s * x, s * y + c * x


def uniform(key: Key[Array, ""], low: float, high: float) -> Scalar:
    """One uniform number."""
    return jax.random.uniform(key, (), minval=low, maxval=high)


def smoothstep(low: Number | Array, high: Number | Array, value: Array) -> Array:
    """Smooth rise from 0 at `low` to 1 at `high` (falls when low > high)."""
    t = jnp.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def white_noise(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Uniform white noise in [-1, 1), the raw material of `fractal_noise`."""
    return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def fractal_noise(
    white: Float[Array, "h w"],
    *,
    slope: Number = 1.0,
    coarsest: Number = 2.0,
    stretch: Number = 1.0,
    angle_rad: Number = 0.0,
) -> Float[Array, "h w"]:
    """Fractal noise, mean 0 and variance 1, by filtering white noise.

    The amplitude falls as frequency to the power -`slope` above `coarsest` cycles per
    image; `stretch` > 1 lengthens the grain along `angle_rad` (0: horizontal).
    The image wraps around.

    Args:
      white: of `white_noise`.
      slope: how fast the amplitude falls with frequency.
      coarsest: cycles per image of the longest waves.
      stretch: of the grain, at least 1.
      angle_rad: its direction.
    """
    h, w = white.shape
    fy = jnp.asarray(np.fft.fftfreq(h, 1 / h).astype(np.float32))[:, None]
    fx = jnp.asarray((np.fft.rfftfreq(w, 1 / w) * h / w).astype(np.float32))[None, :]
    c, s = jnp.cos(angle_rad), jnp.sin(angle_rad)
    along, across = (c * fx - s * fy) * stretch, s * fx + c * fy
    # The power 1.5 turns the corner sharply enough to hold longer waves back. Powers by
    # exp and log: far cheaper than pow on a CPU.
    log = 0.5 * jnp.log((along * along + across * across + 1e-6) / coarsest**2)
    amplitude = jnp.exp(1.5 * log) / (1.0 + jnp.exp((1.5 + slope) * log))
    spectrum = jnp.fft.rfft2(white) * amplitude.astype(jnp.complex64)
    field = jnp.fft.irfft2(spectrum, s=(h, w))
    field = field - field.mean()
    return field / (jnp.sqrt(jnp.mean(field * field)) + 1e-8)


def worley_noise(
    points: Float[Array, "n n 2"],
    y: Float[Array, "h w"],
    x: Float[Array, "h w"],
    *,
    count: int | Int[Array, ""],
) -> tuple[Float[Array, "h w"], Float[Array, "h w"], Int[Array, "h w"]]:
    """Worley's cells: distance to the nearest and to the second nearest of
    `count` x `count` scattered points, in cell widths, and the number of the nearest
    point, in [0, n * n). The pattern wraps around.

    `points` are places in [0, 1) within each cell; n is at least `count`.

    Args:
      points: one for each of n x n cells, in the cell's own coordinates, 0 to 1.
      y, x: coordinates of the pixels.
      count: cells a side, at most n.
    """
    n = points.shape[0]
    side = jnp.asarray(count, jnp.float32)
    v, u = (y + 0.5) * side, (x + 0.5) * side
    row, column = jnp.floor(v), jnp.floor(u)
    v, u = v - row, u - column
    row, column = row.astype(jnp.int32), column.astype(jnp.int32)
    places = points.reshape(n * n, 2)

    def nearer(best, shift):
        first, second, owner = best
        r, c = jnp.mod(row + shift[0], count), jnp.mod(column + shift[1], count)
        number = r * n + c
        at = places.at[number].get(mode="promise_in_bounds")
        off_y = shift[0].astype(jnp.float32) + at[..., 0] - v
        off_x = shift[1].astype(jnp.float32) + at[..., 1] - u
        d = off_y * off_y + off_x * off_x
        owner = jnp.where(d < first, number, owner)
        second = jnp.minimum(second, jnp.maximum(first, d))
        return (jnp.minimum(first, d), second, owner), None

    around = jnp.asarray(np.indices((3, 3), np.int32).reshape(2, 9).T - 1)
    far = jnp.full(y.shape, 9.0)
    start = (far, far, jnp.zeros(y.shape, jnp.int32))
    (first, second, owner), _ = jax.lax.scan(nearer, start, around)
    return jnp.sqrt(first), jnp.sqrt(second), owner


def per_cell(
    values: Float[Array, "n n"], owner: Int[Array, "h w"]
) -> Float[Array, "h w"]:
    """The value of each pixel's cell, for the numbers that `worley_noise` gives."""
    return values.reshape(-1).at[owner].get(mode="promise_in_bounds")


def disk(
    y: Float[Array, "h w"], x: Float[Array, "h w"], at: tuple[float, float], r: Number
) -> Float[Array, "h w"]:
    """Signed distance to a circle, negative inside."""
    return jnp.sqrt((y - at[0]) ** 2 + (x - at[1]) ** 2 + 1e-12) - r


def boxes(
    y: Float[Array, "h w"],
    x: Float[Array, "h w"],
    places: Float[np.ndarray, "n 4"],
    *,
    rounding: float = 0.0,
) -> Float[Array, "h w"]:
    """Signed distance to the nearest of some boxes (y, x, height, width: centers and
    sides), with rounded corners; negative inside."""

    def nearer(best, box):
        dy = jnp.abs(y - box[0]) - box[2] / 2 + rounding
        dx = jnp.abs(x - box[1]) - box[3] / 2 + rounding
        outside = jnp.sqrt(jnp.maximum(dy, 0.0) ** 2 + jnp.maximum(dx, 0.0) ** 2)
        return jnp.minimum(best, outside + jnp.minimum(jnp.maximum(dy, dx), 0.0)), None

    far = jnp.full(y.shape, 9.0)
    return jax.lax.scan(nearer, far, jnp.asarray(places))[0] - rounding


def strokes(
    y: Float[Array, "h w"], x: Float[Array, "h w"], ends: Float[Array, "n 4"]
) -> Float[Array, "h w"]:
    """Distance to the nearest of some line segments (y0, x0, y1, x1)."""

    def nearer(best, end):
        dy, dx = end[2] - end[0], end[3] - end[1]
        off_y, off_x = y - end[0], x - end[1]
        t = jnp.clip((off_y * dy + off_x * dx) / (dy * dy + dx * dx + 1e-9), 0.0, 1.0)
        d = (off_y - t * dy) ** 2 + (off_x - t * dx) ** 2
        return jnp.minimum(best, d), None

    far = jnp.full(y.shape, 81.0)
    return jnp.sqrt(jax.lax.scan(nearer, far, ends)[0])


def cover(distance: Float[Array, "h w"], *, soft: Number = 0.0) -> Float[Array, "h w"]:
    """How much of each pixel lies inside a signed distance, with `soft` edges."""
    width = jnp.maximum(soft, 1.0 / distance.shape[0])
    return jnp.clip(0.5 - distance / width, 0.0, 1.0)


def shading(
    height: Float[Array, "h w"], *, angle_rad: Number, depth: Number
) -> Float[Array, "h w"]:
    """Slope of a height field towards a low light, about -1 (shade) to 1 (lit).

    `height` is in fractions of the image when `depth` is 1.
    """
    gy, gx = jnp.gradient(height * height.shape[0])
    slope = depth * (gx * jnp.cos(angle_rad) + gy * jnp.sin(angle_rad))
    return slope / jnp.sqrt(1.0 + slope * slope)


def rgb(color: tuple[float, float, float]) -> Float[Array, "1 1 3"]:
    """A color that broadcasts against an image."""
    return jnp.asarray(np.asarray(color, np.float32))[None, None]


def composite(
    image: Float[Array, "h w 3"],
    coverage: Float[Array, "h w"],
    color: Float[Array, "#h #w 3"],
) -> Float[Array, "h w 3"]:
    """Lay a color over the image where `coverage` says so."""
    return image + coverage[..., None] * (color - image)


def color_ramp(
    value: Float[Array, "h w"], colors: Float[Array, "n 3"]
) -> Float[Array, "h w 3"]:
    """Colors along a line of `colors`, from value 0 to value 1."""
    stops = colors.shape[0] - 1
    at = jnp.clip(value, 0.0, 1.0)[..., None] * stops
    out = jnp.broadcast_to(colors[0][None, None], (*value.shape, 3))
    for i in range(stops):
        change = (colors[i + 1] - colors[i])[None, None]
        out = out + jnp.clip(at - i, 0.0, 1.0) * change
    return out
