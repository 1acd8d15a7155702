"""Keys: an image depends on (seed, method, example id, draw) and on nothing else.

Not on the batch it is in, nor on the number of devices, hosts or restarts.
"""

import zlib

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from anojax.errors import AnojaxError
from anojax.jax_settings import check_jax


def stream(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A sub-key with a name, so that one stage of a method can change alone.

    Swapping a method's source leaves its shapes where they were, because ``"shape"``
    and ``"source"`` are independent streams of the example's key.

    Example:
      >>> key = method_key(0, "draem")
      >>> bool(stream(key, "shape") == stream(key, "source"))
      False
    """
    return jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))


def between(u: Float[Array, "*s"], bounds: tuple[float, float]) -> Float[Array, "*s"]:
    """A uniform draw `u` in [0, 1), moved to [bounds[0], bounds[1]).

    Example:
      >>> float(between(jax.numpy.asarray(0.25), (2.0, 6.0)))
      3.0
    """
    return bounds[0] + (bounds[1] - bounds[0]) * u


def method_key(seed: int, method: str) -> Key[Array, ""]:
    """The key of a whole run. `seed` is an integer in [0, 2**63).

    Raises:
      AnojaxError: a seed outside its range, or settings of JAX that draw other numbers.

    Example:
      >>> bool(method_key(7, "draem") == method_key(7, "draem"))
      True
    """
    check_jax()
    if not 0 <= int(seed) < 2**63:
        raise AnojaxError(f"seed is {seed}; give an integer from 0 to 2**63 - 1")
    # Two 32-bit halves: jax.random.key alone drops the high half without x64.
    low, high = int(seed) & 0xFFFFFFFF, int(seed) >> 32
    key = jax.random.key(np.uint32(low))
    if high:
        key = jax.random.fold_in(key, np.uint32(high))
    return stream(key, method)


def example_key(
    key: Key[Array, ""], example_id: Array | int, draw: Array | int = 0
) -> Key[Array, ""]:
    """The key of one example: ids are integers in [0, 2**32).

    `draw` numbers the attempts: 0, then 1, 2, … when a draw came out empty.

    Example:
      >>> key = example_key(method_key(0, "draem"), 7)
      >>> bool(key == example_key(method_key(0, "draem"), 7, draw=1))
      False
    """
    return jax.random.fold_in(jax.random.fold_in(key, example_id), draw)
