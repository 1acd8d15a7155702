"""What all procedural products share: chance, pose, ground shadow and the camera."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from anojax.ops.procedural import (
    composite,
    cover,
    grid,
    rotate_coordinates,
    white_noise,
)

Field = Float[Array, "h w"]
Shape = tuple[int, int]
Drawing = tuple[Float[Array, "h w 3"], Float[Array, "h w 1"]]


def chance(
    key: Key[Array, ""], shape: Shape, fields: int
) -> tuple[Float[Array, "n h w"], Float[Array, "8"]]:
    """Everything random of one drawing: white noise fields and eight dice in [0, 1)."""
    a, b = jax.random.split(key)
    return white_noise(a, (fields, *shape)), jax.random.uniform(b, (8,))


def colors(*stops: tuple[float, float, float]) -> Float[Array, "n 3"]:
    """A palette for `ramp`."""
    return jnp.asarray(np.array(stops, np.float32))


def captured(
    image: Float[Array, "h w 3"], raw: Float[Array, "h w"], dice: Float[Array, "8"]
) -> Float[Array, "h w 3"]:
    """What a camera makes of a scene: exposure, uneven light, falloff, sensor noise."""
    y, x = grid(raw.shape)
    exposure = 1.0 + 0.1 * (dice[5] - 0.5)
    tilt = 0.12 * ((dice[6] - 0.5) * x + (dice[7] - 0.5) * y)
    falloff = 1.0 - 0.1 * (y * y + x * x)
    seen = image * ((exposure + tilt) * falloff)[..., None] + 0.014 * raw[..., None]
    return jnp.clip(seen, 0.0, 1.0)


def filling(image: Float[Array, "h w 3"]) -> Drawing:
    """A product without background: everything is foreground."""
    return image, jnp.ones((*image.shape[:2], 1))


def posed(
    shape: Shape, dice: Float[Array, "8"], *, swing_rad: float, shift: float = 0.05
) -> tuple[Field, Field]:
    """Coordinates on the object, turned and moved a little."""
    y, x = grid(shape)
    scale = 1.0 + 0.04 * (dice[3] - 0.5)
    moved = (y - shift * (dice[1] - 0.5)) * scale, (x - shift * (dice[2] - 0.5)) * scale
    return rotate_coordinates(*moved, swing_rad * (dice[0] - 0.5))


def finished(
    backdrop: Float[Array, "h w 3"],
    body: Float[Array, "h w 3"],
    distance: Field,
    raw: Field,
    dice: Float[Array, "8"],
) -> Drawing:
    """The object over its backdrop, seen by the camera, with its foreground."""
    inside = cover(distance)
    foreground = (inside >= 0.5).astype(jnp.float32)[..., None]
    return captured(composite(backdrop, inside, body), raw, dice), foreground


def shadow(distance: Field, depth: float, reach: float) -> Field:
    """Darkening of the ground near an object."""
    return 1.0 - depth * jnp.exp(-jnp.maximum(distance, 0.0) / reach)
