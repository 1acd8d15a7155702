"""Controls from ranges, what was drawn, and what a request would make."""

import json

import pytest

from .conftest import files


def rows(run):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_range_is_drawn_anew_for_every_image(synth, anojax, tmp_path):
    code, out, err = synth("--severity", "0.5:0.9", "--per-image", 3)
    assert code == 0, err
    assert "severity 0.5:0.9" in out
    drawn = [row["drawn"]["severity"] for row in rows(tmp_path / "run")]
    assert len(set(drawn)) == 21 and all(0.5 <= value <= 0.9 for value in drawn)
    assert max(drawn) - min(drawn) > 0.2
    assert rows(tmp_path / "run")[0]["settings"]["severity"] == [0.5, 0.9]
    code, _, err = synth(
        *("--severity", "0.5:0.9", "--per-image", 3, "--batch-size", 4),
        output="again",
    )
    assert files(tmp_path / "run") == files(tmp_path / "again")
    assert anojax("verify", tmp_path / "run")[0] == 0
    code, _, err = anojax(
        *("synth", "--config", tmp_path / "run/config.yaml"),
        *("--output", tmp_path / "third"),
    )
    assert code == 0, err
    assert files(tmp_path / "run") == files(tmp_path / "third")


def test_severity_shows_in_the_pixels(synth, tmp_path):
    synth("--severity", "0.1:1", "--set", "level=1,1")
    found = rows(tmp_path / "run")
    order = sorted(found, key=lambda row: row["drawn"]["severity"])
    assert order[0]["contrast"] < order[-1]["contrast"] / 2


def test_one_value_is_the_range_of_it(synth, tmp_path):
    synth("--severity", "0.5", output="value")
    synth("--severity", "0.5:0.5", output="range")
    names = ["sha256", "mask_sha256", "draw"]
    value, ranged = (
        [[row[name] for name in names] for row in rows(tmp_path / run)]
        for run in ("value", "range")
    )
    assert value == ranged


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("0.8:0.2", "must not exceed"),
        ("0.2:1.5", "at most 1"),
        ("0.2:", "severity"),
        ("a:b", "severity"),
        ("0.1:0.2:0.3", "severity"),
        ("nan:1", "severity"),
        ("0:0", "unchanged"),
    ],
)
def test_no_range_is_a_sentence(synth, tmp_path, given, words):
    code, _, err = synth("--severity", given)
    assert code == 2 and words in err
    assert not (tmp_path / "run").exists()


def test_a_method_without_the_control_is_named(synth):
    code, _, err = synth("--area", "0.1:0.2")
    assert code == 2 and "area" in err


def test_a_dry_run_writes_nothing(synth, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = synth("--dry-run", "--per-image", 2, method="spot,weave")
    assert code == 0 and "28" in out and "nothing was written" in out
    code, out, _ = synth("--dry-run", "--json", "--per-image", 2, method="spot,weave")
    facts = json.loads(out)
    assert (facts["state"], facts["images"], facts["output"]) == ("planned", 28, "new")
    assert facts["methods"] == {"spot": 14, "weave": 14}
    assert sorted(tmp_path.rglob("*")) == before
    synth()
    assert json.loads(synth("--dry-run", "--json")[1])["output"] == "finished"
    assert synth("--dry-run", "--seed", 3)[0] == 2
