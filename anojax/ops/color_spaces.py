"""OpenCV's 8-bit color spaces, on planes of integer levels.

The scaling is OpenCV's: H 0..179 (two degrees a step), S, V, Y 0..255, chroma about
128, and the L of Lab and Luv stretched from 0..100 to 0..255.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32

from anojax.ops.branch import grouped_switch
from anojax.ops.color import HEXAGON_OFFSETS, hexagon, sixths

Scalar = Float[Array, ""] | float
Plane = Int32[Array, "*s"]
Planes = tuple[Int32[Array, "*s"], Int32[Array, "*s"], Int32[Array, "*s"]]


def to_ycrcb(rgb: Planes) -> Planes:
    """RGB to YCrCb, OpenCV's 14-bit fixed point (exact)."""
    return _to_luma_chroma(rgb, red=11682, blue=9241, red_first=True)


def from_ycrcb(ycrcb: Planes) -> Planes:
    """YCrCb to RGB (exact)."""
    y, cr, cb = ycrcb
    return _from_luma_chroma(y, cr, cb, (22987, -11698, -5636, 29049))


def to_yuv(rgb: Planes) -> Planes:
    """RGB to YUV, OpenCV's 14-bit fixed point (exact)."""
    return _to_luma_chroma(rgb, red=14369, blue=8061, red_first=False)


def from_yuv(yuv: Planes) -> Planes:
    """YUV to RGB (exact)."""
    y, u, v = yuv
    return _from_luma_chroma(y, v, u, (18678, -9519, -6472, 33292))


def to_hsv(rgb: Planes) -> Planes:
    """RGB to HSV with H 0..179, S and V 0..255 (exact)."""
    r, g, b = rgb
    v = jnp.maximum(jnp.maximum(r, g), b)
    d = v - jnp.minimum(jnp.minimum(r, g), b)
    turn = jnp.where(v == r, g - b, jnp.where(v == g, b - r + 2 * d, r - g + 4 * d))
    hue = (turn * _reciprocal(d, (180 << 12) / 6.0) + (1 << 11)) >> 12
    s = (d * _reciprocal(v, 255 << 12) + (1 << 11)) >> 12
    return jnp.where(hue < 0, hue + 180, hue), s, v


def from_hsv(hsv: Planes) -> Planes:
    """HSV to RGB (within one level of OpenCV)."""
    h, s, v = (x.astype(jnp.float32) for x in hsv)
    return _from_hexagon(h / 30.0, v, v - v * (s / 255.0))


def to_hls(rgb: Planes) -> Planes:
    """RGB to HLS with H 0..179, L and S 0..255 (within one level of OpenCV)."""
    # OpenCV's scale and order of operations: they decide the many ties of L.
    r, g, b = (x.astype(jnp.float32) * np.float32(1 / 255) for x in rgb)
    top = jnp.maximum(jnp.maximum(r, g), b)
    bottom = jnp.minimum(jnp.minimum(r, g), b)
    d, total = top - bottom, top + bottom
    turn = sixths(r, g, b, top, d)
    hue = jnp.where(turn < 0.0, turn + 6.0, turn) * 30.0
    room = jnp.where(total < 1.0, total, 2.0 - total)
    s = jnp.where(d > 0.0, d / jnp.where(d > 0.0, room, 1.0), 0.0)
    # OpenCV rounds 359.x degrees up to 180 and keeps it.
    return _round(hue), _round(0.5 * total * 255.0), _round(s * 255.0)


def from_hls(hls: Planes) -> Planes:
    """HLS to RGB (within one level of OpenCV)."""
    h, light, s = (x.astype(jnp.float32) for x in hls)
    reach = (s / 255.0) * jnp.minimum(light, 255.0 - light)
    return _from_hexagon(h / 30.0, light + reach, light - reach)


def to_lab(rgb: Planes) -> Planes:
    """RGB (sRGB, D65) to Lab; L 0..255, a and b about 128 (within one level)."""
    x, y, z = _to_xyz(rgb)
    fx, fy, fz = _lab_curve(x), _lab_curve(y), _lab_curve(z)
    lightness = 116.0 * fy - 16.0
    return (
        _level(lightness * 2.55),
        _level(500.0 * (fx - fy) + 128.0),
        _level(200.0 * (fy - fz) + 128.0),
    )


