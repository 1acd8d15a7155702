"""Rectangular patches: where to take them, how large to paste them, and resizing."""

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from anojax.ops.placement import box_sum

Scalar = int | Int[Array, ""]


def resized_crop(
    image: Float[Array, "h w c"],
    crop: tuple[Scalar, Scalar, Scalar, Scalar],
    size: tuple[Scalar, Scalar],
    *,
    window: tuple[int, int],
    offset: tuple[Scalar, Scalar] = (0, 0),
) -> Float[Array, "p c q"]:
    """A crop, resized bilinearly, lying somewhere in a window of static size.

    Half-pixel centers and no smoothing, as ``cv2.resize``. What lies around the resized crop
    in the window has no meaning. Channels are the middle axis, as in `ops.poisson`.

    Args:
      image: where the crop comes from.
      crop: ``(y0, x0, height, width)`` inside the image, possibly traced.
      size: height and width after resizing, possibly traced.
      window: static height and width of the result.
      offset: row and column of the window where the resized crop begins.
    """
    channels = image.shape[2]
    y0, x0, height, width = crop
    top, bottom, part_y = _neighbors(window[0], offset[0], height, size[0])
    left, right, part_x = _neighbors(window[1], offset[1], width, size[1])
    rows = rearrange(image, "h w c -> h (w c)")
    upper = rows.at[y0 + top].get(mode="promise_in_bounds")
    lower = rows.at[y0 + bottom].get(mode="promise_in_bounds")
    rows = upper + part_y[:, None] * (lower - upper)

    def columns(index: Array) -> Array:
        index = (x0 + index)[None] * channels + jnp.arange(channels)[:, None]
        return rows.at[:, index].get(mode="promise_in_bounds")

    before, after = columns(left), columns(right)
    return before + part_x[None, None] * (after - before)


def _neighbors(
    side: int, start: Scalar, old: Scalar, new: Scalar
) -> tuple[Int[Array, " side"], Int[Array, " side"], Float[Array, " side"]]:
    """The two pixels between which each output pixel falls, and how far along."""
    old, new = (jnp.asarray(v, jnp.int32) for v in (old, new))
    place = (jnp.arange(side) - start).astype(jnp.float32) + 0.5
    place = place * (old.astype(jnp.float32) / new.astype(jnp.float32)) - 0.5
    place = jnp.clip(place, 0.0, (old - 1).astype(jnp.float32))
    low = jnp.floor(place).astype(jnp.int32)
    return low, jnp.minimum(low + 1, old - 1), place - low.astype(jnp.float32)


def centers_within(
    tries: Float[Array, "k 2"], margin: tuple[Scalar, Scalar], shape: tuple[int, int]
) -> Int[Array, "k 2"]:
    """Pixels (y, x) from `tries` in [0, 1), at least `margin` inside the image.

    Uniform tries give uniform pixels of [margin, side - margin), or the pixel `margin`
    if there are none.
    """
    low = jnp.stack([jnp.asarray(v, jnp.int32) for v in margin])[None]
    span = jnp.maximum(jnp.asarray(shape, jnp.int32)[None] - 2 * low, 1)
    steps = jnp.floor(tries * span.astype(jnp.float32)).astype(jnp.int32)
    # The largest float below 1 may round up to the whole span.
    return low + jnp.minimum(steps, span - 1)


def choose_crop(
    centers: Int[Array, "k 2"],
    half_px: Int[Array, "2"],
    shape: tuple[int, int],
    *,
    sums: Float[Array, "h1 w1"] | None = None,
    least_frac: float = 0.0,
) -> tuple[tuple[Array, ...], Bool[Array, ""]]:
    """The first box around one of `centers` that holds enough of an object.

    Args:
      centers: candidates, in order.
      half_px: half-height and half-width; the image's border cuts boxes off.
      shape: height and width of the image.
      sums: `placement.integral_image` of the object; without it the first box is it.
      least_frac: the object must cover more than this fraction of the box.

    Returns:
      The box ``(y0, x0, height, width)``, and whether any was good.
    """
    start = jnp.maximum(centers - half_px[None], 0)
    stop = jnp.minimum(centers + half_px[None], jnp.asarray(shape, jnp.int32)[None])
    size = stop - start
    if sums is None:
        return (*start[0], *size[0]), jnp.bool_(True)
    held = box_sum(sums, start[:, 0], start[:, 1], size[:, 0], size[:, 1])
    good = held > least_frac * size.prod(axis=1).astype(jnp.float32)
    first = jnp.argmax(good)
    return (*start[first], *size[first]), good.any()


def bounded_size(
    size: tuple[Scalar, Scalar],
    scale: Float[Array, ""],
    low: tuple[int, int],
    high: tuple[int, int],
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """`size` times `scale`, each side clipped to its bounds.

    A side that is clipped takes the other with it as far as its own bounds allow, so
    that proportions change as little as possible.

    Args:
      size: height and width in pixels.
      scale: positive.
      low, high: smallest and largest (height, width).
    """
    old_h, old_w = (jnp.asarray(v).astype(jnp.float32) for v in size)
    height = jnp.clip(scale * old_h, low[0], high[0])
    width = jnp.clip(jnp.floor(height / old_h * old_w), low[1], high[1])
    height = jnp.clip(jnp.floor(width / old_w * old_h), low[0], high[0])
    return height.astype(jnp.int32), width.astype(jnp.int32)


def controlled_size(
    size: tuple[Scalar, Scalar],
    high: tuple[int, int],
    *,
    area_px: Float[Array, ""] | None = None,
    aspect: Float[Array, ""] | None = None,
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """`size` changed to an area and an aspect (width / height), as far as they fit.

    ``None`` keeps the area or the aspect of `size`. A box that does not fit into `high`
    gives up its aspect first, then its area.

    Args:
      size: height and width in pixels.
      high: largest height and width.
      area_px: in pixels.
      aspect: width / height, positive.
    """
    height, width = (jnp.asarray(v).astype(jnp.float32) for v in size)
    area = height * width if area_px is None else area_px
    ratio = width / height if aspect is None else aspect
    height = jnp.maximum(jnp.sqrt(area / ratio), area / high[1])
    height = jnp.clip(height, 1.0, high[0])
    width = jnp.clip(area / height, 1.0, high[1])
    return tuple(jnp.round(v).astype(jnp.int32) for v in (height, width))


def box_in_window(
    window: tuple[int, int], corner: tuple[Scalar, Scalar], size: tuple[Scalar, Scalar]
) -> Bool[Array, "p q 1"]:
    """True in the box of `size` at `corner` of a window."""
    rows, columns = (jnp.arange(n) - c for n, c in zip(window, corner, strict=True))
    rows, columns = (rows >= 0) & (rows < size[0]), (columns >= 0) & (columns < size[1])
    return (rows[:, None] & columns[None])[..., None]
