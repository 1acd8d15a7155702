"""Workers share the suite by units: nothing is compiled or trained twice."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from units import rank, unit_of

HERE = Path(__file__).parent
HOOK = """
import pytest, units

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return units.scheduler(config, log)
"""
TESTS = """
import os, pytest

@pytest.mark.parametrize("part", [1, 2])
@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_one(name, part, worker_id):
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(f"{name} {worker_id}\\n")
"""


@pytest.mark.parametrize(
    ("test", "unit"),
    [
        ("tests/nn/test_unet.py::test_shapes[3]", "tests/nn/test_unet.py"),
        (
            "tests/contract/test_methods.py::test_values[nsa]",
            "tests/contract/test_methods.py[nsa]",
        ),
        (
            "tests/contract/test_tasks.py::test_resume[defect_gen-train]",
            "tests/contract/test_tasks.py[defect_gen]",
        ),
        ("tests/contract/test_tasks.py::test_all", "tests/contract/test_tasks.py"),
    ],
)
def test_unit(test, unit):
    assert unit_of(test) == unit


def test_batteries_begin():
    tests = ["tests/ops/test_warp.py::t", "tests/contract/a.py::t", "tests/cli/b.py::t"]
    assert sorted(tests, key=rank) == [tests[1], tests[2], tests[0]]


def test_one_worker_runs_all_tests_of_a_method(tmp_path):
    """With the installed pytest and xdist: they have lost their groups before."""
    battery = tmp_path / "tests" / "contract" / "test_it.py"
    battery.parent.mkdir(parents=True)
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "conftest.py").write_text(HOOK)
    battery.write_text(TESTS)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE), "SEEN": str(tmp_path / "seen")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    workers, seen = defaultdict(set), (tmp_path / "seen").read_text().split()
    for name, worker in zip(seen[::2], seen[1::2], strict=True):
        workers[name].add(worker)
    assert sorted(workers) == ["a", "b", "c", "d"] and len(seen) == 2 * 8
    assert all(len(found) == 1 for found in workers.values())
    assert len(set.union(*workers.values())) == 2
