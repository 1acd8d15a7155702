"""Areas and boxes in mm."""

import json

import numpy as np
import pytest

from anojax.data.files import decode_png

from .conftest import draw, files, write_image


@pytest.fixture
def scaled(anojax, tmp_path):
    """Images of 24 x 48, of which a pixel is 0.5 mm, worked at in 16 x 16."""
    for i in range(4):
        write_image(tmp_path / "wide" / f"{i}.png", draw(i, (24, 48)))

    def run(*more, output="run"):
        return anojax(
            *("synth", "--method", "spot", "--input", tmp_path / "wide", "--size", 16),
            *("--foreground", "none", "--output", tmp_path / output, *more),
        )

    return run


def rows(run):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("more", "height", "width"),
    [
        ((), 0.75, 1.5),  # 24 pixels of the file in 16, and 48
        (("--fit", "pad"), 1.5, 1.5),
        (("--fit", "crop"), 0.75, 0.75),
        (("--native",), 0.5, 0.5),
    ],
)
def test_a_pixel_is_as_large_as_it_was_made(
    scaled, anojax, tmp_path, more, height, width
):
    code, _, err = scaled("--mm-per-pixel", 0.5, *more)
    assert code == 0, err
    found = rows(tmp_path / "run")
    assert found
    for row in found:
        mask = decode_png((tmp_path / "run" / row["mask"]).read_bytes())
        pixels = int((mask > 0).sum())
        assert row["area_mm2"] == pytest.approx(pixels * height * width, rel=1e-5)
        sides = np.array([width, height, width, height])
        np.testing.assert_allclose(row["box_mm"], row["box"] * sides, rtol=1e-5)
    report = (tmp_path / "run/report.html").read_text()
    assert "0.5 mm per pixel of the files" in report
    smallest = min(row["area_mm2"] for row in found)
    assert f"{smallest:.3g} to " in report
    assert anojax("verify", tmp_path / "run")[0] == 0


def test_nothing_else_changes(scaled, tmp_path):
    assert scaled("--mm-per-pixel", "0.5")[0] == 0
    assert scaled(output="plain")[0] == 0
    for row, plain in zip(
        rows(tmp_path / "run"), rows(tmp_path / "plain"), strict=True
    ):
        assert {**row, "area_mm2": 0, "box_mm": 0} == {
            **plain, "area_mm2": 0, "box_mm": 0,
        }  # fmt: skip
        assert "area_mm2" not in plain and "box_mm" not in plain
    one, other = files(tmp_path / "run"), files(tmp_path / "plain")
    assert all(one[name] == other[name] for name in one if name.endswith("g.png"))


def test_verify_notices_other_lengths(scaled, anojax, tmp_path):
    scaled("--mm-per-pixel", "0.5")
    path = tmp_path / "run/manifest.jsonl"
    text = path.read_text()
    area = str(rows(tmp_path / "run")[0]["area_mm2"])
    path.write_text(text.replace(f'"area_mm2": {area}', '"area_mm2": 1.5', 1))
    code, out, err = anojax("verify", tmp_path / "run")
    assert code != 0 and "area_mm2 is 1.5 and should be" in out + err


def test_mistakes(scaled, tmp_path):
    for value in ("0", "-1", "much"):
        code, _, err = scaled("--mm-per-pixel", value)
        assert code == 2 and "mm_per_pixel" in err
    assert not (tmp_path / "run").exists()
