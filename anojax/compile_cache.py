"""Compiled programs outlive the process: the first run compiles, later ones load.

A program of JAX's persistent cache is found by its content and by the versions of JAX
and of the compiler, so that it never changes a pixel. Explicit decisions win: the
variables ``JAX_COMPILATION_CACHE_DIR`` and ``JAX_ENABLE_COMPILATION_CACHE``, and
`jax.config`. ``anojax env`` tells where the programs lie.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

MIN_SECONDS = 0.5
"""Programs that compile faster are not kept."""

MAX_BYTES = 2 * 2**30
"""Beyond that, programs that were not used for the longest time are removed."""


def keep_programs() -> str | None:
    """Keep what this process compiles from now on, unless the user decided otherwise.

    The setting is JAX's and holds for the whole process. `anojax.batch` and every
    command call this.

    >>> import anojax
    >>> folder = anojax.keep_programs()  # None where the cache is switched off

    Returns:
      The folder in which programs are kept, or None.
    """
    if not jax.config.jax_enable_compilation_cache:
        return None
    folder = jax.config.jax_compilation_cache_dir
    if folder is None:
        folder = str(platformdirs.user_cache_path("anojax") / "programs")
        settings = {
            "jax_compilation_cache_dir": folder,
            "jax_compilation_cache_max_size": MAX_BYTES,
            "jax_persistent_cache_min_compile_time_secs": MIN_SECONDS,
        }
        for name, value in settings.items():
            # What differs from JAX's default was set on purpose.
            if getattr(jax.config, name) == _JAX_DEFAULTS[name]:
                jax.config.update(name, value)
    return folder or None


_JAX_DEFAULTS = {
    "jax_compilation_cache_dir": None,
    "jax_compilation_cache_max_size": -1,
    "jax_persistent_cache_min_compile_time_secs": 1.0,
}


@contextmanager
def compiling_afresh() -> Iterator[None]:
    """Compile everything in the block, as if no program had been kept: to time it."""
    before = jax.config.jax_enable_compilation_cache
    # JAX looks at the setting once, unless it is told to look again.
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
