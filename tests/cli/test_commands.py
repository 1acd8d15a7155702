"""list, show, env, doctor, preview and verify."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from anojax.data.files import decode_png, encode_png

from .conftest import draw, write_image


def test_list_names_methods_and_what_they_need(anojax):
    code, out, _ = anojax("list")
    assert code == 0
    assert "spot" in out and "texture" in out and "planned" in out


def test_list_as_json(anojax_json):
    found = {entry["name"]: entry for entry in anojax_json("list")}
    assert found["weave"]["needs"] == ["texture"]
    assert found["weave"]["controls"] == ["severity", "area"]


def test_list_of_one_paradigm(anojax, anojax_json):
    assert all(e["paradigm"] == "vlm" for e in anojax_json("list", "--paradigm", "vlm"))
    code, _, err = anojax("list", "--paradigm", "handcraft")
    assert code == 2 and "did you mean 'handcrafted'" in err


def test_show_prints_settings_with_range_and_default(anojax):
    code, out, _ = anojax("show", "spot")
    assert code == 0
    for words in ("side in pixels", "1 to 12", "default 6", "A paper", "fidelity"):
        assert words in out


def test_show_as_json(anojax_json):
    shown = anojax_json("show", "weave")
    side = next(s for s in shown["settings"] if s["name"] == "side")
    assert (side["low"], side["high"], side["default"]) == (1, 12, 5)


def test_env_tells_versions_and_devices(anojax_json):
    facts = anojax_json("env")
    assert facts["devices"] == "8 x cpu" and facts["jax"] and facts["numpy"]


def test_help_of_synth_lists_methods_and_controls(anojax):
    code, out, _ = anojax("synth", "--help")
    assert code == 0
    assert "weave" in out and "severity, area" in out and "--keep-empty" in out


def test_version(anojax):
    assert anojax("--version")[0] == 0


def test_commands_load_no_more_than_they_need():
    """`list` is quick because it loads neither images nor data sets."""
    program = (
        "import sys; from anojax.cli.__main__ import main; main(['list', '--json']);"
        "print(*[m for m in ('PIL', 'tensorflow_datasets', 'scipy.ndimage')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == []


def test_doctor_finds_gray_images_stored_as_color(anojax, anojax_json, tmp_path):
    for i in range(3):
        gray = np.repeat(draw(i), 3, axis=2)
        write_image(tmp_path / "parts" / f"{i}.png", gray)
    code, out, _ = anojax("doctor", "--input", tmp_path / "parts")
    assert code == 0 and "--gray" in out
    findings = anojax_json("doctor", "--input", tmp_path / "parts")["findings"]
    assert any("--gray" in finding["fix"] for finding in findings)


def test_doctor_fails_where_a_run_would(anojax, parts, tmp_path):
    assert anojax("doctor", "--input", tmp_path / "nowhere")[0] == 1
    code, out, _ = anojax("doctor", "--input", parts, "--method", "spot", "--area", 0.1)
    assert code == 1 and "area" in out


def test_preview_shows_the_images_of_the_run(anojax, anojax_json, parts, tmp_path):
    arguments = (
        *("--method", "spot,weave", "--input", parts, "--size", 16),
        *("--foreground", "none"),
    )
    code, out, err = anojax("preview", *arguments, "--output", tmp_path / "s.png")
    assert code == 0, err
    assert "s.png" in out
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 7 * 144
    facts = anojax_json("preview", *arguments, "--output", tmp_path / "s.jpg")
    assert facts["examples"] == 14
    # Of seven images there are no sixteen.
    assert "s.png (14 of these images)" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "s.jpg", "s.png"]


def test_preview_refuses_a_folder_as_output(anojax, parts, tmp_path):
    code, _, err = anojax(
        "preview", "--method", "spot", "--input", parts, "--output", tmp_path
    )
    assert code == 2 and ".png" in err


@pytest.fixture(params=["mvtec", "tfds", "native"])
def finished(request, synth, tmp_path):
    options = {"mvtec": [], "tfds": ["--format", "tfds"], "native": ["--native"]}
    code, _, err = synth(
        "--set", "empty=0.4", "--per-image", 2, *options[request.param]
    )
    assert code == 0, err
    return tmp_path / "run"


def test_verify_agrees_with_other_batches_and_devices(anojax, finished):
    code, out, err = anojax("verify", finished, "--batch-size", 3, "--devices", 2)
    assert code == 0, err
    assert "all 14 images agree" in out


def test_verify_of_one_row(anojax_json, finished):
    facts = anojax_json("verify", finished, "--row", 5)
    assert facts == {"compared": 1, "repaired": False, "problems": []}


@pytest.fixture
def run_folder(synth, tmp_path):
    synth()
    return tmp_path / "run"


def rewrite(run, number, **changes):
    lines = (run / "manifest.jsonl").read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | changes)
    (run / "manifest.jsonl").write_text("\n".join(lines) + "\n")


def test_verify_finds_a_changed_image(anojax, run_folder):
    path = run_folder / "parts/test/spot/part2.png"
    pixels = decode_png(path.read_bytes())
    pixels[0, 0] ^= 1
    path.write_bytes(encode_png(pixels))
    code, _, err = anojax("verify", run_folder)
    assert code == 1
    assert "line 3" in err and "part2.png" in err and "1 finding" in err


def test_verify_finds_a_missing_mask(anojax, run_folder):
    (run_folder / "parts/ground_truth/spot/part4_mask.png").unlink()
    code, _, err = anojax("verify", run_folder)
    assert code == 1 and "part4_mask.png" in err


def test_verify_finds_pixels_that_another_seed_made(anojax, run_folder):
    config = run_folder / "config.yaml"
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    code, _, err = anojax("verify", run_folder)
    assert code == 1 and "made again differs" in err and "config.yaml" in err


def test_verify_finds_a_wrong_draw(anojax, run_folder):
    rewrite(run_folder, 1, draw=7)
    code, _, err = anojax("verify", run_folder)
    assert code == 1 and "line 2" in err


def test_verify_finds_a_changed_normal_image(anojax, run_folder):
    path = run_folder / "parts/train/good/part0.png"
    path.write_bytes(encode_png(np.zeros((16, 16, 1), np.uint8)))
    code, _, err = anojax("verify", run_folder)
    assert code == 1 and "part0.png" in err


def test_verify_finds_a_line_that_is_not_of_the_plan(anojax, run_folder):
    rewrite(run_folder, 6, example_id=99)
    code, _, err = anojax("verify", run_folder)
    assert code == 1 and "line 7" in err


def test_verify_follows_moved_images(anojax, run_folder, parts, tmp_path):
    parts.rename(tmp_path / "moved")
    code, _, err = anojax("verify", run_folder)
    assert code == 2 and "no folder" in err
    assert anojax("verify", run_folder, "--input", tmp_path / "moved")[0] == 0


def test_verify_refuses_other_images(anojax, run_folder, parts):
    (parts / "part3.png").unlink()
    code, _, err = anojax("verify", run_folder)
    assert code == 2 and "count: 7 -> 6" in err


def test_verify_refuses_what_is_no_finished_run(anojax, run_folder, tmp_path):
    assert "no run" in anojax("verify", tmp_path)[2]
    (run_folder / "finished.json").unlink()
    (run_folder / "manifest.jsonl").unlink()
    assert "not finished" in anojax("verify", run_folder)[2]
    assert anojax("verify", run_folder)[0] == 2


def test_verify_refuses_a_row_that_is_not_there(anojax, run_folder):
    code, _, err = anojax("verify", run_folder, "--row", 8)
    assert code == 2 and "1 to 7" in err


def test_show_run_counts_what_the_manifest_says(anojax, anojax_json, synth, tmp_path):
    run = tmp_path / "run"
    code, _, err = synth("--set", "empty=0.4", "--per-image", 2, method="spot,weave")
    assert code == 0, err
    rows = [json.loads(row) for row in (run / "manifest.jsonl").open()]
    found = anojax_json("show-run", run)
    assert list(found["methods"]) == ["spot", "weave"]
    for name, numbers in [*found["methods"].items(), (None, found["total"])]:
        mine = [row for row in rows if name in (None, row["method"])]
        assert numbers["images"] == len(mine)
        assert numbers["redrawn"] == sum(row["draw"] > 0 for row in mine)
        assert numbers["left_out"] == (28 if name is None else 14) - len(mine)
        for key in ("area", "contrast"):
            values = [row[key] for row in mine if row["anomalous"]]
            expected = [min(values), np.median(values), max(values)]
            assert [*numbers[key].values()] == pytest.approx(expected)
    code, out, _ = anojax("show-run", run)
    words = [line.split() for line in out.splitlines()]
    assert [line[0] for line in words[:4]] == ["method", "spot", "weave", "total"]
    assert words[3][1] == str(len(rows))


def test_show_run_counts_empty_images(anojax_json, synth, tmp_path):
    assert synth("--set", "empty=1", "--keep-empty")[0] == 0
    total = anojax_json("show-run", tmp_path / "run")["total"]
    assert (total["images"], total["anomalous"], total["empty"]) == (7, 0, 7)
    assert total["area"] is None and total["contrast"] is None


def _without_last_row(run):
    path = run / "manifest.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda run: (run / "finished.json").unlink(), "is not finished"),
        (lambda run: (run / "finished.json").write_text("{"), "is damaged"),
        (lambda run: (run / "manifest.jsonl").unlink(), "cannot read"),
        (lambda run: (run / "manifest.jsonl").write_text("{}\n"), "line 1 has no"),
        (lambda run: (run / "config.yaml").unlink(), "is no run of anojax"),
        (lambda run: (run / "config.yaml").write_text("a: 1"), "has no request"),
        (_without_last_row, "has 6 rows, finished.json says 7"),
        (
            lambda run: (run / "config.yaml").write_text("request: {method: spot}"),
            "is a training run",
        ),
    ],
)
def test_show_run_says_what_is_wrong_in_one_sentence(anojax, run_folder, damage, says):
    damage(run_folder)
    code, out, err = anojax("show-run", run_folder)
    assert code == 2 and not out
    assert says in err and err.count("\n") == 1, err


def test_show_run_of_nothing(anojax, tmp_path):
    code, _, err = anojax("show-run", tmp_path / "nowhere")
    assert code == 2 and "is no folder" in err


def test_show_run_of_methods_by_weight(anojax, anojax_json, parts, tmp_path):
    run = tmp_path / "run"
    code, _, err = anojax(
        *("synth", "--mix", "spot=2,weave=1", "--input", parts, "--size", 16),
        *("--foreground", "none", "--output", run, "--count", 24),
    )
    assert code == 0, err
    rows = [json.loads(row)["method"] for row in (run / "manifest.jsonl").open()]
    found = anojax_json("show-run", run)["methods"]
    assert len(rows) == 24 and rows.count("spot") > rows.count("weave")
    for name, numbers in found.items():
        assert (numbers["images"], numbers["left_out"]) == (rows.count(name), 0)
