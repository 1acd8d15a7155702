"""Programs are kept between processes by default; explicit decisions win."""

import os
import subprocess
import sys

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from anojax.compile_cache import MAX_BYTES, compiling_afresh, keep_programs

NAMES = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def undecided():
    """JAX's own defaults, for this test."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    for name, value in zip(NAMES, (True, None, -1, 1.0), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_users_cache_folder(undecided, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keep_programs() == str(tmp_path / "anojax" / "programs")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "anojax" / "programs")
    assert jax.config.jax_compilation_cache_max_size == MAX_BYTES
    assert keep_programs() == str(tmp_path / "anojax" / "programs")


def test_explicit_decisions_win(undecided, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert keep_programs() == str(tmp_path)
    assert jax.config.jax_compilation_cache_max_size == -1
    jax.config.update("jax_compilation_cache_dir", "")
    assert keep_programs() is None
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    assert keep_programs() is not None
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 7.0


def test_switched_off(undecided):
    jax.config.update("jax_enable_compilation_cache", False)
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_timing_compiles_what_is_kept(undecided, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    hits = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    def compile():
        jax.clear_caches()
        hits.clear()
        jax.jit(lambda x: 3 * x + 1).lower(1.0).compile()
        return len(hits)

    jax.monitoring.register_event_listener(listen)
    try:
        assert compile() == 0 and compile() == 1
        with compiling_afresh():
            assert compile() == 0
        assert compile() == 1
    finally:
        jax.monitoring.unregister_event_listener(listen)
        compilation_cache.reset_cache()


PROGRAM = """
import jax, numpy as np, anojax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
run = anojax.batch(anojax.get("spr")(), devices=jax.devices()[:1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
run({}, 0, range(2), anojax.Inputs(image=np.zeros((2, 16, 16, 1), np.uint8)))
print(hits.count("/jax/compilation_cache/cache_hits"))
"""


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    env |= {"XDG_CACHE_HOME": str(tmp_path)}

    def hits():
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    first, second = hits(), hits()
    kept = list((tmp_path / "anojax" / "programs").glob("*-cache"))
    assert first == 0 and second == len(kept) > 0
