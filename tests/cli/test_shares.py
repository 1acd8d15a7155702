"""One run by several processes: same bytes as by one, however often they are stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anojax.data import write
from anojax.errors import SettingError
from anojax.synthesis.shares import Share, parse_share

from .conftest import files

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import fakes
from anojax.data import write
write.BLOCK_JOBS = 4
sys.argv[0] = "anojax"
fakes.program()
"""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(write, "BLOCK_JOBS", 4)


def alike(one: Path, other: Path) -> None:
    """Every file of two runs is the same, down to the last byte."""
    found, expected = files(one), files(other)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.parametrize("format", ["mvtec", "tfds"])
def test_shares_in_folders_of_their_own(synth, anojax, tmp_path, format, monkeypatch):
    from anojax.data import shard

    monkeypatch.setattr(shard, "SHARD_RECORDS", 4)
    options = ("--per-image", 2, "--format", format)
    assert synth(*options)[0] == 0
    for number in (1, 2, 3):
        code, out, err = synth(*options, "--share", f"{number}/3", output=f"s{number}")
        assert code == 0 and f"share {number}/3 is made" in out, err
    shares = [tmp_path / f"s{number}" for number in (1, 2, 3)]
    code, out, err = anojax("merge", *shares[:2], "--output", tmp_path / "merged")
    assert code == 2 and "parts of the run are not made yet" in err
    code, out, err = anojax("merge", *shares, "--output", tmp_path / "merged")
    assert code == 0, err
    alike(tmp_path / "merged", tmp_path / "run")
    assert anojax("verify", tmp_path / "merged")[0] == 0


def test_shares_in_one_folder_and_one_process_goes_on(synth, anojax, tmp_path):
    assert synth("--per-image", 2)[0] == 0
    assert synth("--per-image", 2, "--share", "2/2", output="both")[0] == 0
    code, out, _ = synth("--per-image", 2, "--share", "2/2", output="both")
    assert code == 0 and "continuing after 6 of 6" in out
    assert synth("--per-image", 2, "--share", "1/3", output="both")[0] == 0
    # Without a share the run is finished; what is there in front is not made again.
    code, out, _ = synth("--per-image", 2, output="both")
    assert code == 0 and "continuing after 8 of 14" in out
    alike(tmp_path / "both", tmp_path / "run")


def test_a_run_by_one_process_is_finished_by_shares(synth, anojax, tmp_path):
    assert synth("--per-image", 2)[0] == 0
    for number in (1, 2):
        assert synth("--per-image", 2, "--share", f"{number}/2", output="b")[0] == 0
    code, out, err = anojax("merge", tmp_path / "b")
    assert code == 0, err
    alike(tmp_path / "b", tmp_path / "run")
    code, out, _ = anojax("merge", tmp_path / "b")
    assert code == 0 and "already finished" in out


def test_what_does_not_fit_is_said(synth, anojax, tmp_path):
    assert synth("--share", "1/2", output="one")[0] == 0
    assert synth("--seed", 1, "--share", "2/2", output="two")[0] == 0
    both = tmp_path / "one", tmp_path / "two"
    code, _, err = anojax("merge", *both, "--output", tmp_path / "run")
    assert code == 2 and "another configuration (request.seed" in err
    assert "add --output" in anojax("merge", *both)[2]
    assert "cannot replace" in synth("--share", "1/2", "--overwrite", output="one")[2]
    assert "give either" in synth("--share", "1/2", "--distributed", output="o")[2]


@pytest.mark.parametrize("text", ["0/2", "3/2", "two", "1", "a/b", "-1/2"])
def test_no_shares(text):
    with pytest.raises(SettingError, match="share is"):
        parse_share(text)


def test_shares_are_apart_and_complete():
    for of in (1, 2, 3, 7):
        taken = [s for n in range(20) for s in range(1, of + 1) if Share(s, of).has(n)]
        assert len(taken) == 20


def start(parts, output, processes):
    """The same command in several processes that know of each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_NUM_PROCESSES": str(processes),
    }
    words = ["synth", "--method", "spot,weave", "--input", parts, "--size", 16]
    words += ["--foreground", "none", "--output", output, "--per-image", 40]
    words += ["--batch-size", 4, "--distributed"]
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(here=str(Path(__file__).parent))]
            + [str(word) for word in words],
            env=environment | {"JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]


@pytest.mark.slow
def test_two_processes_one_killed_and_three_go_on(synth, parts, tmp_path):
    options = ("--per-image", 40, "--batch-size", 4)
    assert synth(*options, method="spot,weave")[0] == 0
    run = tmp_path / "together"
    two = start(parts, run, 2)
    try:
        deadline = time.monotonic() + 120
        logs = run / ".anojax" / "blocks"
        while time.monotonic() < deadline and two[1].poll() is None:
            if logs.is_dir() and any(logs.iterdir()):
                break
            time.sleep(0.02)
        two[1].send_signal(signal.SIGKILL)
        two[0].send_signal(signal.SIGKILL)
    finally:
        said = [process.communicate(timeout=60)[0] for process in two]
    assert not (run / "finished.json").exists(), said
    made = len(list(logs.glob("*.jsonl")))
    assert 0 < made < 7, said
    three = start(parts, run, 3)
    try:
        said = [process.communicate(timeout=240)[0] for process in three]
    finally:
        for process in three:
            process.kill()
    assert [process.returncode for process in three] == [0, 0, 0], said
    assert "continuing after" in said[0] + said[1] + said[2] or made < 3
    alike(run, tmp_path / "run")
