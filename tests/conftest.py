"""Strict by default: eight CPU devices, no silent promotion, shapes checked."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # of `units`

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Workers, notebooks and later runs share what is compiled: most of the suite's time.
_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache / "anojax" / "tests"))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

# Shapes and dtypes of every public signature are checked under pytest only.
_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
_hook = install_import_hook("anojax", _CHECKER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers take whole units; see `units`."""
    import units

    return units.scheduler(config, log)


def pytest_collection_modifyitems(items):
    """Long ones first; see `units`."""
    import units

    items.sort(key=lambda item: units.rank(item.nodeid))


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Every compiled program holds memory maps, of which a process has 65 530; a whole
    suite in two workers would use them up and crash."""
    yield
    jax.clear_caches()
    kept = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache
    shared = os.environ["JAX_COMPILATION_CACHE_DIR"], True
    assert kept == shared, "later modules would compile everything anew"


@pytest.fixture
def key():
    """A fresh key; fold in a number where several are needed."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def sample_image():
    """A colored image with structure at several scales, ``[64, 80, 3]`` float32."""
    y, x = np.mgrid[:64, :80].astype(np.float32)
    waves = [np.sin(x / (4 + c)) * np.cos(y / (6 - c)) for c in range(3)]
    noise = np.random.default_rng(0).normal(size=(64, 80, 3)) * 0.05
    return np.clip(0.5 + 0.3 * np.stack(waves, -1) + noise, 0, 1).astype(np.float32)
