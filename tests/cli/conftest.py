"""The program in-process, on tiny images and methods that compile at once."""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from anojax import registry

spec = importlib.util.spec_from_file_location(
    "fakes", Path(__file__).with_name("fakes.py")
)
fakes = importlib.util.module_from_spec(spec)
sys.modules["fakes"] = fakes
spec.loader.exec_module(fakes)


@pytest.fixture(autouse=True)
def _cache_as_before():
    """Commands may switch the compilation cache off; later tests need it."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def fake_methods(monkeypatch):
    for name, value in fakes.REPLACED.items():
        monkeypatch.setattr(registry, name, value)


@pytest.fixture
def anojax(fake_methods, capsys):
    """Runs a command; returns (exit code, stdout, stderr)."""
    from anojax.cli.__main__ import main

    def run(*argv):
        capsys.readouterr()
        code = main([str(arg) for arg in argv])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def anojax_json(anojax):
    def run(*argv):
        code, out, err = anojax(*argv, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def draw(seed, shape=(24, 20), channels=1):
    noise = np.random.default_rng(seed).integers(30, 160, (*shape, channels))
    return noise.astype(np.uint8)


def write_image(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(path)


@pytest.fixture
def parts(tmp_path):
    """A folder of seven gray images of good parts."""
    for i in range(7):
        write_image(tmp_path / "parts" / f"part{i}.png", draw(i))
    return tmp_path / "parts"


@pytest.fixture
def synth(anojax, parts, tmp_path):
    """`anojax synth` with the least that is needed; more can be added."""

    def run(*more, output="run", method="spot"):
        return anojax(
            *("synth", "--method", method, "--input", parts, "--size", 16),
            *("--foreground", "none", "--output", tmp_path / output),
            *more,
        )

    return run


def files(folder):
    """Every file of a run with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
