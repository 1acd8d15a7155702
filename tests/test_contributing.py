"""CONTRIBUTING's example works: a stranger's first method passes all that is tested."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from anojax import skeleton
from anojax.errors import SettingError, UnknownName

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXECUTED = r"<!-- executed by tests/test_contributing.py -->\n```sh\n(.*?)```"


@pytest.fixture
def clone(tmp_path):
    """What of the repository a new method touches, without what is built or stored."""
    unwanted = shutil.ignore_patterns("__pycache__", "golden")
    for folder in ("anojax", "tests", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_example(clone):
    (block,) = re.findall(EXECUTED, TEXT, re.S)
    environment = os.environ | {"PYTHONPATH": str(clone)}
    said = ""
    for line in block.strip().splitlines():
        run = subprocess.run(
            [sys.executable, "-m", *shlex.split(line)],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
        )
        said = run.stdout + run.stderr
        assert run.returncode == 0, f"{line}:\n{said[-4000:]}"
        if line.startswith("pytest"):
            assert re.search(r"^[.s]{20}", said, re.M), f"hardly a test ran:\n{said}"
    assert "Title of the paper" in said


def files_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def empty(tmp_path):
    (tmp_path / "anojax" / "methods").mkdir(parents=True)
    (tmp_path / "tests" / "methods").mkdir(parents=True)
    return tmp_path


def test_a_method_of_the_survey_knows_its_place(empty):
    skeleton.write("anomalyany", empty)
    package, method, test = files_of(empty)
    assert method == "anojax/methods/vlm/anomalyany.py"
    assert package == "anojax/methods/vlm/__init__.py"
    assert test == "tests/methods/test_anomalyany.py"
    text = (empty / method).read_text()
    assert 'family="single_stage"' in text and "Task" not in text


@pytest.mark.parametrize(
    ("name", "place", "error", "words"),
    [
        ("draem", {}, SettingError, "there is a method 'draem'"),
        ("My-Method", {}, SettingError, "lower-case letters"),
        ("mine", {}, SettingError, "give --paradigm and --family"),
        (
            "mine",
            {"paradigm": "hand", "family": "external"},
            UnknownName,
            "no paradigm 'hand'",
        ),
        (
            "mine",
            {"paradigm": "handcrafted", "family": "externl"},
            UnknownName,
            "did you mean 'external'",
        ),
    ],
)
def test_mistakes_write_nothing(empty, name, place, error, words):
    with pytest.raises(error, match=words):
        skeleton.write(name, empty, **place)
    assert files_of(empty) == []


def test_it_overwrites_nothing_and_wants_a_clone(empty, tmp_path):
    skeleton.write("intra", empty)
    with pytest.raises(SettingError, match=r"test_intra.py exists"):
        skeleton.write("intra", empty)
    with pytest.raises(SettingError, match="no clone of anojax"):
        skeleton.write("intra", tmp_path / "anojax")
