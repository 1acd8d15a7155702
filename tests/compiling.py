"""Compilation costs most of the suite's time: how to have less of it."""

from contextlib import contextmanager

import jax


@contextmanager
def quick():
    """Programs compiled inside are hardly optimized: half the time to compile.

    For checks in which roundings do not matter. Programs whose pixels are compared bit
    for bit are compiled as users compile them.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
