"""Runs that an earlier version wrote verify as they are: their masks follow the rule of
their time, and their configuration lacks what came later.

`old_runs.tar.xz` holds three of them, made by version 0.1.0 before `mask_rule`: faint
defects, a TFDS folder, and images at their own resolution.
"""

import tarfile
from pathlib import Path

import pytest


@pytest.fixture
def old(tmp_path):
    with tarfile.open(Path(__file__).with_name("old_runs.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.mark.parametrize("run", ["mvtec", "tfds", "native"])
def test_an_old_run_verifies(old, capsys, run):
    from anojax.cli.__main__ import main

    argv = ["verify", str(old / run), "--input", str(old / "parts")]
    code, out = main(argv), capsys.readouterr()
    assert code == 0, out.err
    assert "agree" in out.out
