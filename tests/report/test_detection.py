"""The report: files, what the page says, and that it needs nothing else."""

import base64
import csv
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from anojax.errors import AnojaxError, DataError
from anojax.evaluation.detection import evaluate
from anojax.report import curves
from anojax.report import detection as report
from anojax.report.places import Places


@pytest.fixture
def outcome():
    draw = np.random.default_rng(0)
    masks = [np.zeros((24, 32)) for _ in range(4)]
    masks[2][4:10, 5:20] = masks[3][1:4, 1:4] = 1
    maps = [(draw.random((24, 32)) + m).astype(np.float32) for m in masks]
    images = [draw.random((24, 32, c)).astype(np.float32) for c in (1, 3, 3, 1)]
    scores = [m.max() for m in maps]
    groups = ["good", "good", "<hole> & co", "scratch"]
    result = evaluate(maps, masks, scores, [0, 0, 1, 1], groups)
    samples = [
        report.Sample(*parts) for parts in zip(groups, images, masks, maps, strict=True)
    ]
    return result, samples


def test_files_and_page(outcome, tmp_path):
    result, samples = outcome
    files = report.write(result, samples, tmp_path / "new" / "folder")
    assert [f.name for f in files] == [
        "scores.json",
        "curves.csv",
        "curves.png",
        "sheet.png",
        "report.html",
    ]
    assert json.loads(files[0].read_text()) == result.to_dict()
    page = files[4].read_text(encoding="utf-8")
    assert "&lt;hole&gt; &amp; co" in page and "<hole>" not in page
    assert re.findall(r"(?:src|href)=\"(?!data:)([^\"]*)", page) == ["curves.csv"]
    assert f"<td>{100 * result['aupro']:.1f}</td>" in page
    drawn, inside = map(base64.b64decode, re.findall(r"base64,([^\"]+)", page))
    assert drawn == files[2].read_bytes() and inside == files[3].read_bytes()
    with Image.open(io.BytesIO(inside)) as sheet:
        assert sheet.size == (3 * 204 + 4, 4 * (150 + 20))


def test_curves_end_where_they_should(outcome):
    plots = {p.title: np.transpose(p.shown()) for p in curves.plots(outcome[0])}
    assert set(plots) == {"Image ROC", "Image PR", "Pixel ROC", "Pixel PR", "PRO"}
    for title in ("Image ROC", "Pixel ROC"):
        np.testing.assert_array_equal(plots[title][[0, -1]], [[0, 0], [1, 1]])
    limit = outcome[0].fpr_limit
    assert plots["PRO"][-1][0] == limit
    area = np.trapezoid(*reversed(np.transpose(plots["PRO"]))) / limit
    assert area == pytest.approx(outcome[0]["aupro"], abs=0.01)
    area = np.trapezoid(*reversed(np.transpose(plots["Pixel ROC"])))
    assert area == pytest.approx(outcome[0]["pixel_auroc"], abs=0.01)


def test_without_matplotlib_the_points_are_a_table(outcome, tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "can_draw", lambda: False)
    names = [f.name for f in report.write(*outcome, tmp_path)]
    assert names == ["scores.json", "curves.csv", "sheet.png", "report.html"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "pip install 'anojax[plot]'" in page
    with open(tmp_path / "curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["curve"] for row in rows} == {p.title for p in curves.plots(outcome[0])}
    last = [row for row in rows if row["curve"] == "Pixel ROC"][-1]
    assert (float(last["x"]), float(last["y"])) == (1, 1)
    with pytest.raises(AnojaxError, match="anojax\\[plot\\]"):
        curves.draw(curves.plots(outcome[0]))


def test_undefined_measures_are_dashes(outcome, tmp_path):
    result = evaluate(None, None, [1.0, 2.0], [1, 1], ["dent", "dent"])
    files = report.write(result, [], tmp_path)
    assert [f.name for f in files] == ["scores.json", "report.html"]
    page = files[1].read_text(encoding="utf-8")
    assert "<td>–</td>" in page and "no normal image" in page


def test_sheet_shows_truth_and_map(outcome):
    _, samples = outcome
    sheet = np.asarray(report.draw_sheet(samples[2:3], tile_px=32))
    sample_image, truth = sheet[16:40, 4:36], sheet[16:40, 40:72]
    changed = np.any(sample_image != truth, axis=-1)
    np.testing.assert_array_equal(changed, samples[2].mask > 0)
    heat = sheet[16:40, 76:108].astype(int).sum(-1)
    assert heat[changed].min() > heat[~changed].mean()


def test_heat_covers_its_ramp():
    colors = report.heat(np.linspace(-1, 2, 7)[None], 0.0, 1.0)[0]
    np.testing.assert_array_equal(colors[0], report.RAMP[0])
    np.testing.assert_array_equal(colors[-1], report.RAMP[-1])
    flat = report.heat(np.ones((2, 2)), 1.0, 1.0)
    np.testing.assert_array_equal(flat, np.broadcast_to(report.RAMP[0], (2, 2, 3)))


def test_sizes_must_fit(outcome):
    sample = outcome[1][0]
    broken = report.Sample("x", sample.image, sample.mask[:-1], sample.map)
    with pytest.raises(DataError, match=r"x: image .* differ in size"):
        report.draw_sheet([broken])


def test_small_images_fill_their_tiles_in_plain_squares(outcome):
    _, samples = outcome
    sheet = np.asarray(report.draw_sheet(samples[:1], tile_px=96))
    # 24 x 32 pixels, three times as large, below the line of words.
    tile = sheet[16 : 16 + 72, 4 : 4 + 96]
    squares = tile.reshape(24, 3, 32, 3, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    assert len(np.unique(squares[:, 0, :, 0])) > 100


def test_the_page_names_no_folder_above(outcome, tmp_path):
    result, samples = outcome
    note = "detector trained in /home/me/runs/one, on 4 images of /data/tile"
    result = dataclasses.replace(result, notes=(note,))
    places = Places({"run": "/home/me/runs/one", "input": "/data/tile"})
    report.write(result, samples, tmp_path, places)
    page = (tmp_path / "report.html").read_text()
    assert "trained in one, on 4 images of tile" in page
    assert "/home" not in page and "/data" not in page
    # The record of what was measured keeps them.
    assert note in json.loads((tmp_path / "scores.json").read_text())["notes"]
