"""A procedural circuit board: one fixed layout, seen anew in every image.

The layout is a table of boxes (y, x, height, width) in fractions of the image.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from anojax.data.scene import Drawing, Shape, chance, colors, finished, posed, shadow
from anojax.ops.geometry import sample
from anojax.ops.procedural import (
    boxes,
    color_ramp,
    composite,
    cover,
    disk,
    fractal_noise,
    grid,
    rgb,
    smoothstep,
    strokes,
)

Image = Float[Array, "h w 3"]
Field = Float[Array, "h w"]
BOARD = np.array([[0.0, 0.0, 0.68, 0.88]], np.float32)
HOLES = [(y, x) for y in (-0.295, 0.295) for x in (-0.395, 0.395)]

PROCESSOR = (-0.04, -0.08, 0.2, 0.2)
DRIVER = (0.2, 0.19, 0.085, 0.16)
CRYSTAL = (-0.04, 0.125, 0.15, 0.06)
CAPACITORS = [(-0.19, 0.25, 0.058), (-0.055, 0.29, 0.058)]
CHIPS = [(-0.245, -0.25 + 0.075 * i, 0.052, 0.028) for i in range(6)]
CHIPS += [(0.13 + 0.05 * i, -0.05, 0.026, 0.05) for i in range(3)]
CHIPS += [(0.13 + 0.05 * i, 0.035, 0.026, 0.05) for i in range(3)]


def _pins() -> np.ndarray:
    y, x, h, w = PROCESSOR
    steps = np.linspace(-0.082, 0.082, 10)
    pins = [
        (y + side * (h / 2 + 0.012), x + s, 0.03, 0.009)
        for side in (-1, 1)
        for s in steps
    ]
    pins += [
        (y + s, x + side * (w / 2 + 0.012), 0.009, 0.03)
        for side in (-1, 1)
        for s in steps
    ]
    y, x, h, w = DRIVER
    pins += [
        (y + side * (h / 2 + 0.013), x + s, 0.032, 0.012)
        for side in (-1, 1)
        for s in np.linspace(-0.062, 0.062, 6)
    ]
    return np.array(pins, np.float32)


def _header() -> np.ndarray:
    places = [
        (-0.19 + 0.042 * row, -0.385 + 0.042 * col)
        for row in range(9)
        for col in (0, 1)
    ]
    return np.array([(y + 0.03, x, 0.028, 0.028) for y, x in places], np.float32)


def _traces() -> np.ndarray:
    """Copper runs with 45 degree bends, from pin to part."""
    lines = []

    def run(*points):
        lines.extend((*a, *b) for a, b in pairwise(points))

    for i in range(8):  # header to the processor's left side
        y, end = -0.16 + 0.042 * i, -0.105 + 0.018 * i
        bend = -0.235 - 0.009 * abs(i - 4)
        run((y, -0.343), (y, bend - abs(y - end)), (end, bend), (end, -0.19))
    for i in range(6):  # processor's top to the row of chips
        x, end = -0.155 + 0.02 * i, -0.25 + 0.075 * i
        bend = -0.165 - 0.006 * i
        run((-0.15, x), (bend, x), (bend - 0.02, end), (-0.23, end))
    for i in range(6):  # processor's bottom to the passive parts
        x = -0.15 + 0.022 * i
        run(
            (0.07, x),
            (0.09 + 0.012 * i, x),
            (0.12 + 0.012 * i, x + 0.03),
            (0.26, x + 0.03),
        )
    for i in range(5):  # processor's right side to crystal, capacitors and driver
        y = -0.115 + 0.036 * i
        run(
            (y, 0.03),
            (y, 0.06),
            (y - 0.02 + 0.02 * i, 0.09),
            (y - 0.02 + 0.02 * i, 0.2),
        )
    for i in range(6):
        x = 0.128 + 0.0248 * i
        run(
            (0.14, x),
            (0.11 - 0.01 * i, x),
            (0.06 - 0.01 * i, x + 0.05),
            (-0.26, x + 0.05),
        )
        run((0.255, x), (0.275 + 0.006 * i, x), (0.275 + 0.006 * i, 0.33))
    return np.array(lines, np.float32)


def _vias() -> np.ndarray:
    drawn = np.random.default_rng(11).uniform((-0.31, -0.42), (0.31, 0.42), (46, 2))
    return np.concatenate([drawn, np.zeros((46, 2))], axis=1).astype(np.float32)


def _copper(y: Field, x: Field, weave: Field) -> Image:
    """Solder mask over traces, vias with gold rims, pads."""
    mask = color_ramp(0.5 + 0.07 * weave, colors((0.0, 0.2, 0.11), (0.03, 0.36, 0.2)))
    runs = strokes(y, x, jnp.asarray(_traces()))
    green = rgb((0.1, 0.47, 0.28))
    # Copper floods the quiet corner; a clearance follows every run.
    flood = cover(
        boxes(y, x, np.array([[0.21, -0.245, 0.2, 0.17]], np.float32), rounding=0.01)
    )
    image = composite(mask, 0.55 * flood, green)
    image = composite(image, cover(runs - 0.0036), green)
    vias = strokes(y, x, jnp.asarray(_vias()[:, [0, 1, 0, 1]]))
    image = composite(image, cover(vias - 0.0085), rgb((0.72, 0.62, 0.34)))
    return composite(image, cover(vias - 0.0035), rgb((0.08, 0.08, 0.06)))


def _print(image: Image, y: Field, x: Field) -> Image:
    """White outlines and marks."""
    frames = [(*PROCESSOR[:2], 0.29, 0.29), (*DRIVER[:2], 0.165, 0.185)]
    frames += [(*CRYSTAL[:2], 0.175, 0.085), (-0.022, -0.364, 0.4, 0.1)]
    edge = jnp.min(
        jnp.stack([jnp.abs(boxes(y, x, np.array([f], np.float32))) for f in frames]), 0
    )
    image = composite(image, 0.85 * cover(edge - 0.0022), rgb((0.88, 0.9, 0.86)))
    marks = [
        (-0.297 + 0.018 * (i % 2), -0.16 + 0.013 * i, 0.008, 0.009) for i in range(22)
    ]
    marks += [
        (0.305, -0.31 + 0.014 * i, 0.018, 0.009 - 0.004 * (i % 3 == 1))
        for i in range(18)
    ]
    marks += [
        (-0.22 + 0.05 * (i // 4), 0.355 + 0.013 * (i % 4), 0.013, 0.008)
        for i in range(24)
    ]
    text = cover(boxes(y, x, np.array(marks, np.float32)))
    return composite(image, 0.85 * text, rgb((0.88, 0.9, 0.86)))


def _parts(image: Image, y: Field, x: Field, glint: Field) -> Image:
    """Metal, ceramic and plastic parts, each with its small shadow."""
    tin = 0.66 + 0.2 * glint
    metal = tin[..., None] * rgb((1.0, 1.0, 1.02))
    gold = tin[..., None] * rgb((1.08, 0.88, 0.47))
    header = boxes(y, x, _header(), rounding=0.012)
    image = composite(image, cover(header), gold)
    middles = _header() * np.array([1, 1, 0.42, 0.42], np.float32)
    image = composite(
        image, cover(boxes(y, x, middles, rounding=0.005)), rgb((0.07, 0.06, 0.04))
    )
    bodies = np.array([PROCESSOR, DRIVER], np.float32)
    ends = np.array(CHIPS, np.float32)
    solid = np.concatenate([bodies, ends, np.array([CRYSTAL], np.float32)])
    image = image * shadow(boxes(y - 0.006, x - 0.006, solid), 0.5, 0.01)[..., None]
    image = composite(image, cover(boxes(y, x, _pins())), metal)
    image = composite(image, cover(boxes(y, x, ends, rounding=0.003)), metal)
    tall = ends[:, 2:3] > ends[:, 3:4]
    waist = ends * np.where(tall, [[1, 1, 0.5, 1]], [[1, 1, 1, 0.5]])
    ceramic = boxes(y, x, waist[:6].astype(np.float32))
    image = composite(image, cover(ceramic), rgb((0.58, 0.44, 0.29)))
    resistor = boxes(y, x, waist[6:].astype(np.float32))
    image = composite(image, cover(resistor), rgb((0.05, 0.05, 0.055)))
    case = boxes(y, x, bodies, rounding=0.004)
    bevel = smoothstep(-0.008, 0.0, case)
    plastic = (0.105 + 0.05 * glint + 0.05 * bevel)[..., None] * rgb((1.0, 1.0, 1.04))
    image = composite(image, cover(case), plastic)
    dot = disk(y, x, (PROCESSOR[0] - 0.075, PROCESSOR[1] - 0.075), 0.009)
    dot = jnp.minimum(dot, disk(y, x, (DRIVER[0] + 0.022, DRIVER[1] - 0.062), 0.007))
    image = composite(image, cover(dot), rgb((0.25, 0.25, 0.26)))
    words = [(-0.06, -0.125 + 0.0125 * i, 0.016, 0.008) for i in range(8)]
    words += [(-0.03, -0.125 + 0.0125 * i, 0.012, 0.007) for i in range(6)]
    words += [(0.195, 0.155 + 0.0125 * i, 0.014, 0.008) for i in range(6)]
    image = composite(
        image,
        0.6 * cover(boxes(y, x, np.array(words, np.float32))),
        rgb((0.6, 0.6, 0.6)),
    )
    can = boxes(y, x, np.array([CRYSTAL], np.float32), rounding=0.028)
    dome = (
        0.62
        + 0.25 * glint
        + 0.2 * smoothstep(-0.012, 0.0, can)
        - 0.14 * smoothstep(-0.02, -0.012, can)
    )
    return composite(image, cover(can), dome[..., None] * rgb((1.0, 0.99, 0.96)))


def _capacitors(image: Image, y: Field, x: Field) -> Image:
    for cy, cx, radius in CAPACITORS:
        far = disk(y, x, (cy, cx), radius)
        image = (
            image
            * shadow(disk(y - 0.012, x - 0.012, (cy, cx), radius), 0.6, 0.018)[
                ..., None
            ]
        )
        lamp = ((y - cy) + (x - cx)) / radius
        top = 0.68 - 0.12 * lamp + 0.2 * jnp.exp(-(((lamp + 0.35) / 0.3) ** 2))
        rim = jnp.exp(-(((far + 0.008) / 0.004) ** 2)) * 0.3
        stripe = smoothstep(0.55, 0.6, -(x - cx) / radius)
        image = composite(
            image, cover(far), (top - rim)[..., None] * rgb((1.0, 1.0, 1.01))
        )
        image = composite(image, cover(far + 0.006) * stripe, rgb((0.1, 0.1, 0.13)))
        cross = jnp.minimum(jnp.abs(y - cy), jnp.abs(x - cx)) - 0.0012
        image = composite(
            image, 0.35 * cover(cross) * cover(far + 0.02), rgb((0.3, 0.3, 0.3))
        )
    return image


@partial(jax.jit, static_argnums=0)
def _artwork(side: int) -> Float[Array, "h w 6"]:
    """The board straight on: its color in the dark, and what a lamp adds."""
    y, x = grid((side, side))
    weave = jnp.zeros_like(y)
    bare = _print(_copper(y, x, weave), y, x)
    holes = jnp.min(jnp.stack([disk(y, x, at, 0.017) for at in HOLES]), axis=0)
    bare = composite(bare, cover(holes - 0.016), rgb((0.78, 0.68, 0.4)))
    edge = smoothstep(-0.006, 0.0, boxes(y, x, BOARD, rounding=0.025))

    def populated(glint):
        full = _capacitors(_parts(bare, y, x, weave + glint), y, x)
        return composite(full, 0.6 * edge, rgb((0.45, 0.5, 0.3)))

    dark = populated(0.0)
    return jnp.concatenate([dark, populated(1.0) - dark + 0.07], axis=-1)


def circuit_board(shape: Shape) -> Callable[[Key[Array, ""]], Drawing]:
    """A populated green board with four mounting holes, on a pale mat.

    The layout is drawn once per size, at twice the resolution; an image samples it.
    """
    side = 2 * shape[0]
    artwork = _artwork(side)

    def draw(key: Key[Array, ""]) -> Drawing:
        raw, dice = chance(key, shape, 3)
        y, x = posed(shape, dice, swing_rad=0.16, shift=0.04)
        outline = boxes(y, x, BOARD, rounding=0.025)
        nearest = [disk(y, x, at, 0.017) for at in HOLES]
        distance = jnp.maximum(outline, -jnp.min(jnp.stack(nearest), axis=0))
        room_y, room_x = grid(shape)
        lamp = jnp.exp(-(((room_x + room_y + 0.7 * (dice[4] - 0.5)) / 0.35) ** 2))
        at_y, at_x = (y + 0.5) * side - 0.5, (x + 0.5) * side - 0.5
        seen = sample(artwork, at_y, at_x, fill=None)
        weave = fractal_noise(raw[0], slope=0.6, coarsest=12.0)
        shine = (0.7 * lamp + 0.03 * weave)[..., None]
        image = seen[..., :3] * (1.0 + 0.03 * weave)[..., None] + shine * seen[..., 3:]
        mat = (
            0.79
            + 0.012 * fractal_noise(raw[1], slope=0.3, coarsest=20.0)
            - 0.05 * room_y
        )
        below = boxes(y - 0.012, x - 0.008, BOARD, rounding=0.025)
        mat = (mat * shadow(below, 0.45, 0.016))[..., None] * rgb((1.0, 0.99, 0.97))
        return finished(mat, image, distance, raw[2], dice)

    return draw
