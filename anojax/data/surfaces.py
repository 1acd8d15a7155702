"""Procedural products that fill the image: metal, fabric, wood, tile, leather.

What makes the product (colors, weave, ring spacing) is fixed; what a camera would see
differently from part to part (place in the material, light, pose, grain) is drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from anojax.data.scene import Drawing, Shape, captured, chance, colors, filling
from anojax.ops.procedural import (
    color_ramp,
    composite,
    fractal_noise,
    grid,
    per_cell,
    rotate_coordinates,
    shading,
    smoothstep,
    worley_noise,
)


def brushed_metal(key: Key[Array, ""], shape: Shape) -> Drawing:
    """Rolled steel, brushed across, with the bright band of a strip lamp."""
    raw, dice = chance(key, shape, 3)
    tilt = 0.05 * (dice[0] - 0.5)
    y, x = rotate_coordinates(*grid(shape), tilt)
    fine = fractal_noise(
        raw[0], slope=0.35, coarsest=10.0, stretch=70.0, angle_rad=tilt
    )
    broad = fractal_noise(raw[1], slope=1.2, coarsest=2.0, stretch=12.0, angle_rad=tilt)
    lamp = x - 0.5 * (dice[1] - 0.5) + 0.15 * y
    shine = jnp.exp(-((lamp / 0.34) ** 2))
    tone = 0.36 + 0.26 * shine + (0.035 + 0.03 * shine) * fine + 0.018 * broad
    steel = colors((0.0, 0.0, 0.01), (0.49, 0.5, 0.515), (1.0, 1.0, 1.0))
    return filling(captured(color_ramp(tone, steel), raw[2], dice))


def fabric(key: Key[Array, ""], shape: Shape) -> Drawing:
    """Blue twill: indigo threads over and under pale ones, two by two."""
    raw, dice = chance(key, shape, 4)
    slack = fractal_noise(raw[0], slope=1.8, coarsest=2.0)
    y, x = rotate_coordinates(*grid(shape), 0.08 * (dice[0] - 0.5))
    v = (y + 0.004 * slack) * 30.0 + dice[1]
    u = (x + 0.003 * slack) * 34.0 + dice[2]
    row, column = jnp.floor(v), jnp.floor(u)
    # In a 2/2 twill the pattern moves one thread sideways with every row.
    phase = jnp.mod(column - row, 4.0)
    over = (phase < 1.5).astype(jnp.float32)
    v, u = v - row - 0.5, u - column - 0.5
    # A float covers two threads: its middle is highest, its ends dive.
    along_warp = jnp.where(phase < 0.5, v - 0.5, v + 0.5)
    along_weft = jnp.where(phase < 2.5, u - 0.5, u + 0.5)
    across = over * u + (1.0 - over) * v
    along = over * along_warp + (1.0 - over) * along_weft
    bulge = jnp.clip((1.0 - 2.9 * across * across) * (1.0 - 0.45 * along * along), 0, 1)
    yarn = fractal_noise(
        raw[1], slope=0.3, coarsest=20.0, stretch=5.0, angle_rad=np.pi / 2
    )
    weft = fractal_noise(raw[2], slope=0.3, coarsest=20.0, stretch=5.0)
    indigo = color_ramp(
        0.5 + 0.13 * yarn + 0.05 * slack,
        colors((0.08, 0.13, 0.26), (0.24, 0.36, 0.58)),
    )
    pale = color_ramp(0.6 + 0.12 * weft, colors((0.42, 0.46, 0.53), (0.78, 0.8, 0.82)))
    image = composite(pale, over, indigo) * (0.3 + 0.75 * bulge)[..., None]
    return filling(captured(image, raw[3], dice))


def wood(key: Key[Array, ""], shape: Shape) -> Drawing:
    """A planed oak board, grain across, cut somewhere else in the trunk each time."""
    raw, dice = chance(key, shape, 4)
    tilt = 0.06 * (dice[0] - 0.5)
    y, x = rotate_coordinates(*grid(shape), tilt)
    bend = fractal_noise(raw[0], slope=2.2, coarsest=1.5, stretch=5.0, angle_rad=tilt)
    # Rings are cut at a slant: wide in the middle of the board, narrow to one side.
    depth = y + 0.8 * (dice[1] - 0.5)
    radius = jnp.sqrt(depth * depth + 0.09 + 0.02 * x) + 0.018 * bend
    ring = jnp.mod((16.0 + 3.0 * dice[2]) * radius, 1.0)
    late = smoothstep(0.25, 0.9, ring) * smoothstep(1.0, 0.94, ring)
    fiber = fractal_noise(
        raw[1], slope=0.4, coarsest=24.0, stretch=30.0, angle_rad=tilt
    )
    pore = fractal_noise(raw[2], slope=0.1, coarsest=60.0, stretch=14.0, angle_rad=tilt)
    dark = smoothstep(1.2, 2.2, pore) * (0.35 + 0.65 * late)
    tone = 0.72 - 0.3 * late + 0.055 * fiber - 0.3 * dark + 0.04 * bend
    oak = colors((0.22, 0.12, 0.06), (0.56, 0.37, 0.21), (0.84, 0.67, 0.46))
    return filling(captured(color_ramp(tone, oak), raw[3], dice))


def tile(key: Key[Array, ""], shape: Shape) -> Drawing:
    """Polished terrazzo: large and small stone chips in pale cement."""
    raw, dice = chance(key, shape, 2)
    scattered = jax.random.uniform(jax.random.fold_in(key, 1), (2, 18, 18, 4))
    y, x = grid(shape)
    mottle = fractal_noise(raw[0], slope=0.5, coarsest=6.0)
    image = color_ramp(
        0.5 + 0.14 * mottle, colors((0.62, 0.6, 0.56), (0.82, 0.8, 0.76))
    )
    stones = colors(
        (0.17, 0.17, 0.18), (0.42, 0.4, 0.38), (0.63, 0.47, 0.38),
        (0.9, 0.88, 0.84), (0.72, 0.66, 0.56), (0.36, 0.3, 0.27),
    )  # fmt: skip
    for layer, count, share in ((0, 18, 0.45), (1, 7, 0.5)):
        points = scattered[layer]
        bent_y, bent_x = y + 0.0008 * mottle, x - 0.0008 * mottle
        near, second, owner = worley_noise(points[..., :2], bent_y, bent_x, count=count)
        kept = (per_cell(points[..., 2], owner) < share).astype(jnp.float32)
        # Chips are convex pieces of unequal size, away from the cell's edges.
        size = 0.3 + 0.3 * per_cell(points[..., 3], owner)
        inside = smoothstep(0.0, 0.03, second - near - 0.16) * smoothstep(
            0.0, 0.03, size - near
        )
        tone = per_cell(points[..., 2], owner) / share
        stone = color_ramp(tone, stones) * (1.0 + 0.05 * mottle)[..., None]
        image = composite(image, inside * kept, stone)
    window = jnp.exp(-(((x + y - 0.8 * (dice[0] - 0.5)) / 0.35) ** 2))
    return filling(captured(image + 0.05 * window[..., None], raw[1], dice))


def leather(key: Key[Array, ""], shape: Shape) -> Drawing:
    """Brown full-grain leather: pebbles between fine creases."""
    raw, dice = chance(key, shape, 4)
    points = jax.random.uniform(jax.random.fold_in(key, 1), (34, 34, 2))
    broad = fractal_noise(raw[0], slope=1.8, coarsest=2.0)
    warp = fractal_noise(raw[1], slope=1.2, coarsest=8.0)
    y, x = grid(shape)
    y, x = y + 0.004 * warp + 0.01 * broad, x - 0.004 * warp + 0.008 * broad
    near, second, _ = worley_noise(points, y, x, count=34)
    gap = jnp.clip(second - near, 0.0, 0.6)
    fine = fractal_noise(raw[2], slope=0.4, coarsest=30.0)
    height = (jnp.sqrt(gap) + 0.05 * fine) / 34.0
    lit = shading(height, angle_rad=0.9 + 0.4 * dice[0], depth=0.42)
    tone = (
        0.5 + 0.05 * broad + 0.02 * fine + 0.3 * lit - 0.16 * smoothstep(0.25, 0.0, gap)
    )
    hide = colors((0.1, 0.05, 0.03), (0.4, 0.22, 0.13), (0.72, 0.5, 0.36))
    return filling(captured(color_ramp(tone, hide), raw[3], dice))
