"""Sixteen procedural textures that look like materials and their damage.

Each texture is a recipe over the same few fields (three fractal noises, one pattern of
cells, a tilted frame, a palette), whose parameters come from the recipe's row in
`KINDS`. Only the recipe itself sits behind the switch, so that compiling stays cheap.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from anojax.ops.procedural import (
    color_ramp,
    composite,
    fractal_noise,
    grid,
    per_cell,
    rotate_coordinates,
    shading,
    smoothstep,
    strokes,
    white_noise,
    worley_noise,
)

Field = Float[Array, "h w"]
Texture = Float[Array, "h w 3"]
MOST_CELLS = 12
STROKES = 20


class Fields(NamedTuple):
    """What every recipe may use."""

    broad: Field
    fine: Field
    grain: Field
    y: Field
    x: Field
    near: Field
    gap: Field
    tone: Field
    cell_side: Array
    strokes: Float[Array, "n 4"]
    angle_rad: Array
    dice: Float[Array, "8"]
    palette: Float[Array, "4 3"]
    other: Float[Array, "4 3"]


def sand(f: Fields) -> Texture:
    """Sand or cast concrete."""
    return color_ramp(0.5 + 0.16 * f.fine + 0.1 * f.broad, f.palette)


def fibers(f: Fields) -> Texture:
    """Felt, paper or hair, in two crossing directions."""
    return color_ramp(0.42 + 0.2 * jnp.maximum(f.fine, f.grain), f.palette)


def scratches(f: Fields) -> Texture:
    """Scratched plate."""
    y, x = grid(f.y.shape)
    width = 0.002 + 0.004 * f.dice[0]
    marks = jnp.clip(1.0 - strokes(y, x, f.strokes) / width, 0.0, 1.0)
    return color_ramp(0.35 + 0.1 * f.fine + 0.6 * marks, f.palette)


def rust(f: Fields) -> Texture:
    """Corrosion breaking through a coat of paint."""
    patch = smoothstep(-0.1, 0.25, f.broad + 0.25 * f.fine - f.dice[0] + 0.6)
    brown = np.array([[0.16, 0.07, 0.04], [0.45, 0.2, 0.08], [0.75, 0.42, 0.18]])
    corroded = color_ramp(0.5 + 0.22 * f.fine, jnp.asarray(brown.astype(np.float32)))
    return composite(color_ramp(0.6 + 0.04 * f.grain, f.palette), patch, corroded)


def cracks(f: Fields) -> Texture:
    """Dried mud or crazed glaze."""
    plate = 0.6 + 0.08 * f.fine + 0.25 * (f.tone - 0.5)
    return color_ramp(plate * (0.1 + 0.9 * smoothstep(0.0, 0.07, f.gap)), f.palette)


def gravel(f: Fields) -> Texture:
    """Stones of several colors, lit from one side."""
    height = jnp.sqrt(jnp.clip(f.gap, 0.0, 1.0)) * f.cell_side
    lit = shading(height, angle_rad=f.angle_rad, depth=0.9)
    image = color_ramp(0.25 + 0.6 * f.tone + 0.06 * f.grain, f.palette)
    return image * ((0.75 + 0.45 * lit) * smoothstep(0.0, 0.18, f.gap))[..., None]


def weave(f: Fields) -> Texture:
    """Plain-woven threads."""
    threads = 9.0 + 13.0 * f.dice[0]
    v, u = f.y * threads, f.x * threads
    over = jnp.mod(jnp.floor(u) + jnp.floor(v), 2.0) < 0.5
    across = jnp.where(over, jnp.mod(u, 1.0), jnp.mod(v, 1.0)) - 0.5
    along = jnp.where(over, jnp.mod(v, 1.0), jnp.mod(u, 1.0)) - 0.5
    bulge = (1.0 - 3.2 * across * across) * (1.0 - 1.8 * along * along)
    color = color_ramp(
        0.35 + 0.3 * over.astype(jnp.float32) + 0.06 * f.grain, f.palette
    )
    return color * jnp.clip(bulge, 0.1, 1.0)[..., None]


def marble(f: Fields) -> Texture:
    """Veined stone."""
    veins = jnp.abs(jnp.sin((4.0 + 6.0 * f.dice[0]) * f.x + 1.2 * f.broad))
    thin = 1.0 - smoothstep(0.0, 0.2, veins)
    return color_ramp(0.75 + 0.09 * f.fine - 0.5 * thin, f.palette)


def bubbles(f: Fields) -> Texture:
    """Foam or pores with bright rims."""
    radius = 0.15 + 0.3 * f.tone
    inside = smoothstep(0.0, 0.08, radius - f.near)
    rim = jnp.exp(-(((f.near - radius) / 0.05) ** 2))
    return color_ramp(0.6 + 0.05 * f.fine - 0.4 * inside + 0.3 * rim, f.palette)


def stains(f: Fields) -> Texture:
    """Dried liquid: darker inside, darkest along the edge."""
    inside = smoothstep(0.1, 0.2, f.broad)
    edge = jnp.exp(-(((f.broad - 0.2) / 0.1) ** 2))
    return color_ramp(0.85 + 0.05 * f.grain - 0.3 * inside - 0.35 * edge, f.palette)


def brushed(f: Fields) -> Texture:
    """Brushed or rolled metal."""
    shine = jnp.exp(-(((f.x + 0.4 - 0.8 * f.dice[0]) / 0.3) ** 2))
    return color_ramp(0.4 + 0.35 * shine + 0.1 * f.fine, f.palette)


def stripes(f: Fields) -> Texture:
    """Ribs, corrugation or print."""
    wave = (15.0 + 75.0 * f.dice[0]) * f.y + f.dice[1] * f.broad
    return color_ramp(0.5 + 0.4 * jnp.sin(wave), f.palette)


def timber(f: Fields) -> Texture:
    """Sawn wood."""
    rings = jnp.mod((5.0 + 9.0 * f.dice[0]) * f.y + 0.7 * f.broad, 1.0)
    return color_ramp(0.65 - 0.4 * rings * rings + 0.08 * f.fine, f.palette)


def hammered(f: Fields) -> Texture:
    """Dented sheet."""
    lit = shading(f.near * f.near * f.cell_side, angle_rad=f.angle_rad, depth=1.2)
    return color_ramp(0.5 + 0.4 * lit + 0.03 * f.grain, f.palette)


def clouds(f: Fields) -> Texture:
    """Octaves of noise, one for lightness and one for color."""
    value = 0.5 + 0.25 * f.fine
    mix = smoothstep(-0.5, 0.5, f.broad)
    return composite(color_ramp(value, f.palette), mix, color_ramp(value, f.other))


def terrazzo(f: Fields) -> Texture:
    """Stone chips in cement."""
    chip = smoothstep(0.12, 0.16, f.gap) * (f.tone > 0.3).astype(jnp.float32)
    cement = color_ramp(0.6 + 0.08 * f.grain, f.palette)
    return composite(cement, chip, color_ramp(f.tone, f.other))


class Kind(NamedTuple):
    """A recipe and its fields: (slope, coarsest, stretch) of each noise, and the number
    of cells a side; 1 where the recipe has none."""

    recipe: Callable[[Fields], Texture]
    broad: tuple[float, float, float] = (1.5, 2.0, 1.0)
    fine: tuple[float, float, float] = (0.8, 12.0, 1.0)
    grain: tuple[float, float, float] = (0.5, 2.0, 1.0)
    cells: int = 1


KINDS = (
    Kind(sand, fine=(0.6, 20.0, 1.0)),
    Kind(fibers, fine=(0.9, 12.0, 14.0), grain=(0.9, 12.0, -14.0)),
    Kind(scratches, fine=(0.8, 6.0, 6.0)),
    Kind(rust),
    Kind(cracks, fine=(1.3, 3.0, 1.0), cells=6),
    Kind(gravel, cells=11),
    Kind(weave),
    Kind(marble, broad=(2.2, 1.5, 1.0), fine=(1.2, 2.0, 1.0)),
    Kind(bubbles, fine=(1.0, 6.0, 1.0), cells=9),
    Kind(stains, broad=(2.2, 2.5, 1.0)),
    Kind(brushed, fine=(0.5, 8.0, 60.0)),
    Kind(stripes, broad=(2.0, 2.0, 1.0)),
    Kind(timber, broad=(2.0, 2.0, 4.0), fine=(0.5, 16.0, 25.0)),
    Kind(hammered, cells=8),
    Kind(clouds, broad=(1.6, 2.0, 1.0), fine=(1.4, 2.0, 1.0)),
    Kind(terrazzo, cells=10),
)


def _palette(dice: Float[Array, "12"]) -> Float[Array, "4 3"]:
    """Four related colors from dark to bright: one hue that drifts, mostly muted."""
    levels = jnp.cumsum(0.25 + 0.75 * dice[:5])
    levels = levels[:4] / levels[4]
    angle = 2 * np.float32(np.pi) * dice[5] + 1.6 * (dice[6:10] - 0.5)
    thirds = np.array([[0.0, -2.0, 2.0]], np.float32) * np.float32(np.pi / 3)
    amount = 0.4 * dice[10] * dice[11] * jnp.sqrt(levels * (1.0 - levels)) * 2
    tint = amount[:, None] * jnp.cos(angle[:, None] + jnp.asarray(thirds))
    return jnp.clip(levels[:, None] + tint, 0.02, 0.98)


def _fields(key: Key[Array, ""], kind: Array, shape: tuple[int, int]) -> Fields:
    a, b = jax.random.split(key)
    raw = white_noise(a, (3, *shape))
    points = 3 * MOST_CELLS * MOST_CELLS
    drawn = jax.random.uniform(b, (points + 36 + 4 * STROKES,))
    scattered = drawn[:points].reshape(MOST_CELLS, MOST_CELLS, 3)
    dice = drawn[points:]
    angle = 2 * np.float32(np.pi) * dice[0]
    rows = [[k.broad, k.fine, k.grain] for k in KINDS]
    slope, coarsest, stretch = jnp.asarray(np.array(rows, np.float32))[kind].T
    # A negative stretch marks a second direction, a drawn angle away from the first.
    tilt = jnp.where(stretch < 0.0, angle + 0.3 + 1.3 * dice[1], angle)
    noises = jax.vmap(
        lambda r, s, c, t, a: fractal_noise(
            r, slope=s, coarsest=c, stretch=t, angle_rad=a
        )
    )(raw, slope, coarsest, jnp.abs(stretch), tilt)
    y, x = grid(shape)
    count = jnp.asarray(np.array([k.cells for k in KINDS], np.int32))[kind]
    bend_y, bend_x = 0.006 * noises[1], 0.006 * noises[0]

    def scatter():
        found = worley_noise(scattered[..., :2], y + bend_y, x + bend_x, count=count)
        return found[0], found[1] - found[0], per_cell(scattered[..., 2], found[2])

    # A real branch where textures are drawn one after the other.
    near, gap, tone = jax.lax.cond(count > 1, scatter, lambda: (y, y, y))
    marks = dice[36:].reshape(STROKES, 4)
    directions = angle + 1.2 * (marks[:, 2] + marks[:, 3] - 1.0)
    lengths = (0.1 + 0.8 * marks[:, 3] * marks[:, 3])[:, None]
    along = lengths * jnp.stack([jnp.sin(directions), jnp.cos(directions)], axis=1)
    starts = 1.2 * marks[:, :2] - 0.6
    return Fields(
        *noises,
        *rotate_coordinates(y, x, angle),
        near=near,
        gap=gap,
        tone=tone,
        cell_side=1.0 / count.astype(jnp.float32),
        strokes=jnp.concatenate([starts, starts + along], axis=1),
        angle_rad=angle,
        dice=dice[2:10],
        palette=_palette(dice[10:22]),
        other=_palette(dice[22:34]),
    )


def texture(
    key: Key[Array, ""], kind: Int[Array, ""], shape: tuple[int, int]
) -> Float[Array, "h w 3"]:
    """Texture number `kind`, in [0, len(KINDS)): values in [0, 1]."""
    fields = _fields(key, kind, shape)
    return jnp.clip(jax.lax.switch(kind, [k.recipe for k in KINDS], fields), 0.0, 1.0)
