"""Procedural products on a plain background: nut, capsule, bottle, circuit board.

Shapes are signed distances, so the foreground is exact: a pixel belongs to the object
where the object covers at least half of it. Each image has its own pose and light.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from anojax.data.scene import Drawing, Shape, chance, colors, finished, posed, shadow
from anojax.ops.procedural import (
    boxes,
    color_ramp,
    composite,
    cover,
    fractal_noise,
    grid,
    rgb,
    smoothstep,
)

Field = Float[Array, "h w"]


def nut(key: Key[Array, ""], shape: Shape) -> Drawing:
    """A steel hexagon nut from above, any way round, on a dark mat."""
    raw, dice = chance(key, shape, 3)
    y, x = posed(shape, dice, swing_rad=2 * np.pi)
    radius = jnp.sqrt(y * y + x * x + 1e-9)
    around = jnp.arctan2(y, x)
    sixth = jnp.mod(around, np.pi / 3) - np.pi / 6
    hexagon = radius * jnp.cos(sixth) - 0.345
    distance = jnp.maximum(hexagon, 0.172 - radius)
    brushed = fractal_noise(raw[0], slope=0.4, coarsest=6.0, stretch=3.0)
    # Turning marks are circles; lamps from two sides give a bow-tie of light.
    marks = jnp.sin(radius * 420.0 + 0.8 * brushed) * 0.02
    room_y, room_x = grid(shape)
    lamp = jnp.arctan2(room_y, room_x)
    bow = jnp.cos(2.0 * lamp - 1.2 - dice[4]) * 0.13 + jnp.cos(lamp + 2.2) * 0.05
    face = 0.62 + bow + marks + 0.035 * brushed
    # Corners fall away outside the chamfer circle; each flank catches other light.
    chamfer = smoothstep(0.335, 0.36, radius)
    flank = jnp.floor(jnp.mod(around, 2 * np.pi) / (np.pi / 3))
    facing = jnp.cos(flank * (np.pi / 3) + np.pi / 6 + 2 * np.pi * (dice[0] - 0.5))
    corner = 0.42 + 0.14 * facing + 0.03 * brushed
    tone = face + chamfer * (corner - face)
    rim = jnp.exp(-(((radius - 0.34) / 0.006) ** 2)) * 0.12
    # The thread: a cone down to the bore, crossed by a helix.
    bore = smoothstep(0.222, 0.214, radius)
    turns = jnp.sin((radius - 0.172) * 520.0 + around)
    thread = 0.3 + 0.17 * turns + 0.22 * jnp.cos(lamp + np.pi + 2.2) * turns
    tone = tone + rim + bore * (thread - tone)
    steel = colors((0.03, 0.03, 0.035), (0.5, 0.5, 0.5), (1.0, 0.99, 0.97))
    mat = 0.095 + 0.012 * fractal_noise(raw[1], slope=0.4, coarsest=20.0)
    mat = color_ramp(mat, colors((0.0, 0.0, 0.0), (0.98, 1.0, 1.04)))
    mat = mat * shadow(distance, 0.6, 0.02)[..., None]
    return finished(mat, color_ramp(tone, steel), distance, raw[2], dice)


def capsule(key: Key[Array, ""], shape: Shape) -> Drawing:
    """A two-colored gelatine capsule with an imprint, on a light table."""
    raw, dice = chance(key, shape, 2)
    y, x = posed(shape, dice, swing_rad=0.5)
    half, reach = 0.135, 0.235
    # The cap slides over the body and is a little wider.
    wide = jnp.where(x < 0.015, half + 0.005, half)
    past = jnp.maximum(jnp.abs(x) - reach, 0.0)
    distance = jnp.sqrt(y * y + past * past + 1e-9) - wide
    # Normal of the round surface; the lamp stands behind and to the left.
    ny, nx = y / wide, past * jnp.sign(x) / wide
    nz = jnp.sqrt(jnp.clip(1.0 - ny * ny - nx * nx, 0.0, 1.0))
    diffuse = jnp.clip(0.45 * nz - 0.5 * ny - 0.15 * nx, 0.0, 1.0)
    lamp = jnp.exp(-(((ny + 0.5) / 0.11) ** 2)) * smoothstep(
        0.27, 0.2, jnp.abs(x + 0.01)
    )
    bounce = jnp.exp(-(((ny - 0.72) / 0.14) ** 2)) * smoothstep(0.26, 0.18, jnp.abs(x))
    left = rgb((0.62, 0.09, 0.09))
    right = rgb((0.9, 0.69, 0.3))
    speckle = 1.0 + 0.02 * fractal_noise(raw[0], slope=0.6, coarsest=10.0)
    cap = (x < 0.015).astype(jnp.float32)
    color = right + cap[..., None] * (left - right)
    body = color * ((0.42 + 0.62 * diffuse + 0.12 * bounce) * speckle)[..., None]
    # The seam casts a thin shadow on the body and the cap has a second ring.
    seam = jnp.exp(-(((x - 0.019) / 0.005) ** 2)) * 0.45
    ring = jnp.exp(-(((x + 0.055) / 0.004) ** 2)) * 0.14
    body = body * (1.0 - seam - ring)[..., None]
    # "50" in seven-segment strokes, printed along the axis.
    five = [(-0.05, 0, 0.01, 0.05), (0, 0, 0.01, 0.05), (0.05, 0, 0.01, 0.05)]
    five += [(-0.025, -0.022, 0.06, 0.01), (0.025, 0.022, 0.06, 0.01)]
    zero = [(-0.05, 0, 0.01, 0.05), (0.05, 0, 0.01, 0.05)]
    zero += [(0, -0.022, 0.11, 0.01), (0, 0.022, 0.11, 0.01)]
    print_ = [(r + 0.012, c + 0.1, h, w) for r, c, h, w in five]
    print_ += [(r + 0.012, c + 0.172, h, w) for r, c, h, w in zero]
    ink = cover(boxes(y, x, np.array(print_, np.float32), rounding=0.003), soft=0.005)
    body = composite(body, 0.82 * ink, rgb((0.2, 0.09, 0.05)))
    body = body + (0.55 * lamp)[..., None]
    ground_y, ground_x = grid(shape)
    table = 0.84 - 0.05 * ground_y + 0.02 * ground_x
    below = jnp.sqrt((y - 0.03) ** 2 + past * past + 1e-9) - wide
    table = table * shadow(below, 0.38, 0.022)
    table = table[..., None] * rgb((1.0, 1.0, 0.985))
    return finished(table, body, distance, raw[1], dice)


def _profile(y: Field) -> Field:
    """Half-width of the bottle at height y: foot, body, shoulder, neck."""
    foot = 0.178 - 0.02 * smoothstep(0.385, 0.42, y)
    shoulder = smoothstep(-0.27, -0.13, y)
    return 0.085 + (foot - 0.085) * shoulder


def bottle(key: Key[Array, ""], shape: Shape) -> Drawing:
    """A brown medicine bottle with a paper label and a ribbed white cap."""
    raw, dice = chance(key, shape, 2)
    y, x = posed(shape, dice, swing_rad=0.07, shift=0.04)
    width = _profile(y)
    t = jnp.clip(x / width, -1.0, 1.0)
    glass_end = jnp.maximum(jnp.abs(y - 0.06) - 0.355, 0.0)
    rounded = jnp.maximum(jnp.abs(x) - width, jnp.abs(y - 0.06) - 0.355)
    corner = jnp.maximum(jnp.abs(x) - width + 0.02, 0.0) ** 2
    corner = jnp.sqrt(corner + jnp.maximum(jnp.abs(y - 0.06) - 0.335, 0.0) ** 2 + 1e-9)
    glass = jnp.where(glass_end > -1.0, jnp.maximum(rounded, corner - 0.02), rounded)
    cap_box = np.array([[-0.345, 0.0, 0.13, 0.22]], np.float32)
    cap = boxes(y, x, cap_box, rounding=0.012)
    distance = jnp.minimum(glass, cap)
    # Light through brown glass: thicker, hence darker, towards the sides.
    wall = jnp.sqrt(jnp.clip(1.0 - t * t, 0.0, 1.0))
    level = -0.12 + 0.05 * (dice[4] - 0.5)
    filled = smoothstep(level - 0.003, level + 0.003, y)
    through = 0.24 + 0.46 * wall - 0.16 * filled
    amber = colors((0.1, 0.035, 0.01), (0.42, 0.17, 0.03), (0.85, 0.5, 0.14))
    body = color_ramp(through + 0.1 * smoothstep(0.3, 0.41, y), amber)
    # Label: printed paper wrapped round the body; its turn differs between bottles.
    roll = jnp.arcsin(0.995 * t) + 0.5 * (dice[5] - 0.5)
    paper = cover(jnp.abs(y - 0.15) - 0.155) * cover(jnp.abs(x) - width)
    shade = (0.5 + 0.5 * wall) * (1.0 - 0.12 * t)
    label = rgb((0.93, 0.92, 0.88)) * jnp.ones_like(body)
    band = cover(jnp.abs(y - 0.035) - 0.028)
    label = composite(label, band, rgb((0.1, 0.36, 0.5)))
    rule = jnp.abs(jnp.mod(y - 0.1, 0.034) - 0.017) - 0.006
    number = jnp.floor((y - 0.1) / 0.034)
    words = jnp.sin(roll * 43.0 + number * 5.0) + 0.6 * jnp.sin(roll * 71.0 + number)
    text = (
        cover(rule) * smoothstep(-0.7, -0.4, words) * cover(jnp.abs(y - 0.185) - 0.085)
    )
    text = text * smoothstep(
        0.75 - 0.12 * jnp.mod(number * 2.0, 3.0), 0.6, jnp.abs(roll)
    )
    label = composite(label, 0.75 * text, rgb((0.15, 0.15, 0.17)))
    body = composite(body, paper, label * shade[..., None])
    gloss = jnp.exp(-(((t + 0.58) / 0.09) ** 2)) * 0.5 * (1.0 - 0.75 * paper)
    gloss = gloss + jnp.exp(-(((t - 0.74) / 0.04) ** 2)) * 0.22 * (1.0 - 0.8 * paper)
    body = (
        body
        + (gloss * smoothstep(-0.28, -0.2, y) * smoothstep(0.41, 0.36, y))[..., None]
    )
    # Cap: ribs crowd together towards the sides.
    s = jnp.clip(x / 0.11, -1.0, 1.0)
    ribs = 0.06 * jnp.sin(jnp.arcsin(0.995 * s) * 30.0) * smoothstep(-0.4, -0.385, y)
    white_ = 0.5 + 0.42 * jnp.sqrt(jnp.clip(1.0 - s * s, 0.0, 1.0)) - 0.08 * s + ribs
    white_ = white_ - 0.25 * jnp.exp(-(((y + 0.283) / 0.006) ** 2))
    body = composite(body, cover(cap), white_[..., None] * rgb((1.0, 1.0, 0.98)))
    room_y, room_x = grid(shape)
    wall_ = 0.8 - 0.1 * room_y - 0.04 * room_x * room_x
    floor = smoothstep(0.05, 0.0, jnp.abs(room_y - 0.43)) * jnp.exp(-((x / 0.24) ** 4))
    wall_ = wall_ - 0.28 * floor * smoothstep(0.37, 0.42, room_y)
    backdrop = wall_[..., None] * rgb((0.97, 0.99, 1.0))
    return finished(backdrop, body, distance, raw[1], dice)
