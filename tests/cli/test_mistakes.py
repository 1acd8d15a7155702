"""Bad input: one clear sentence, a code that is not 0, nothing half-written."""

import errno
import json
import os

import numpy as np
import pytest
from PIL import Image

from .conftest import draw, files, write_image


def refused(result, *words):
    """A refusal is one sentence on stderr that holds these words."""
    code, _, err = result
    assert code == 2, (code, err)
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("anojax: "), err
    for word in words:
        assert word in err, (word, err)


@pytest.fixture
def run(anojax, tmp_path):
    def run(*more, folder="parts", method="spot"):
        return anojax(
            *("synth", "--method", method, "--input", tmp_path / folder),
            *("--size", 16, "--foreground", "none", "--output", tmp_path / "run"),
            *more,
        )

    return run


@pytest.fixture
def nothing_written(tmp_path):
    yield
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("nothing_written", "parts")
class TestNothingIsWritten:
    def test_missing_folder(self, run):
        refused(run(folder="nowhere"), "no folder", "nowhere")

    def test_empty_folder(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        refused(run(folder="empty"), "no image", "empty")

    def test_no_readable_image(self, run, tmp_path):
        (tmp_path / "texts").mkdir()
        (tmp_path / "texts/a.png").write_text("not an image")
        refused(run(folder="texts"), "texts", "a.png")

    def test_unknown_method_names_the_nearest(self, run):
        refused(run(method="spto"), "spto", "did you mean 'spot'")

    def test_unknown_setting_names_the_nearest(self, run):
        refused(run("--set", "sied=3"), "sied", "did you mean 'side'")

    def test_setting_of_a_method_that_is_not_used(self, run):
        refused(run("--set", "weave.side=3"), "weave")

    def test_setting_without_a_value(self, run):
        refused(run("--set", "side"), "field=value")

    @pytest.mark.parametrize(
        ("value", "word"), [("99", "at most 12"), ("big", "whole number")]
    )
    def test_setting_out_of_range_or_of_another_type(self, run, value, word):
        refused(run("--set", f"side={value}"), "side", word)

    def test_range_the_wrong_way_round(self, run):
        refused(run("--set", "level=0.9,0.1"), "level", "first number")

    def test_unsupported_control_names_methods_that_have_it(self, run):
        refused(run("--area", 0.1), "spot", "area", "weave")

    @pytest.mark.parametrize(
        ("flag", "value"),
        [
            ("--severity", "1.5"),
            ("--severity", "much"),
            ("--area", "0"),
            ("--count", "0"),
            ("--count", "2.5"),
            ("--per-image", "-1"),
            ("--seed", "-1"),
            ("--size", "4"),
            ("--size", "big"),
            ("--format", "zip"),
            ("--layout", "pile"),
        ],
    )
    def test_arguments_out_of_range(self, run, flag, value):
        refused(run(flag, value), value.lstrip("-"))

    def test_severity_zero_says_what_to_do(self, run):
        refused(run("--severity", 0), "--keep-empty")

    def test_count_and_per_image_together(self, run):
        refused(run("--count", 3, "--per-image", 2), "--count", "--per-image")

    def test_unknown_option_names_the_nearest(self, run):
        refused(run("--per-imge", 2), "--per-imge", "--per-image")

    def test_more_devices_than_there_are(self, run):
        refused(run("--devices", 99), "99")

    def test_textures_folder_empty(self, run, tmp_path):
        (tmp_path / "textures").mkdir()
        refused(run("--textures", tmp_path / "textures", method="weave"), "textures")

    def test_texture_that_is_no_image(self, run, tmp_path):
        (tmp_path / "textures").mkdir()
        (tmp_path / "textures/grain.png").write_text("not an image")
        refused(
            run("--textures", tmp_path / "textures", "--quiet", method="weave"),
            "grain.png",
        )

    def test_mask_of_another_size(self, run, tmp_path):
        write_image(tmp_path / "mask.png", np.full((9, 9, 1), 255, np.uint8))
        refused(run("--region", tmp_path / "mask.png"), "9 x 9", "20 x 24")

    def test_region_empty_for_every_image(self, run, tmp_path):
        write_image(tmp_path / "mask.png", np.zeros((24, 20, 1), np.uint8))
        refused(run("--region", tmp_path / "mask.png"), "empty")

    def test_truncated_image_with_strict(self, run, tmp_path):
        truncated(tmp_path / "parts/part3x.jpg")
        refused(run("--strict"), "part3x.jpg")

    def test_broken_config_file(self, anojax, tmp_path):
        (tmp_path / "c.yaml").write_text("method: [")
        result = anojax("synth", "--config", tmp_path / "c.yaml", "--output", "x")
        refused(result, "c.yaml", "YAML")

    def test_unknown_key_in_config_file(self, anojax, tmp_path):
        (tmp_path / "c.yaml").write_text("sede: 3")
        result = anojax("synth", "--config", tmp_path / "c.yaml", "--output", "x")
        refused(result, "sede", "did you mean 'seed'")


def truncated(path):
    Image.fromarray(draw(3, (64, 64), 3)).save(path)
    path.write_bytes(path.read_bytes()[:900])


def zero_bytes(path):
    path.write_bytes(b"")


def test_bench_of_a_batch_that_devices_cannot_share(anojax):
    words = ("--method", "spot", "--batch-size", 3, "--devices", 2)
    refused(anojax("bench", *words), "--batch-size is 3", "multiple of 2")


def text(path):
    path.write_text("not an image")


def one_pixel(path):
    Image.new("L", (1, 1)).save(path)


def very_wide(path):
    Image.new("L", (20_000, 12)).save(path)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("bad.jpg", truncated),
        ("bad.png", zero_bytes),
        ("bad.png", text),
        ("bad.png", one_pixel),
        ("bad.png", very_wide),
    ],
)
def test_one_bad_image_is_left_out_and_counted(run, parts, tmp_path, name, spoil):
    spoil(parts / name)
    code, out, err = run()
    assert code == 0, err
    assert "finished: 7 images" in out
    assert "left out 1" in err and name in err
    page = (tmp_path / "run/report.html").read_text()
    assert "Left out: 1" in page and name in page
    assert json.loads((tmp_path / "run/finished.json").read_text())["left_out"] == 1


