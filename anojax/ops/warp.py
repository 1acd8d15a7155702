"""Linear warps of a cut piece: where its points land, and what lies under them.

Coordinates (y, x) are in pixel edges: pixel (i, j) covers [i, i + 1) x [j, j + 1).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Scalar = Float[Array, ""]
Size = tuple[Float[Array, ""], Float[Array, ""]]
_GRID = 16


class Warp(NamedTuple):
    """Linear map of offsets (y, x) from the center of the cut to the pasted piece."""

    yy: Scalar
    yx: Scalar
    xy: Scalar
    xx: Scalar

    def apply(self, y: Array, x: Array) -> tuple[Array, Array]:
        """Where the map sends offsets."""
        return self.yy * y + self.yx * x, self.xy * y + self.xx * x

    def inverse(self) -> "Warp":
        """The map from offsets in the pasted piece to offsets in the cut.

        Its coefficients are multiples of 2**-12. Products with pixel positions below
        2048 are then exact in float32, so that an image does not depend on how the
        compiler contracts them; the error is a thirtieth of a pixel over 256 pixels.
        """
        det = self.yy * self.xx - self.yx * self.xy
        exact = (self.xx / det, -self.yx / det, -self.xy / det, self.yy / det)
        return Warp(*(jnp.round(c * 4096.0) / 4096.0 for c in exact))

    def copies(self) -> Bool[Array, ""]:
        """Whether whole pixels go to whole pixels: nothing but mirroring."""
        straight = (jnp.abs(self.yy) == 1.0) & (jnp.abs(self.xx) == 1.0)
        return straight & (self.yx == 0.0) & (self.xy == 0.0)

    def extent(self, size: Size) -> Size:
        """Height and width of the upright box around the warped cut."""
        height, width = size
        return (
            jnp.abs(self.yy) * height + jnp.abs(self.yx) * width,
            jnp.abs(self.xy) * height + jnp.abs(self.xx) * width,
        )


def affine_warp(
    *, tall: Scalar, wide: Scalar, shear: Scalar, angle_rad: Scalar
) -> Warp:
    """Stretch, then shear, then turn.

    Args:
      tall, wide: factors along y and x, not 0; negative ones mirror. The area changes
        by their product, shear and angle keep it.
      shear: shift along x per unit of y.
      angle_rad: counter-clockwise on the screen.
    """
    cos, sin = jnp.cos(angle_rad), jnp.sin(angle_rad)
    return Warp(
        (cos - sin * shear) * tall,
        -sin * wide,
        (sin + cos * shear) * tall,
        cos * wide,
    )


def sample_grid(size: Size) -> tuple[Float[Array, "16 16"], Float[Array, "16 16"]]:
    """Rows and columns of points spread evenly over a box of that (height, width)."""
    grid = (np.arange(_GRID, dtype=np.float32) + 0.5) / _GRID
    rows = jnp.broadcast_to(grid[:, None] * size[0], (_GRID, _GRID))
    return rows, jnp.broadcast_to(grid[None] * size[1], (_GRID, _GRID))


def inside_mask(
    mask: Float[Array, "h w 1"] | None, y: Float[Array, "*s"], x: Float[Array, "*s"]
) -> Bool[Array, "*s"]:
    """Whether points lie on the mask; not outside the image; ``None`` is everywhere."""
    if mask is None:
        return jnp.ones(y.shape, bool)
    h, w, _ = mask.shape
    row, column = jnp.floor(y).astype(jnp.int32), jnp.floor(x).astype(jnp.int32)
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    pixel = jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)
    return inside & (mask.reshape(-1).at[pixel].get(mode="promise_in_bounds") > 0)
