"""Real methods on real tiles: a run agrees with itself however it is made."""

import os
from pathlib import Path

import pytest

from anojax.cli.__main__ import main

from .conftest import files

REAL = os.environ.get("ANOJAX_REAL_DATA")


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="ANOJAX_REAL_DATA is not set")
def test_a_run_on_real_tiles_agrees_with_itself(tmp_path, capsys):
    arguments = [
        *("synth", "--method", "cutpaste,destseg", "--count", "9", "--size", "64"),
        *("--input", str(Path(REAL) / "train/good"), "--quiet"),
    ]
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main([*arguments, "--output", a]) == 0
    options = ["--batch-size", "5", "--devices", "2"]
    assert main([*arguments, "--output", b, *options]) == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert main(["verify", a, "--batch-size", "4", "--devices", "4"]) == 0
    assert "all 18 images agree" in capsys.readouterr().out
