"""Where a defect goes: random pixels of a mask, boxes inside an image, box sums.

Rejection loops ("redraw until the box lies on the object") have no fixed length, so
they are replaced by a fixed number of candidates, drawn and scored at once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def random_pixel(
    key: Key[Array, ""],
    mask: Float[Array, "h w 1"] | None,
    *,
    shape: tuple[int, int] | None = None,
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Draw one pixel (y, x) uniformly among those of `mask` that are above 0.

    Without a mask every pixel of `shape` = (height, width) is eligible; the mask's own
    size counts when there is one. An empty mask gives the pixel (0, 0).

    Raises:
      ValueError: neither a mask nor a shape is given.

    Example:
      >>> dot = jnp.zeros((5, 5, 1)).at[3, 1].set(1.0)
      >>> y, x = random_pixel(jax.random.key(0), dot)
      >>> int(y), int(x)
      (3, 1)
    """
    if mask is None:
        if shape is None:
            raise ValueError(
                "random_pixel got neither a mask nor a shape; "
                "pass shape=(height, width) to draw from a whole image"
            )
        pick = jax.random.randint(key, (2,), 0, jnp.asarray(shape, jnp.int32))
        return pick[0], pick[1]
    # Row totals first, then one row: exact, and no running sum over all the pixels.
    eligible = (mask[..., 0] > 0).astype(jnp.int32)
    below = jnp.cumsum(eligible.sum(axis=1))
    rank = jax.random.randint(key, (), 0, jnp.maximum(below[-1], 1))
    y = jnp.searchsorted(below, rank, side="right", method="compare_all")
    y = jnp.where(below[-1] > 0, y, 0).astype(jnp.int32)
    row = eligible[y]
    within = rank - (below[y] - row.sum())
    x = jnp.searchsorted(jnp.cumsum(row), within, side="right", method="compare_all")
    return y, jnp.where(below[-1] > 0, x, 0).astype(jnp.int32)


def box_around(
    y: Int[Array, ""],
    x: Int[Array, ""],
    height: Int[Array, ""] | int,
    width: Int[Array, ""] | int,
    shape: tuple[int, int],
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Top-left corner of a box of that size centered on (y, x), pushed inside `shape`.

    The center is the pixel `size // 2` of the box. A box larger than the image starts
    at 0.

    Args:
      y, x: center, in pixels.
      height, width: of the box, in pixels.
      shape: height and width of the image.
    """
    y0 = jnp.clip(y - height // 2, 0, jnp.maximum(shape[0] - height, 0))
    x0 = jnp.clip(x - width // 2, 0, jnp.maximum(shape[1] - width, 0))
    return y0, x0


def box_sides(
    area_px: Float[Array, ""], aspect: Float[Array, ""], shape: tuple[int, int]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Height and width, in whole pixels, of a box of that area and width / height.

    A side that does not fit into `shape` = (height, width) is cut to it and the other
    one grows to keep the area, as far as it fits. Both are at least 2.
    """
    width = jnp.round(jnp.sqrt(area_px * aspect))
    height = jnp.round(jnp.sqrt(area_px / aspect))
    height = jnp.where(width > shape[1], jnp.round(area_px / shape[1]), height)
    width = jnp.where(height > shape[0], jnp.round(area_px / shape[0]), width)
    height, width = (jnp.maximum(side, 2.0) for side in (height, width))
    return (
        jnp.minimum(height, shape[0]).astype(jnp.int32),
        jnp.minimum(width, shape[1]).astype(jnp.int32),
    )


def area_that_fits(
    area_px: Float[Array, ""],
    aspect: Float[Array, ""],
    angle_rad: Float[Array, ""],
    shape: tuple[int, int],
) -> Float[Array, ""]:
    """The area of a box, cut down so that the box turned by that angle fits `shape`.

    Args:
      area_px: of the box, in pixels.
      aspect: width / height, positive.
      angle_rad: by which the box is rotated.
      shape: height and width of the image.
    """
    height, width = jnp.sqrt(area_px / aspect), jnp.sqrt(area_px * aspect)
    cos, sin = jnp.abs(jnp.cos(angle_rad)), jnp.abs(jnp.sin(angle_rad))
    tall, wide = width * sin + height * cos, width * cos + height * sin
    # Two pixels of room: sides are rounded, and a turned canvas is rounded up.
    fit = jnp.minimum((shape[0] - 2) / tall, (shape[1] - 2) / wide)
    return area_px * jnp.minimum(fit, 1.0) ** 2


def window_over(
    y0: Int[Array, ""],
    x0: Int[Array, ""],
    window: tuple[int, int],
    shape: tuple[int, int],
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Where a static window that covers a box lies, and where the box lies in it.

    The box begins at (y0, x0) and fits the window, the window fits `shape`. Returns
    the window's corner in the image and the box's corner in the window.
    """
    top = jnp.minimum(y0, shape[0] - window[0])
    left = jnp.minimum(x0, shape[1] - window[1])
    return (top, left), (y0 - top, x0 - left)


def integral_image(mask: Float[Array, "h w 1"]) -> Float[Array, "h+1 w+1"]:
    """Running sums over rows and columns, with a leading row and column of zeros.

    Sums of {0, 1} masks are exact up to 2**24 pixels.

    Example:
      >>> integral_image(jnp.ones((2, 3, 1)))[-1].tolist()
      [0.0, 2.0, 4.0, 6.0]
    """
    sums = jnp.cumsum(jnp.cumsum(mask[..., 0], axis=0), axis=1)
    return jnp.pad(sums, ((1, 0), (1, 0)))


def box_sum(
    integral: Float[Array, "h1 w1"],
    y0: Int[Array, "*k"],
    x0: Int[Array, "*k"],
    height: Int[Array, "*k"],
    width: Int[Array, "*k"],
) -> Float[Array, "*k"]:
    """Sum of the mask over the boxes [y0, y0 + height) x [x0, x0 + width).

    Parts of a box outside the image count as 0.

    Args:
      integral: of `integral_image`.
      y0, x0: top-left pixels.
      height, width: in pixels.

    Example:
      >>> sums = integral_image(jnp.ones((4, 4, 1)))
      >>> one = jnp.asarray([1])
      >>> box_sum(sums, one, one, 2 * one, 3 * one).tolist()
      [6.0]
    """
    rows, columns = integral.shape[0] - 1, integral.shape[1] - 1
    top, bottom = jnp.clip(y0, 0, rows), jnp.clip(y0 + height, 0, rows)
    left, right = jnp.clip(x0, 0, columns), jnp.clip(x0 + width, 0, columns)
    return (
        integral[bottom, right]
        - integral[top, right]
        - integral[bottom, left]
        + integral[top, left]
    )


def first_acceptable(
    scores: Float[Array, " k"], *, threshold: float | Float[Array, ""]
) -> Int[Array, ""]:
    """Index of the first candidate whose score reaches `threshold`, else of the best.

    With K independent candidates this is rejection sampling cut off after K draws.
    """
    accepted = scores >= threshold
    chosen = jnp.where(accepted.any(), jnp.argmax(accepted), jnp.argmax(scores))
    return chosen.astype(jnp.int32)
