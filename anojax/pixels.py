"""Between bytes and numbers: the one rule from uint8 to float32, and back.

A byte is multiplied by ``float32(1 / 255)``. Compilers turn a division by 255 into this
product anyhow; said openly, the pixels are the same on every platform and in NumPy.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from anojax.types import Leaf

_STEP = np.float32(1 / 255)


def in_unit_range(image: Leaf | None) -> Leaf | None:
    """Images in [0, 1]: uint8 ones are scaled, all others (and ``None``) are as they are.

    Args:
      image: any shape, uint8 in 0..255 or float32 in [0, 1].

    >>> import numpy as np
    >>> in_unit_range(np.uint8([0, 51, 255])).round(2).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    if image is None or image.dtype != jnp.uint8:
        return image
    return image.astype(jnp.float32) * _STEP


def as_binary(mask: Leaf | None) -> Leaf | None:
    """Masks of exactly 0 and 1: in uint8 ones every value above 0 counts as 1, all
    others (and ``None``) are as they are.

    >>> import numpy as np
    >>> as_binary(np.uint8([0, 1, 255])).tolist()
    [0.0, 1.0, 1.0]
    """
    if mask is None or mask.dtype != jnp.uint8:
        return mask
    return (mask > 0).astype(jnp.float32)


def as_uint8(values: Float[Array, "*n"] | None) -> UInt8[Array, "*n"] | None:
    """Values in [0, 1] as bytes, rounded to the nearest, halves to even.

    >>> import jax.numpy as jnp
    >>> as_uint8(jnp.float32([0.0, 0.2, 1.0])).tolist()
    [0, 51, 255]
    """
    return None if values is None else jnp.round(values * 255).astype(jnp.uint8)
