"""Normal images in parts: no test image is, or is made from, a training image."""

import json

import numpy as np
import pytest
from PIL import Image

from anojax.synthesis.config import SynthConfig
from anojax.synthesis.parts import split

SPLIT = ("--train-share", 0.5, "--normal-share", 0.5)


def rows(run):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def names(folder):
    return {path.name for path in folder.glob("*.png")}


def files(run):
    return {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


@pytest.fixture
def run(synth, tmp_path):
    code, _, err = synth(*SPLIT, method="spot,weave")
    assert code == 0, err
    return tmp_path / "run"


def test_the_parts_are_apart_and_hold_every_image(run, parts, anojax):
    folder = run / "parts"
    train, clean = names(folder / "train/good"), names(folder / "test/good")
    sources = names(folder / "normal")
    assert [len(train), len(clean), len(sources)] == [4, 2, 1]
    assert train | clean | sources == names(parts)
    assert {row["source"].rpartition("/")[2] for row in rows(run)} == sources
    assert names(folder / "test/spot") == names(folder / "test/weave") == sources
    assert anojax("verify", run)[0] == 0
    assert anojax("verify", run, "--row", 1)[0] == 0
    report = (run / "report.html").read_text()
    assert "no test image is, or is made from" in report
    assert "4 normal images for training alone" in report


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_clean_images_are_as_a_run_without_parts_has_them(synth, tmp_path, fit):
    assert synth(*SPLIT, "--fit", fit, output="split")[0] == 0
    assert synth("--fit", fit)[0] == 0
    whole = tmp_path / "run/parts/train/good"
    found = [
        path
        for part in ("train/good", "test/good", "normal")
        for path in (tmp_path / "split/parts" / part).iterdir()
    ]
    assert len(found) == 7
    for path in found:
        assert path.read_bytes() == (whole / path.name).read_bytes()


@pytest.mark.parametrize("place", ["train/good", "test/good"])
@pytest.mark.parametrize("kind", ["changed", "missing", "extra"])
def test_what_was_changed_is_noticed_and_repaired(run, anojax, place, kind):
    before = files(run)
    path = sorted((run / "parts" / place).iterdir())[0]
    if kind == "changed":
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    elif kind == "missing":
        path.unlink()
    else:
        path.with_name("other.png").write_bytes(path.read_bytes())
    code, out, err = anojax("verify", run)
    assert code == 1 and f"parts/{place}/" in out + err
    if kind != "extra":
        assert anojax("verify", run, "--repair")[0] == 0
        assert files(run) == before


def test_another_source_is_no_reason_to_write_another_image(run, parts, anojax):
    before = files(run)
    name = sorted(names(run / "parts/train/good"))[0]
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(parts / name)
    code, out, err = anojax("verify", run)
    assert code == 1 and f"train/good/{name}: is not its source" in out + err
    assert anojax("verify", run, "--repair")[0] != 0
    after = files(run)
    assert {p: after[p] for p in before} == before


def test_a_run_goes_on_to_the_same_bytes_and_makes_room_for_another(run, synth, anojax):
    before = files(run)
    (run / "finished.json").unlink()
    (run / "parts/test/good").joinpath(min(names(run / "parts/test/good"))).unlink()
    assert synth(*SPLIT, method="spot,weave")[0] == 0
    assert files(run) == before
    assert "already finished" in synth(*SPLIT, method="spot,weave")[1]
    (run / "finished.json").unlink()
    assert synth("--overwrite")[0] == 0
    assert not (run / "parts/test/good").exists()
    assert anojax("verify", run)[0] == 0


def test_shares_of_the_work_become_the_same_run(run, synth, anojax, tmp_path):
    for number in (1, 2):
        code, _, err = synth(
            *(*SPLIT, "--share", f"{number}/2"), output="joint", method="spot,weave"
        )
        assert code == 0, err
    assert anojax("merge", tmp_path / "joint")[0] == 0
    joint = files(tmp_path / "joint")
    kept = {p.relative_to(tmp_path / "joint"): joint[p] for p in joint}
    alone = {p.relative_to(run): data for p, data in files(run).items()}
    hidden = {p for p in kept.keys() | alone.keys() if p.parts[0].startswith(".")}
    assert {p: d for p, d in kept.items() if p not in hidden} == {
        p: d for p, d in alone.items() if p not in hidden
    }


def test_clean_test_images_without_a_part_for_training(synth, tmp_path, anojax):
    assert synth("--normal-share", 0.3)[0] == 0
    folder = tmp_path / "run/parts"
    train, clean = names(folder / "train/good"), names(folder / "test/good")
    assert len(clean) == 2 and len(train) == 5 and not train & clean
    assert not (folder / "normal").exists()
    assert anojax("verify", tmp_path / "run")[0] == 0


def test_own_resolution(synth, tmp_path, anojax, parts):
    code, _, err = synth(*SPLIT, "--native")
    assert code == 0, err
    folder = tmp_path / "run/parts/train/good"
    for name in names(folder):
        with Image.open(folder / name) as found, Image.open(parts / name) as source:
            np.testing.assert_array_equal(np.asarray(found), np.asarray(source))
    assert anojax("verify", tmp_path / "run")[0] == 0


def test_an_image_that_cannot_be_used_is_said_first(synth, tmp_path, run, parts):
    name = sorted(names(run / "parts/train/good"))[0]
    (parts / name).write_bytes(b"no image")
    code, _, err = synth(*SPLIT, output="other")
    assert code == 2 and name in err
    assert not (tmp_path / "other/manifest.jsonl").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--train-share", 1),
        ("--train-share", 0.01),
        ("--normal-share", 1),
        ("--train-share", 1.5),
        ("--train-share", 0.5, "--format", "tfds"),
    ],
)
def test_shares_that_leave_a_part_empty(synth, tmp_path, more):
    code, _, err = synth(*more)
    assert code == 2 and "_share" in err
    assert not (tmp_path / "run").exists()


def test_the_split_follows_from_seed_and_order():
    config = SynthConfig(train_share=0.6, normal_share=0.25, seed=4)
    first = split(100, config)
    assert first == split(100, config)
    assert [len(part) for part in first] == [60, 10, 30]
    assert sorted(i for part in first for i in part) == list(range(100))
    other = SynthConfig(train_share=0.6, normal_share=0.25, seed=5)
    assert split(100, other) != first
