"""A run from end to end: what it writes, and that the same comes out however."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from anojax.data.files import decode_png

from .conftest import draw, files, write_image


def rows(run):
    return [
        json.loads(line) for line in (run / "manifest.jsonl").read_text().splitlines()
    ]


def pixels(path):
    return decode_png(path.read_bytes())


def test_a_run_is_a_data_set_in_mvtec_layout(synth, tmp_path):
    code, out, err = synth("--per-image", 2)
    assert code == 0, err
    run = tmp_path / "run"
    assert "sheet.png" in out and "report.html" in out
    assert len(list((run / "parts/train/good").glob("*.png"))) == 7
    assert len(list((run / "parts/test/spot").glob("*.png"))) == 14
    assert len(list((run / "parts/ground_truth/spot").glob("*_mask.png"))) == 14
    for row in rows(run):
        normal, image = pixels(run / row["normal"]), pixels(run / row["image"])
        mask = pixels(run / row["mask"])
        assert set(np.unique(mask)) == {0, 255}
        outside = np.broadcast_to(mask == 0, image.shape)
        np.testing.assert_array_equal(image[outside], normal[outside])
        assert Path(row["source"]).is_file()
        x0, y0, x1, y1 = row["box"]
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert row["area"] == pytest.approx((mask > 0).mean(), abs=1e-6)


def test_pillow_reads_the_images(synth, tmp_path):
    synth()
    row = rows(tmp_path / "run")[0]
    with Image.open(tmp_path / "run" / row["image"]) as image:
        assert (image.mode, image.size) == ("L", (16, 16))


def test_the_plan_is_printed_first(synth):
    _, out, _ = synth("--count", 3, "--set", "side=4")
    assert "images      3 (3 per method)" in out
    assert "spot.side=4" in out and "foreground" in out


def test_count_goes_round_the_images(synth, tmp_path):
    synth("--count", 10)
    ids = [row["example_id"] for row in rows(tmp_path / "run")]
    assert ids == [0, 1, 2, 3, 4, 5, 6, 8, 10, 12]


def test_methods_share_example_ids(synth, tmp_path):
    synth(method="spot,weave")
    assert [r["method"] for r in rows(tmp_path / "run")] == ["spot", "weave"] * 7
    assert [r["example_id"] for r in rows(tmp_path / "run")][:4] == [0, 0, 1, 1]


def test_batches_and_devices_change_no_byte(synth, tmp_path):
    options = "--set", "spot.empty=0.5", "--per-image", 3
    synth(*options, output="a", method="spot,weave")
    synth(*options, "--batch-size", 5, "--devices", 3, output="b", method="spot,weave")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_redraws_are_recorded(synth, tmp_path):
    synth("--set", "empty=0.6", "--per-image", 3)
    draws = [row["draw"] for row in rows(tmp_path / "run")]
    assert max(draws) > 0 and len(draws) == 21
    assert all(row["anomalous"] for row in rows(tmp_path / "run"))


def test_keep_empty_writes_no_mask(synth, tmp_path):
    synth("--set", "empty=0.6", "--keep-empty", "--per-image", 3)
    run = tmp_path / "run"
    empty = [row for row in rows(run) if not row["anomalous"]]
    assert empty
    for row in empty:
        assert row["mask"] is None and row["box"] is None and row["draw"] == 0
        np.testing.assert_array_equal(
            pixels(run / row["image"]), pixels(run / row["normal"])
        )


def test_a_stubborn_method_is_left_out_with_a_warning(synth, tmp_path):
    code, _, err = synth("--set", "spot.empty=1.0", method="spot,weave")
    assert code == 0
    assert "left out 7" in err and "came out empty" in err
    assert "Left out: 7" in (tmp_path / "run/report.html").read_text()
    assert len(rows(tmp_path / "run")) == 7


def test_a_finished_run_is_not_made_again(synth, tmp_path):
    synth()
    before = files(tmp_path / "run")
    code, out, _ = synth()
    assert code == 0 and "already finished" in out
    assert files(tmp_path / "run") == before


def test_overwrite_replaces_the_run_and_nothing_else(synth, tmp_path):
    synth(method="spot,weave")
    run = tmp_path / "run"
    mine = [run / "notes.txt", run / "parts/test/spot/mine.png"]
    for path in mine:
        path.write_text("mine")
    code, _, err = synth("--seed", 1, "--overwrite")
    assert code == 0, err
    assert all(path.read_text() == "mine" for path in mine)
    assert not (run / "parts/test/weave").exists()
    assert {row["seed"] for row in rows(run)} == {1}


def test_ctrl_c_says_one_sentence_and_the_run_continues(synth, tmp_path, monkeypatch):
    synth(output="whole")
    from anojax.data import write

    commit, calls = write._commit, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return commit(*args)

    monkeypatch.setattr(write, "_commit", interrupted)
    code, _, err = synth()
    assert code == 130 and "the same command continues" in err
    assert not (tmp_path / "run/manifest.jsonl").exists()
    monkeypatch.setattr(write, "_commit", commit)
    assert synth()[0] == 0
    assert files(tmp_path / "run") == files(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["mvtec", "tfds"])
def test_a_killed_run_resumes_to_the_same_bytes(parts, tmp_path, kind):
    """kill -9 in the middle, in a process of its own; twice."""
    command = [
        *(sys.executable, "-c", "import fakes; fakes.program()", "synth"),
        *("--method", "spot,weave", "--input", str(parts), "--size", "16"),
        *("--foreground", "none", "--per-image", "400", "--batch-size", "8"),
        *("--format", kind, "--set", "spot.empty=0.3", "--quiet"),
    ]
    path = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])
    environment = os.environ | {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path)}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for _ in range(2):
        process = subprocess.Popen([*command, "--output", killed], env=environment)
        log = killed / ".anojax/progress.jsonl"
        start = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size > start):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "finished.json").exists()
    for output in (killed, whole):
        subprocess.run([*command, "--output", output], env=environment, check=True)
    assert len(rows(whole)) == 5600
    assert files(killed) == files(whole)


def test_native_keeps_the_files_own_pixels(anojax, tmp_path):
    folder = tmp_path / "parts"
    sizes = [(40, 30), (17, 64), (50, 50)]
    for i, size in enumerate(sizes):
        write_image(folder / f"{i}.png", draw(i, size, 3))
    deep = np.random.default_rng(9).integers(0, 60000, (33, 47)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    code, _, err = anojax(
        *("synth", "--method", "spot", "--input", folder, "--size", 16, "--native"),
        *("--foreground", "none", "--output", tmp_path / "run"),
    )
    assert code == 0, err
    found = {Path(row["source"]).stem: row for row in rows(tmp_path / "run")}
    for name, row in found.items():
        image = pixels(tmp_path / "run" / row["image"])
        mask = pixels(tmp_path / "run" / row["mask"])
        own = (
            deep[..., None] if name == "deep" else draw(int(name), sizes[int(name)], 3)
        )
        assert image.dtype == own.dtype and image.shape == own.shape
        outside = np.broadcast_to(mask == 0, own.shape)
        np.testing.assert_array_equal(image[outside], own[outside])
        assert (image != own).any() and row["size"] == list(own.shape[:2])


def test_config_of_a_run_repeats_it(synth, anojax, tmp_path):
    synth("--set", "level=0.5,0.6", "--severity", 0.7)
    code, _, err = anojax(
        *("synth", "--config", tmp_path / "run/config.yaml"),
        *("--output", tmp_path / "again"),
    )
    assert code == 0, err
    assert files(tmp_path / "run") == files(tmp_path / "again")


def test_the_report_fetches_nothing(synth, tmp_path):
    synth(method="spot,weave")
    page = (tmp_path / "run/report.html").read_text()
    assert "data:image/jpeg;base64" in page
    # Links lead to files of the run, relative to the page; images lie in the page.
    places = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert any(place.endswith(".png") for place in places)
    for place in places:
        if not place.startswith("data:image/"):
            assert (tmp_path / "run" / unquote(place)).is_file(), place
    assert "@import" not in page and "url(" not in page
    for word in ("area of the mask", "position", "contrast", "weave"):
        assert word in page


def test_a_region_holds_the_defects(synth, tmp_path):
    region = np.zeros((24, 20, 1), np.uint8)
    region[:12] = 255
    write_image(tmp_path / "region.png", region)
    code, _, err = synth("--region", tmp_path / "region.png", "--per-image", 4)
    assert code == 0, err
    run = tmp_path / "run"
    assert all(not pixels(run / r["mask"])[8:].any() for r in rows(run))
