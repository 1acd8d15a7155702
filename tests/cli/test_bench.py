"""``anojax bench``: tables, JSON and refusals; whole runs by their stages."""

import json

import pytest

from anojax.evaluation import speed

ALONE = ("bench", "--method", "spot", "--size", 16, "--batch-size", "2,4")
RUN = ("bench", "--end-to-end", "--method", "spot", "--size", 32, "--images", 5)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(speed, "copy_bandwidth", lambda devices: 1e9)


def test_methods_alone(anojax_json):
    (row,) = anojax_json(*ALONE, "--devices", 1, "--seconds", 0.01)
    assert row["method"] == "spot" and set(row["tried"]) == {"2", "4"}
    assert row["device_bytes"] > 0 and row["copy_bandwidth"] == 1e9


def test_tables(anojax):
    code, out, err = anojax(*ALONE, "--devices", 1, "--seconds", 0.01, "--markdown")
    assert code == 0, err
    head, line, row = out.splitlines()[:3]
    assert head.startswith("| method | images/s | spread | us/image | bound us |")
    assert line.count("|") == head.count("|") == row.count("|")
    code, out, _ = anojax(*ALONE, "--devices", 1, "--seconds", 0.01)
    assert code == 0 and "us/image" in out.splitlines()[0] and "copies at" in out


@pytest.mark.parametrize("format", ["mvtec", "tfds"])
def test_a_run_by_its_stages(anojax_json, format):
    result = anojax_json(*RUN, "--format", format)
    assert result["images"] == 5
    stages = result["stages"]
    assert set(stages) == {
        *("decode", "compile", "feed", "device"),
        *("judge", "encode", "manifest", "write", "hash"),
    }
    assert sum(stage["share"] for stage in stages.values()) == pytest.approx(1)
    assert result["host_peak_bytes"] > 2**20 and result["device_peak_bytes"] is None


def test_a_run_on_own_images(anojax, parts):
    words = ("bench", "--end-to-end", "--method", "spot", "--size", 16)
    code, out, err = anojax(*words, "--input", parts, "--channels", 1)
    assert code == 0, err
    assert "decode" in out and "7 images in" in out and "Most memory: host" in out
    assert json.loads(anojax(*words, "--input", parts, "--json")[1])["images"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", 100_000), "it must be at most 4096"),
        (("--size", 8), "at least 16"),
        (("--devices", 20_000), "at most 256"),
        (("--devices", 0), "give at least 1"),
        (("--batch-size", 0), "a number from 1 on"),
        (("--batch-size", "64,x"), "a number from 1 on"),
        (("--batch-size", 10**9, "--size", 4096), "this machine has"),
        (("--seconds", "nan"), "more than 0"),
        (("--images", 3), "--images needs --end-to-end"),
        (("--format", "tfds"), "--format needs --end-to-end"),
        (("--end-to-end", "--images", 0), "give 1 or more"),
        (("--end-to-end", "--images", 3, "--input", "x"), "no --input"),
        (("--end-to-end", "--batch-size", "2,4"), "takes one --batch-size"),
        (("--end-to-end", "--seconds", 1), "leave it out"),
        (("--end-to-end", "--format", "zip"), "mvtec"),
    ],
)
def test_refusals_are_one_sentence(anojax, words, message):
    code, out, err = anojax("bench", "--method", "spot", *words)
    assert code == 2 and out == "" and message in err
    assert len(err.strip().splitlines()) == 1
