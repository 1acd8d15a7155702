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
from jaxtyping import Array, Bool, Float, Int32, Key, UInt8, UInt32

from anojax.ops import color_spaces, filters, geometry, lookup
from anojax.ops.branch import grouped_update
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
    *,
    active: Bool[Array, ""] | bool = True,
) -> Float[Array, "h w c"]:
    """Apply three different operators of `NAMES`, uniformly drawn, in random order.

    Args:
      key: source of the choice and of the operators' parameters.
      image: RGB or gray in [0, 1]; it is rounded to 8 bits first.
      ids: indices into `NAMES` to apply in this order, instead of drawing them.
      active: where it is false the operators are left out, and what comes back is
        arbitrary: say so of images that nobody will look at, they cost next to nothing
        under ``vmap`` then.

    Returns:
      The augmented image; its values are k / 255. A gray image has no hue and no
      saturation, and its brightness changes as a gray pixel's would in each space.
    """
    choice, draws = jax.random.split(key)
    if ids is None:
        ids = choose(choice)
    channels = image.shape[-1]
    draws = jax.random.uniform(draws, (ids.shape[0], 8))
    steps = jnp.where(active, ids.astype(jnp.int32), -1), draws
    start = lookup.pack(image), lookup.identity(channels)
    (words, table), _ = jax.lax.scan(_slot, start, steps)
    return lookup.unpack(lookup.apply_table(words, table), channels=channels)


def choose(key: Key[Array, ""]) -> Int32[Array, "3"]:
    """Three different indices into `NAMES` in random order."""
    return jax.lax.top_k(jax.random.uniform(key, (len(NAMES),)), 3)[1]


def apply_operator(
    name: str, image: Float[Array, "h w c"], draws: Draws
) -> Float[Array, "h w c"]:
    """One operator of `NAMES` alone; `draws` in [0, 1) decide its parameters."""
    channels = image.shape[-1]
    state = lookup.pack(image), lookup.identity(channels)
    if name in _on_pixels(channels):
        words, table = _on_pixels(channels)[name](state, draws)
    else:
        words, table = state
        table = lookup.compose(table, _on_levels(channels)[name](draws))
    return lookup.unpack(lookup.apply_table(words, table), channels=channels)


# ---------------------------------------------------------------- kinds of operators

# The words, and the table that still has to be applied to them.
State = tuple[Words, Table]


def _slot(state: State, step: tuple[Int32[Array, ""], Draws]) -> tuple[State, None]:
    """One operator, or none below 0: the pixels are read only if it needs them."""
    which, draws = step
    channels = state[1].shape[0]
    on_pixels, on_levels = _on_pixels(channels), _on_levels(channels)
    state = grouped_update(
        _position(which, tuple(on_pixels)), tuple(on_pixels.values()), state, draws
    )
    # Tables are small, so that computing all of them where a switch would (under vmap)
    # costs less than sorting the examples.
    made = jax.lax.switch(
        _position(which, tuple(on_levels)) + 1,
        [lambda u: lookup.identity(channels), *on_levels.values()],
        draws,
    )
    words, table = state
    return (words, lookup.compose(table, made)), None


def _position(which: Int32[Array, ""], names: tuple[str, ...]) -> Int32[Array, ""]:
    """Place among `names` of the operator with that index in `NAMES`; -1 if absent."""
    places = [names.index(name) if name in names else -1 for name in NAMES]
    # -1 is the last.
    return jnp.asarray([*places, -1], jnp.int32)[which]


def _on_pixels(channels: int) -> dict[str, Callable[[State, Draws], State]]:
    """Operators that look at the image."""
    operators = {
        "sharpness": _changed(_sharpness),
        "autocontrast": _from_counts(_autocontrast),
        "equalize": _from_counts(lambda counts, u: lookup.equalize(counts)),
        "rotate": _changed(_rotate),
    }
    if channels == 1:
        return operators
    return operators | {
        "brightness": _changed(_brightness),
        "hue_saturation": _changed(_hue_saturation),
    }


def _on_levels(channels: int) -> dict[str, Callable[[Draws], Table]]:
    """Operators that are a table, whatever the image."""

    def table(make):
        return lambda u: jnp.broadcast_to(make(u, channels), (channels, 256))

    operators = {
        "gamma": table(_gamma),
        "solarize": table(_solarize),
        "posterize": table(lambda u, c: lookup.posterize(_integer(u[0], 1, 8))),
        "invert": table(lambda u, c: lookup.invert()),
    }
    if channels == 1:
        # A gray image has no hue and no saturation.
        operators["hue_saturation"] = table(lambda u, c: lookup.identity(c))
        operators["brightness"] = table(_gray_brightness)
    return operators


def _from_counts(make: Callable[[Int32[Array, "c 256"], Draws], Table]):
    """An operator that is a table made from the image's histogram."""

    def operator(state: State, u: Draws) -> State:
        words, table = state
        counts = lookup.histogram(words, channels=table.shape[0])
        counts = lookup.push(counts, table)
        return words, lookup.compose(table, make(counts, u))

    return operator


def _changed(change: Callable[[Words, Draws, int], Words]):
    """An operator that needs neighbors or channels: the pending table comes first."""

    def operator(state: State, u: Draws) -> State:
        words, table = state
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
