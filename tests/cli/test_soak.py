"""Kills at random moments, and files and arguments with random damage: for a while.

A few seconds of each by default, a minute of each with what is marked slow, and as long
as `ANOJAX_SOAK_SECONDS` says. What was tried is said when something fails: every round
has a seed of its own.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import files

SECONDS = float(os.environ.get("ANOJAX_SOAK_SECONDS", "60"))


@pytest.fixture(params=[3.0, pytest.param(SECONDS, marks=pytest.mark.slow)], ids=str)
def rounds(request):
    """Seeds until the time is over; at least two."""

    def seeds():
        end, seed = time.monotonic() + request.param, 0
        while seed < 2 or time.monotonic() < end:
            yield seed
            seed += 1

    return seeds


def test_kills_at_any_moment_end_in_the_same_bytes(rounds, parts, tmp_path):
    command = [
        *(sys.executable, "-c", "import fakes; fakes.program()", "synth"),
        *("--method", "spot,weave", "--input", str(parts), "--size", "16", "--quiet"),
        *("--foreground", "none", "--per-image", "60", "--batch-size", "8"),
    ]
    path = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])
    environment = os.environ | {"PYTHONPATH": path}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    began = time.monotonic()
    subprocess.run([*command, "--output", whole], env=environment, check=True)
    took = time.monotonic() - began
    overwrite = [*command, "--output", killed, "--overwrite"]
    for seed in rounds():
        draw = random.Random(seed)
        words = overwrite if killed.exists() and draw.random() < 0.3 else command
        words = [*words, *([] if words is overwrite else ["--output", killed])]
        process = subprocess.Popen(words, env=environment)
        time.sleep(draw.uniform(0.3, 1.0) * took)
        process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        process.wait()
    subprocess.run([*command, "--output", killed], env=environment, check=True)
    shutil.rmtree(tmp_path / ".killed.anojax-new", ignore_errors=True)
    assert files(killed) == files(whole)


def damaged(path, draw):
    """A file with a random damage."""
    data = bytearray(path.read_bytes())
    kind = draw.randrange(6)
    if kind == 0 or not data:
        path.unlink()
    elif kind == 1:
        del data[draw.randrange(len(data)) :]
    elif kind == 2:
        place = draw.randrange(len(data))
        data[place : place + draw.randrange(1, 600)] = bytes(draw.randrange(1, 600))
    elif kind == 3:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 4:
        place = draw.randrange(len(data))
        data[place:place] = draw.randbytes(draw.randrange(1, 99))
    else:
        data += draw.randbytes(draw.randrange(1, 99))
    if kind:
        path.write_bytes(bytes(data))
    return f"{path.name}, damage {kind}"


@pytest.mark.parametrize("kind", ["mvtec", "tfds"])
def test_random_damage_is_noticed(rounds, kind, synth, anojax, tmp_path):
    assert synth("--format", kind, method="spot,weave")[0] == 0
    run, copy = tmp_path / "run", tmp_path / "copy"
    names = sorted(p.relative_to(run) for p in run.rglob("*") if p.is_file())
    for seed in rounds():
        draw = random.Random(seed)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        what = damaged(copy / draw.choice(names), draw)
        if files(copy) == files(run):
            continue  # zeros in the place of zeros
        code, _, err = anojax("verify", copy)
        assert code in (1, 2) and "Traceback" not in err, f"seed {seed}: {what}"
        assert err.strip()


ODD = [
    *("0", "-1", "1e400", "nan", "", "none", "9" * 40, "a,b", "[", "\x07", "ä", "0:0"),
    *("/dev/zero", "/", ".", "..", "~", "true", "1:2:3", "=", "a=b", "--", "\u202e"),
]


def test_random_arguments_end_in_a_sentence(rounds, anojax, parts, tmp_path):
    flags = [
        *("--seed", "--per-image", "--count", "--size", "--severity", "--area"),
        *("--defects", "--aspect", "--angle-deg", "--set", "--format", "--layout"),
        *("--category", "--foreground", "--region", "--textures", "--config"),
        *("--batch-size", "--devices", "--method", "--min-contrast", "--share"),
    ]
    for seed in rounds():
        draw = random.Random(seed)
        words = ["--method", "spot", "--input", parts, "--size", 16, "--dry-run"]
        for _ in range(draw.randrange(1, 4)):
            words += [draw.choice(flags), draw.choice(ODD)]
        code, _, err = anojax("synth", *words, "--output", tmp_path / "run", "--quiet")
        assert code in (0, 2), f"seed {seed}: {words}"
        assert code == 0 or (err.startswith("anojax: ") and err.count("\n") == 1), words
        assert not (tmp_path / "run").exists()