def from_lab(lab: Planes) -> Planes:
    """Lab to RGB (within two levels of OpenCV)."""
    light, a, b = (x.astype(jnp.float32) for x in lab)
    fy = (light / 2.55 + 16.0) / 116.0
    fx, fz = fy + (a - 128.0) / 500.0, fy - (b - 128.0) / 200.0
    return _from_xyz(_lab_inverse(fx), _lab_inverse(fy), _lab_inverse(fz))


def to_luv(rgb: Planes) -> Planes:
    """RGB (sRGB, D65) to Luv in OpenCV's scaling.

    OpenCV interpolates in a coarse table here; most values agree within two levels.
    """
    x, y, z = _to_xyz(rgb)
    x, z = x * _WHITE[0], z * _WHITE[2]
    lightness = 116.0 * _lab_curve(y) - 16.0
    scale = 13.0 * lightness / jnp.maximum(x + 15.0 * y + 3.0 * z, 1e-6)
    u = 4.0 * x * scale - 13.0 * _WHITE_U * lightness
    v = 9.0 * y * scale - 13.0 * _WHITE_V * lightness
    return (
        _level(lightness * 2.55),
        _level((u + 134.0) * (255.0 / 354.0)),
        _level((v + 140.0) * (255.0 / 262.0)),
    )


def from_luv(luv: Planes) -> Planes:
    """Luv to RGB (most values within two levels of OpenCV)."""
    light, u, v = (x.astype(jnp.float32) for x in luv)
    lightness = light / 2.55
    y = _lab_inverse((lightness + 16.0) / 116.0)
    u = u * (354.0 / 255.0) - 134.0 + 13.0 * _WHITE_U * lightness
    v = v * (262.0 / 255.0) - 140.0 + 13.0 * _WHITE_V * lightness
    # OpenCV's guard against dark pixels, whose v is next to zero.
    share = 0.25 / jnp.where(jnp.abs(v) < 1.0, jnp.where(v < 0.0, -1.0, 1.0), v)
    x = 9.0 * y * u * share
    z = y * ((156.0 * lightness - 3.0 * u) * share - 5.0)
    x, z = jnp.clip(x, 0.0, 2.0), jnp.clip(z, 0.0, 2.0)
    return _from_xyz(x / _WHITE[0], y, z / _WHITE[2])


# name: (there, back, which plane is the brightness)
SPACES: dict[str, tuple[Callable, Callable, int]] = {
    "YCrCb": (to_ycrcb, from_ycrcb, 0),
    "HSV": (to_hsv, from_hsv, 2),
    "HLS": (to_hls, from_hls, 1),
    "Lab": (to_lab, from_lab, 0),
    "Luv": (to_luv, from_luv, 0),
    "YUV": (to_yuv, from_yuv, 0),
}


def change_brightness(
    rgb: Planes,
    *,
    space: Int32[Array, ""],
    factor: Scalar,
    offset: Int32[Array, ""],
    multiply_first: Bool[Array, ""],
) -> Planes:
    """Change the brightness plane of a color space: v becomes factor v and + offset.

    Each of the two steps ends in floor and clip to 0..255, in the order requested.

    Args:
      rgb: levels 0..255.
      space: index into `SPACES`.
      factor, offset: what the brightness is multiplied by, and what is added.
      multiply_first: whether the product comes before the sum.
    """

    def change(level):
        def multiply(v):
            return jnp.clip((factor * v.astype(jnp.float32)).astype(jnp.int32), 0, 255)

        def add(v):
            return jnp.clip(v + offset, 0, 255)

        return jnp.where(multiply_first, add(multiply(level)), multiply(add(level)))

    def within(there, back, where):
        def branch(rgb):
            levels = list(there(rgb))
            levels[where] = change(levels[where])
            return back(tuple(levels))

        return branch

    return grouped_switch(space, [within(*names) for names in SPACES.values()], rgb)


