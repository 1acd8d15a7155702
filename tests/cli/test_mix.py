"""Methods by weight: one of them makes each image, by a rule of the run's seed alone."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from anojax.data import shard, write

from .conftest import files


def rows(run: Path):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


MIX = ("--mix", "spot=2,weave=1")


@pytest.fixture
def mixed(anojax, parts, tmp_path):
    """`anojax synth` of both methods by weight."""

    def run(*more, output="run", mix=MIX):
        return anojax(
            *("synth", *mix, "--input", parts, "--size", 16, "--foreground", "none"),
            *("--output", tmp_path / output, *more),
        )

    return run


def test_each_image_is_made_by_one_method(mixed, tmp_path):
    code, out, err = mixed("--count", 31)
    assert code == 0, err
    found = rows(tmp_path / "run")
    assert len(found) == 31
    assert len({row["example_id"] for row in found}) == 31
    counts = Counter(row["method"] for row in found)
    assert abs(counts["spot"] - 31 * 2 / 3) <= 1.5
    assert f"spot=2 ({counts['spot']} images), weave=1 ({counts['weave']}" in out
    assert "31 (in all)" in out
    # The images of one normal image are not all of one method.
    assert len({r["method"] for r in found if r["normal"] == found[0]["normal"]}) == 2
    # Each normal image is there once, whatever method made the first image of it.
    assert len(list((tmp_path / "run/parts/train/good").iterdir())) == 7


def test_the_seed_decides_which(mixed, tmp_path):
    def order(*more):
        mixed("--per-image", 3, *more, output="-".join(("run", *more)))
        return [r["method"] for r in rows(tmp_path / "-".join(("run", *more)))]

    first = order()
    assert len(first) == 21
    assert first == order("--quiet")
    assert first != order("--seed", "5")


def test_batches_change_no_byte_and_the_request_is_repeated(mixed, anojax, tmp_path):
    assert mixed("--per-image", 2)[0] == 0
    code, _, err = mixed("--per-image", 2, "--batch-size", 3, output="other")
    assert code == 0, err
    assert files(tmp_path / "run") == files(tmp_path / "other")
    assert anojax("verify", tmp_path / "run")[0] == 0
    request = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["request"]
    assert request["mix"] == {"spot": 2.0, "weave": 1.0}
    code, _, err = anojax(
        *("synth", "--config", tmp_path / "run/config.yaml"),
        *("--output", tmp_path / "third"),
    )
    assert code == 0, err
    assert files(tmp_path / "run") == files(tmp_path / "third")
    # Other methods on the command line are not those that the file's weights are of.
    (tmp_path / "mine.yaml").write_text("mix: {spot: 2, weave: 1}\n")
    mine = ("--config", tmp_path / "mine.yaml", "--dry-run")
    code, out, err = mixed(*mine, mix=(), output="new")
    assert code == 0 and "7 (1 per image)" in out, err
    code, out, err = mixed(*mine, mix=("--method", "spot"), output="new")
    assert code == 0 and "7 (1 per image and method)" in out, err


@pytest.mark.parametrize("format", ["mvtec", "tfds"])
def test_shares_make_the_same(mixed, anojax, tmp_path, format, monkeypatch):
    monkeypatch.setattr(write, "BLOCK_JOBS", 4)
    monkeypatch.setattr(shard, "SHARD_RECORDS", 4)
    options = ("--count", 17, "--format", format)
    assert mixed(*options)[0] == 0
    for number in (1, 2):
        code, _, err = mixed(*options, "--share", f"{number}/2", output=f"s{number}")
        assert code == 0, err
    merged = tmp_path / "merged"
    code, _, err = anojax("merge", tmp_path / "s1", tmp_path / "s2", "--output", merged)
    assert code == 0, err
    assert files(merged) == files(tmp_path / "run")
    assert anojax("verify", merged)[0] == 0


def test_a_dry_run_counts_them(mixed, tmp_path):
    code, out, err = mixed("--count", 12, "--dry-run", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["images"] == 12 and sum(facts["methods"].values()) == 12
    assert not (tmp_path / "run").exists()
    assert abs(facts["methods"]["spot"] - 8) <= 1


@pytest.mark.parametrize(
    ("method", "mix", "words"),
    [
        (None, "spot", "METHOD=WEIGHT"),
        (None, "spot=much", "METHOD=WEIGHT"),
        (None, "spot=0,weave=1", "a number above 0"),
        (None, "spot=inf", "a number above 0"),
        (None, "spot=1,spot=2", "each method once"),
        (None, "spott=1", "spott"),
        ("spot", "spot=1,weave=2", "a weight to each"),
    ],
)
def test_mistakes(mixed, tmp_path, method, mix, words):
    named = () if method is None else ("--method", method)
    code, _, err = mixed(mix=("--mix", mix, *named))
    assert code == 2 and words in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_weights_are_held_over_any_stretch():
    from tests.data.test_pipeline import Spot, make_plan

    plan = make_plan(methods=(Spot(), Spot(), Spot()), weights=(5.0, 3.0, 2.0))
    for start in (0, 999, 10**9):
        found = Counter(plan.method_of(start + n) for n in range(1000))
        assert max(abs(found[m] - 100 * w) for m, w in enumerate((5, 3, 2))) <= 4
