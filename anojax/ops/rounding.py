"""Roundings that do not depend on the program around them."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def rounded(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """`x` itself, rounded before anything is added to it.

    Compilers join a product and the sum that follows into one operation with a single
    rounding, in some programs and not in others: the same example would come out
    differently from a batch and alone. The detour through integers cannot be joined,
    and no compiler may leave it out, since a NaN would come out as another NaN. An
    optimization barrier does not help: on CPUs it is gone before loops are fused.
    """
    bits = lax.bitcast_convert_type(x, jnp.int32)
    return lax.bitcast_convert_type(bits + jnp.isnan(x).astype(jnp.int32), x.dtype)