def shift_hue_saturation(
    rgb: Planes, *, hue: Int32[Array, ""], saturation: Int32[Array, ""]
) -> Planes:
    """Add to hue and saturation in 8-bit HSV.

    Args:
      rgb: levels 0..255.
      hue: -255..255, where 255 is the whole circle; truncated to steps of two degrees.
      saturation: added to S, which is then clipped to 0..255.
    """
    h, s, v = to_hsv(rgb)
    h = h + jnp.sign(hue) * (jnp.abs(hue) * 180 // 255)
    h = jnp.where(h < 0, h + 180, jnp.where(h >= 180, h - 180, h))
    return from_hsv((h, jnp.clip(s + saturation, 0, 255), v))


# ---------------------------------------------------------------- private

_TO_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_WHITE = tuple(float(x) for x in _TO_XYZ.sum(1))
_WHITE_U = 4.0 * _WHITE[0] / (_WHITE[0] + 15.0 + 3.0 * _WHITE[2])
_WHITE_V = 9.0 / (_WHITE[0] + 15.0 + 3.0 * _WHITE[2])


# Curves over [0, 1] in 4096 steps, as fine as OpenCV's: a power per pixel costs ten
# times as much as a look-up.
_FINE = 4095
_GRID = np.arange(_FINE + 1) / _FINE


def _curve(low: np.ndarray, high: np.ndarray, is_low: np.ndarray) -> np.ndarray:
    return np.where(is_low, low, high).astype(np.float32)


_LEVELS = np.arange(256) / 255.0
_LINEAR = _curve(
    _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4, _LEVELS <= 0.04045
)
_ENCODED = 255 * _curve(
    12.92 * _GRID, 1.055 * _GRID ** (1 / 2.4) - 0.055, _GRID <= 0.0031308
)
_LAB_CURVE = _curve(7.787 * _GRID + 16 / 116, np.cbrt(_GRID), _GRID <= 0.008856)


def _from_hexagon(
    turn: Float[Array, "*s"], top: Float[Array, "*s"], bottom: Float[Array, "*s"]
) -> Planes:
    span = top - bottom
    return tuple(_level(top - span * hexagon(turn + o)) for o in HEXAGON_OFFSETS)


def _to_luma_chroma(rgb: Planes, *, red: int, blue: int, red_first: bool) -> Planes:
    r, g, b = rgb
    y = _descale(4899 * r + 9617 * g + 1868 * b)
    from_red = jnp.clip(_descale((r - y) * red) + 128, 0, 255)
    from_blue = jnp.clip(_descale((b - y) * blue) + 128, 0, 255)
    return (y, from_red, from_blue) if red_first else (y, from_blue, from_red)


def _from_luma_chroma(
    y: Plane, from_red: Plane, from_blue: Plane, factors: tuple[int, int, int, int]
) -> Planes:
    red, green_red, green_blue, blue = factors
    v, u = from_red - 128, from_blue - 128
    r = y + _descale(v * red)
    g = y + _descale(v * green_red + u * green_blue)
    b = y + _descale(u * blue)
    return jnp.clip(r, 0, 255), jnp.clip(g, 0, 255), jnp.clip(b, 0, 255)


def _descale(x: Plane) -> Plane:
    return (x + (1 << 13)) >> 14


def _reciprocal(x: Plane, numerator: float) -> Plane:
    """round(numerator / x), and 0 at 0: OpenCV's division tables without the table."""
    positive = jnp.maximum(x, 1).astype(jnp.float32)
    return jnp.where(x > 0, _round(numerator / positive), 0)


def _to_xyz(
    rgb: Planes,
) -> tuple[Float[Array, "*s"], Float[Array, "*s"], Float[Array, "*s"]]:
    """XYZ divided by the white point, so that white is (1, 1, 1)."""
    linear = jnp.asarray(_LINEAR)
    r, g, b = (linear.at[v].get(mode="promise_in_bounds") for v in rgb)
    rows = (_TO_XYZ / np.array(_WHITE)[:, None]).tolist()
    return tuple(r * row[0] + g * row[1] + b * row[2] for row in rows)


def _from_xyz(
    x: Float[Array, "*s"], y: Float[Array, "*s"], z: Float[Array, "*s"]
) -> Planes:
    rows = (np.linalg.inv(_TO_XYZ) * np.array(_WHITE)[None]).tolist()
    linear = (x * row[0] + y * row[1] + z * row[2] for row in rows)
    return tuple(_level(_look_up(_ENCODED, v)) for v in linear)


def _lab_curve(t: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return _look_up(_LAB_CURVE, t)


def _lab_inverse(f: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return jnp.where(f > 0.206893, f * f * f, (f - 16.0 / 116.0) / 7.787)


def _look_up(curve: np.ndarray, t: Float[Array, "*s"]) -> Float[Array, "*s"]:
    index = _round(jnp.clip(t, 0.0, 1.0) * _FINE)
    return jnp.asarray(curve).at[index].get(mode="promise_in_bounds")


def _round(x: Float[Array, "*s"]) -> Plane:
    return jnp.round(x).astype(jnp.int32)


def _level(x: Float[Array, "*s"]) -> Plane:
    return _round(jnp.clip(x, 0.0, 255.0))