def test_a_image_without_region_is_left_out(run, parts, tmp_path):
    for path in parts.iterdir():
        write_image(
            tmp_path / "regions" / path.name, np.full((24, 20, 1), 255, np.uint8)
        )
    write_image(tmp_path / "regions/part2.png", np.zeros((24, 20, 1), np.uint8))
    code, out, err = run("--region", tmp_path / "regions")
    assert code == 0 and "finished: 6 images" in out
    assert "part2.png" in err and "empty" in err


def test_mixed_sizes_and_modes(run, parts, tmp_path):
    write_image(parts / "color.png", draw(1, (31, 90), 3))
    Image.fromarray(draw(2, (20, 30), 3)).convert("RGBA").save(parts / "alpha.png")
    Image.fromarray(draw(2)[..., 0]).convert("P").save(parts / "palette.png")
    code, out, err = run()
    assert code == 0, err
    assert "finished: 10 images" in out


def test_mixed_modes_do_not_fit_one_tfds_data_set(run, parts, tmp_path):
    write_image(parts / "color.png", draw(1, (31, 90), 3))
    refused(run("--format", "tfds", "--quiet"), "--gray")
    code, _, err = run("--format", "tfds", "--gray", "--quiet", "--overwrite")
    assert code == 0, err


@pytest.mark.usefixtures("parts")
class TestOutput:
    def test_a_path_that_cannot_be_made(self, anojax, parts, tmp_path):
        (tmp_path / "file").write_text("mine")
        result = anojax(
            *("synth", "--method", "spot", "--input", parts, "--quiet"),
            *("--foreground", "none", "--output", tmp_path / "file/run"),
        )
        refused(result, "cannot write", "file/run")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written(self, run, tmp_path):
        (tmp_path / "run").mkdir(mode=0o500)
        refused(run("--quiet"), "cannot write")

    def test_a_file(self, run, tmp_path):
        (tmp_path / "run").write_text("mine")
        refused(run(), "is a file")

    def test_a_folder_with_other_things(self, run, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run/mine.txt").write_text("mine")
        refused(run("--overwrite"), "no run of anojax")
        assert files(tmp_path / "run") == {"mine.txt": b"mine"}

    def test_another_configuration_says_what_differs(self, run, tmp_path):
        run()
        before = files(tmp_path / "run")
        refused(run("--seed", 5, "--set", "side=3"), "seed: 0 -> 5", "--overwrite")
        assert files(tmp_path / "run") == before

    def test_full_disk(self, run, tmp_path, monkeypatch):
        from pathlib import Path

        write_bytes, written = Path.write_bytes, []

        def full(self, data):
            written.append(self)
            if len(written) > 6:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write_bytes(self, data)

        monkeypatch.setattr(Path, "write_bytes", full)
        refused(run("--quiet"), "No space left")
        monkeypatch.undo()
        assert not (tmp_path / "run/manifest.jsonl").exists()


def test_no_command_names_them(anojax):
    refused(anojax(), "COMMAND")


def test_unknown_command(anojax):
    refused(anojax("sinth"), "sinth")


def test_controls_are_named_as_they_were_given(anojax, parts, tmp_path):
    words = ("synth", "--input", parts, "--output", tmp_path / "run", "--size", 16)
    for flag, name in (("--defects", "defects"), ("--angle-deg", "angle_deg")):
        result = anojax(*words, "--method", "spot", flag, 3)
        refused(result, f"spot has no control over '{name}'")


def test_sizes_out_of_reach(anojax):
    refused(anojax("bench", "--method", "spot", "--size", 100000), "at most 4096")


def test_errors_as_json(anojax, tmp_path):
    code, out, _ = anojax("show", "nothing", "--json")
    assert code == 2 and "nothing" in json.loads(out)["error"]
