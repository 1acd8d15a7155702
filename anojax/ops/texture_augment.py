"""Three of ten photometric operators: the texture augmentation of DRAEM and MemSeg.

The mathematics is 8-bit, as in the libraries those methods use (imgaug, Pillow,
OpenCV): every operator ends in levels 0..255. Tables are only composed; the pixels are
touched when an operator needs its neighbors or its other channels, and once at the
end (`anojax.ops.lookup`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Key, UInt8, UInt32

from anojax.ops import color_spaces, filters, geometry, lookup
from anojax.random import between

Words = UInt32[Array, "h w"]
Table = UInt8[Array, "c 256"]
Draws = Float[Array, "8"]

NAMES = (
    "gamma",
    "brightness",
    "sharpness",
    "hue_saturation",
    "solarize",
    "posterize",
    "invert",
    "autocontrast",
    "equalize",
    "rotate",
)


def three_of_ten(
    key: Key[Array, ""],
    image: Float[Array, "h w c"],
    ids: Int32[Array, " k"] | None = None,
) -> Float[Array, "h w c"]:
    """Apply three different operators of `NAMES`, uniformly drawn, in random order.

    Args:
      key: source of the choice and of the operators' parameters.
      image: RGB or gray in [0, 1]; it is rounded to 8 bits first.
      ids: indices into `NAMES` to apply in this order, instead of drawing them.

    Returns:
      The augmented image; its values are k / 255. A gray image has no hue and no
      saturation, and its brightness changes as a gray pixel's would in each space.
    """
    choice, draws = jax.random.split(key)
    if ids is None:
        ids = choose(choice)
    channels = image.shape[-1]
    branches = [_operators(channels)[name] for name in NAMES]
    draws = jax.random.uniform(draws, (ids.shape[0], 8))

    def slot(state, which_and_draws):
        which, draws = which_and_draws
        return jax.lax.switch(which, branches, *state, draws), None

    start = lookup.pack(image), lookup.identity(channels)
    (words, table), _ = jax.lax.scan(slot, start, (ids.astype(jnp.int32), draws))
    return lookup.unpack(lookup.apply_table(words, table), channels=channels)


def choose(key: Key[Array, ""]) -> Int32[Array, "3"]:
    """Three different indices into `NAMES` in random order."""
    return jax.lax.top_k(jax.random.uniform(key, (len(NAMES),)), 3)[1]


def apply_operator(
    name: str, image: Float[Array, "h w c"], draws: Draws
) -> Float[Array, "h w c"]:
    """One operator of `NAMES` alone; `draws` in [0, 1) decide its parameters."""
    channels = image.shape[-1]
    operator = _operators(channels)[name]
    words, table = operator(lookup.pack(image), lookup.identity(channels), draws)
    return lookup.unpack(lookup.apply_table(words, table), channels=channels)


# An operator takes the words, the table that still has to be applied to them, and its
# uniform draws in [0, 1); it returns new words and a new pending table.
Operator = Callable[[Words, Table, Draws], tuple[Words, Table]]


def _operators(channels: int) -> dict[str, Operator]:
    operators = {
        "gamma": _then(_gamma),
        "sharpness": _pixels(_sharpness),
        "solarize": _then(_solarize),
        "posterize": _then(lambda u, c: lookup.posterize(_integer(u[0], 1, 8))),
        "invert": _then(lambda u, c: lookup.invert()),
        "autocontrast": _from_counts(_autocontrast),
        "equalize": _from_counts(lambda counts, u: lookup.equalize(counts)),
        "rotate": _pixels(_rotate),
    }
    if channels == 1:
        return operators | {
            "brightness": _then(_gray_brightness),
            "hue_saturation": lambda words, table, u: (words, table),
        }
    return operators | {
        "brightness": _pixels(_brightness),
        "hue_saturation": _pixels(_hue_saturation),
    }


# ---------------------------------------------------------------- kinds of operators


def _then(make: Callable[[Draws, int], Table]) -> Operator:
    """An operator that is a table, whatever the image."""

    def operator(words, table, u):
        return words, lookup.compose(table, make(u, table.shape[0]))

    return operator


def _from_counts(make: Callable[[Int32[Array, "c 256"], Draws], Table]) -> Operator:
    """An operator that is a table made from the image's histogram."""

    def operator(words, table, u):
        counts = lookup.histogram(words, channels=table.shape[0])
        counts = lookup.push(counts, table)
        return words, lookup.compose(table, make(counts, u))

    return operator


