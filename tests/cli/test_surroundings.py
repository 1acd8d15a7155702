"""What lies around a run does not change its pixels, or is refused with a sentence:
settings of JAX, other processes, links, its own input, changed content."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from anojax.data.lock import locked
from anojax.errors import AnojaxError, RunError
from anojax.random import method_key

from .conftest import draw, fakes, files, write_image

HOSTILE = {
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_X64": "1",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_DEBUG_NANS": "1",
}


def test_settings_of_jax_change_no_pixel(parts, tmp_path):
    command = [
        *(sys.executable, "-c", "import fakes; fakes.program()", "synth"),
        *("--method", "spot,weave", "--input", str(parts), "--size", "16", "--quiet"),
        *("--foreground", "none"),
    ]
    path = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])
    usual = os.environ | {"PYTHONPATH": path}
    for output, more in (("usual", {}), ("hostile", HOSTILE)):
        subprocess.run(
            [*command, "--output", tmp_path / output], env=usual | more, check=True
        )
    assert files(tmp_path / "usual") == files(tmp_path / "hostile")


@pytest.mark.parametrize(
    ("name", "value"),
    [("jax_threefry_partitionable", False), ("jax_default_prng_impl", "rbg")],
)
def test_a_call_with_other_settings_of_jax_is_refused(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        with pytest.raises(AnojaxError, match=name):
            method_key(0, "draem")
    finally:
        jax.config.update(name, before)


def test_a_second_process_is_refused(synth, tmp_path):
    """A lock belongs to its open file, so that a second one in this process counts."""
    with locked(tmp_path / "run"):
        code, _, err = synth()
        assert code == 2 and "another process is at work" in err
    assert not (tmp_path / "run").exists()
    assert synth()[0] == 0


def test_the_lock_of_a_dead_process_is_free(tmp_path, synth):
    program = (
        "import sys, time, pathlib; from anojax.data.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "run"], stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    assert "another process" in synth()[2]
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert synth()[0] == 0


def test_many_at_once_have_the_lock_one_after_the_other(tmp_path):
    inside, most, refused = [0], [0], []

    def work():
        for _ in range(40):
            try:
                with locked(tmp_path / "run"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except RunError:
                refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and inside == [0]
    assert not (tmp_path / "run").exists()


def test_overwriting_spares_the_runs_own_input(synth, anojax, tmp_path):
    synth()
    run = tmp_path / "run"
    before = files(run)
    code, _, err = anojax(
        *("synth", "--method", "spot", "--size", 16, "--foreground", "none"),
        *("--input", run / "parts/train/good", "--output", run, "--overwrite"),
    )
    assert code == 2 and "lies in" in err
    assert files(run) == before


def test_a_request_that_fails_leaves_the_old_run(synth, parts, tmp_path):
    synth()
    before = files(tmp_path / "run")
    code, _, err = synth("--set", "spot.empty=1.0", "--overwrite")
    assert code == 2 and "not one image" in err
    assert files(tmp_path / "run") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "run"]


def test_overwriting_deletes_nothing_outside(synth, tmp_path):
    synth()
    run, victim = tmp_path / "run", tmp_path / "victim.png"
    write_image(victim, draw(1))
    lines = (run / "manifest.jsonl").read_text().splitlines()
    for name in ("../victim.png", str(victim)):
        lines.append(json.dumps(json.loads(lines[0]) | {"image": name, "mask": name}))
    (run / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    (run / ".anojax").mkdir(exist_ok=True)
    (run / ".anojax/files.txt").write_text("../victim.png\n")
    code, _, err = synth("--seed", 1, "--overwrite")
    assert code == 0, err
    assert victim.is_file()


def test_overwriting_follows_no_link(synth, tmp_path):
    synth()
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    shutil.move(run / "parts/test/spot", elsewhere)
    (run / "parts/test/spot").symlink_to(elsewhere)
    before = files(elsewhere)
    code, _, err = synth("--seed", 1, "--overwrite")
    assert code == 0, err
    assert files(elsewhere) == before


def test_a_link_to_a_run_stays_one(synth, tmp_path):
    synth(output="real")
    (tmp_path / "run").symlink_to(tmp_path / "real")
    assert synth("--seed", 1, "--overwrite")[0] == 0
    assert (tmp_path / "run").is_symlink()
    assert "seed: 1" in (tmp_path / "real/config.yaml").read_text()


@pytest.mark.parametrize("place", ["first", "second"])
def test_a_replacement_that_was_killed_is_completed(
    synth, tmp_path, monkeypatch, place
):
    synth()
    (tmp_path / "run/mine.txt").write_text("mine")
    from anojax.synthesis import folder

    real, calls = os.rename, []

    def killed(one, other):
        calls.append(1)
        if len(calls) == (1 if place == "first" else 2):
            raise KeyboardInterrupt
        real(one, other)

    monkeypatch.setattr(folder.os, "rename", killed)
    assert synth("--seed", 1, "--overwrite")[0] == 130
    monkeypatch.setattr(folder.os, "rename", real)
    code, _, err = synth("--seed", 1, *(["--overwrite"] if place == "first" else []))
    assert code == 0, err
    assert "seed: 1" in (tmp_path / "run/config.yaml").read_text()
    assert (tmp_path / "run/mine.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "run"]


def interrupted(synth, monkeypatch, after=3):
    """Half a run, as Ctrl-C leaves it."""
    from anojax.data import write

    commit, calls = write._commit, []

    def stop(*args):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return commit(*args)

    monkeypatch.setattr(write, "_commit", stop)
    assert synth()[0] == 130
    monkeypatch.setattr(write, "_commit", commit)


@pytest.fixture
def half(synth, monkeypatch, tmp_path):
    """Half a run of a request with small batches; gives what goes on with it."""

    def again():
        return synth("--per-image", 40, "--batch-size", 4)

    interrupted(again, monkeypatch, after=150)
    log = (tmp_path / "run/.anojax/progress.jsonl").read_text()
    assert 3 < len(log.splitlines()) < 280
    return again


def test_an_input_that_changed_meanwhile_is_noticed(half, parts):
    pixels = draw(0)
    pixels[0, 0] ^= 1
    write_image(parts / "part0.png", pixels)
    code, _, err = half()
    assert code == 2 and "part0.png has another content" in err
    write_image(parts / "part0.png", draw(0))
    assert half()[0] == 0


@pytest.mark.parametrize("what", ["zeros", "doubled", "reordered", "image", "normal"])
def test_what_a_power_cut_leaves_is_made_again(half, synth, tmp_path, what):
    run = tmp_path / "run"
    log = run / ".anojax/progress.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    if what == "zeros":
        data = bytearray(log.read_bytes())
        data[900:1400] = bytes(500)
        log.write_bytes(bytes(data))
    elif what == "doubled":
        log.write_bytes(b"".join([*lines[:2], *lines[1:]]))
    elif what == "reordered":
        log.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    else:
        name = json.loads(lines[1])[what]
        (run / name).write_bytes(bytes((run / name).stat().st_size))
    assert half()[0] == 0
    assert synth("--per-image", 40, output="whole")[0] == 0
    assert files(run) == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "name", ["sheet.png", "report.html", "manifest.jsonl", "parts/test/spot/part3.png"]
)
def test_the_same_command_checks_a_finished_run(synth, anojax, tmp_path, name):
    synth()
    run = tmp_path / "run"
    whole = files(run)
    for damage in (Path.unlink, lambda path: path.write_bytes(b"what")):
        damage(run / name)
        code, _, err = synth()
        assert code == 2 and "not whole" in err and "--repair" in err
        assert anojax("verify", run, "--repair")[0] == 0
        assert synth()[0] == 0
        assert files(run) == whole


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"images": "7"}', "\x00"])
def test_a_damaged_finished_json_is_a_sentence(synth, tmp_path, content):
    synth()
    (tmp_path / "run/finished.json").write_text(content)
    code, _, err = synth()
    assert code == 2 and "finished.json is damaged" in err


def test_a_plan_that_cannot_fit_is_refused_at_once(synth, tmp_path):
    for count, what in ((10**9, "free"), (10**12, "told apart"), (10**40, "")):
        code, _, err = synth("--count", count)
        assert code == 2 and what in err
        assert not (tmp_path / "run/parts").exists()


@pytest.mark.parametrize("size", [-3, 0])
def test_batches_hold_at_least_one_image(synth, anojax, tmp_path, size):
    code, _, err = synth("--batch-size", size)
    assert code == 2 and "at least 1" in err
    synth()
    code, _, err = anojax("verify", tmp_path / "run", "--batch-size", size)
    assert code == 2 and "at least 1" in err


def test_numbers_of_jobs_can_begin_anywhere():
    from anojax.data.plan import Plan

    images = tuple(Path(f"{i}.png") for i in range(5))
    for count in (None, 3, 12):
        methods = fakes.Spot(), fakes.Weave()
        plan = Plan(methods, images, 0, np.array, np.array, per_image=3, count=count)
        jobs = list(plan.jobs())
        for start in range(plan.total + 2):
            assert list(plan.jobs(start)) == jobs[start:]
