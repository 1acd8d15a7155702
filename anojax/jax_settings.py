"""The settings of JAX on which pixels depend: the same everywhere, or refused."""

from typing import Any

from anojax.errors import AnojaxError

REQUIRED: dict[str, Any] = {
    "jax_threefry_partitionable": True,
    "jax_default_prng_impl": "threefry2x32",
    "jax_random_seed_offset": 0,
    "jax_enable_x64": False,
}
"""Others give other random numbers, or arrays of another type."""

PROGRAM = (
    *REQUIRED,
    "jax_default_matmul_precision",
    "jax_disable_jit",
    "jax_debug_nans",
    "jax_debug_infs",
)
"""What the program leaves at JAX's own values, whatever the environment says."""


def check_jax() -> None:
    """Raise unless JAX draws the same numbers here as everywhere.

    >>> check_jax()

    Raises:
      AnojaxError: the environment or the caller has changed a setting on which the
        pixels depend.
    """
    import jax

    for name, value in REQUIRED.items():
        if (found := getattr(jax.config, name)) != value:
            raise AnojaxError(
                f"{name} is {found}, and the same seed would give other pixels; unset "
                f"{name.upper()}, or call jax.config.update('{name}', {value!r}) first"
            )