def _pixels(change: Callable[[Words, Draws, int], Words]) -> Operator:
    """An operator that needs neighbors or channels: the pending table comes first."""

    def operator(words, table, u):
        channels = table.shape[0]
        words = change(lookup.apply_table(words, table), u, channels)
        return words, lookup.identity(channels)

    return operator


# ---------------------------------------------------------------- the operators


def _gamma(u: Draws, channels: int) -> Table:
    return lookup.gamma(between(u[:channels], (0.5, 2.0)))


def _solarize(u: Draws, channels: int) -> Table:
    threshold = jnp.floor(between(u[0], (32.0, 128.0)))
    return lookup.solarize(jnp.where(u[1] < 0.5, threshold, 256.0))


def _autocontrast(counts: Int32[Array, "c 256"], u: Draws) -> Table:
    return lookup.autocontrast(counts, cutoff_percent=_integer(u[0], 0, 20))


def _brightness(words: Words, u: Draws, channels: int) -> Words:
    rgb = lookup.planes(words, channels=channels)
    return lookup.from_planes(
        color_spaces.change_brightness(rgb, **_brightness_draws(u))
    )


def _gray_brightness(u: Draws, channels: int) -> Table:
    ramp = jnp.asarray(np.arange(256, dtype=np.int32))
    # The three channels of a gray pixel stay within one level of each other.
    _, green, _ = color_spaces.change_brightness((ramp,) * 3, **_brightness_draws(u))
    return green[None].astype(jnp.uint8)


def _brightness_draws(u: Draws) -> dict[str, Array]:
    return {
        "space": _integer(u[0], 0, len(color_spaces.SPACES) - 1),
        "factor": between(u[1], (0.8, 1.2)),
        "offset": _integer(u[2], -30, 30),
        "multiply_first": u[3] < 0.5,
    }


def _sharpness(words: Words, u: Draws, channels: int) -> Words:
    factor = between(u[0], (0.0, 2.0))
    levels = lookup.planes(words, channels=channels)
    sharp = (filters.sharpen(v.astype(jnp.float32), factor) for v in levels)
    return lookup.from_planes(tuple(v.astype(jnp.int32) for v in sharp))


def _hue_saturation(words: Words, u: Draws, channels: int) -> Words:
    rgb = lookup.planes(words, channels=channels)
    hue, saturation = _integer(u[0], -50, 50), _integer(u[1], -50, 50)
    rgb = color_spaces.shift_hue_saturation(rgb, hue=hue, saturation=saturation)
    return lookup.from_planes(rgb)


def _rotate(words: Words, u: Draws, channels: int) -> Words:
    """Turn by U(-45°, 45°) about the center: bilinear, rounded, black outside."""
    h, w = words.shape
    matrix = geometry.rotation((h, w), jnp.deg2rad(between(u[0], (-45.0, 45.0))))
    y, x = geometry.affine_coordinates(matrix, (h, w))
    y, x = jnp.clip(y, -1.0, h), jnp.clip(x, -1.0, w)
    y0, x0 = jnp.floor(y), jnp.floor(x)
    dy, dx = y - y0, x - x0
    padded = jnp.pad(words, ((1, 2), (1, 2)))
    stride = w + 3
    corner = (y0.astype(jnp.int32) + 1) * stride + x0.astype(jnp.int32) + 1
    flat = padded.reshape(-1)

    def at(offset: int) -> tuple[Float[Array, "h w"], ...]:
        fetched = flat.at[corner + offset].get(mode="promise_in_bounds")
        levels = lookup.planes(fetched, channels=channels)
        return tuple(v.astype(jnp.float32) for v in levels)

    def mix(a, b, c, d):
        upper, lower = a + dx * (b - a), c + dx * (d - c)
        return jnp.floor(upper + dy * (lower - upper) + 0.5).astype(jnp.int32)

    corners = zip(at(0), at(1), at(stride), at(stride + 1), strict=True)
    return lookup.from_planes(tuple(mix(*four) for four in corners))


# ---------------------------------------------------------------- draws


def _integer(u: Float[Array, ""], low: int, high: int) -> Int32[Array, ""]:
    """Uniform integer in low..high, both included."""
    span = high - low + 1
    return low + jnp.minimum(jnp.floor(u * span).astype(jnp.int32), span - 1)
