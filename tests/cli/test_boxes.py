"""Regions given as fractions of every image."""

import json

import numpy as np
import pytest
import yaml

import anojax as package
from anojax.data.boxes import box_mask, parse_box
from anojax.data.files import decode_png
from anojax.errors import SettingError

from .conftest import draw, files, write_image


def masks(run):
    for line in (run / "manifest.jsonl").read_text().splitlines():
        yield decode_png((run / json.loads(line)["mask"]).read_bytes())[..., 0]


def test_defects_stay_in_the_fractions(synth, anojax, parts, tmp_path):
    # Sizes of their own: the fractions are of each image.
    write_image(parts / "wide.png", draw(9, (24, 90)))
    code, out, err = synth("--region", "0.5,0,1,0.25", "--per-image", 3)
    assert code == 0, err
    assert "region      0.5,0,1,0.25" in out
    found = list(masks(tmp_path / "run"))
    assert len(found) == 24
    for mask in found:
        assert mask[:4, 8:].any() and not mask[4:].any() and not mask[:, :8].any()
    assert anojax("verify", tmp_path / "run")[0] == 0
    request = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["request"]
    assert request["data"]["region"] == "0.5,0,1,0.25"
    # Another spelling is the same request.
    code, out, _ = synth("--region", "0.50,0.0,1.0,.25", "--per-image", 3)
    assert code == 0 and "already finished" in out


def test_from_python(fake_methods, parts, tmp_path):
    options = {"size": 16, "foreground": "none", "quiet": True}
    for example in package.synthesize(parts, "spot", region=(0, 0, 0.5, 1), **options):
        assert example.mask[:, :8].any() and not example.mask[:, 8:].any()


def test_it_is_the_mask_of_a_file(synth, tmp_path):
    where = np.zeros((24, 20, 1), np.uint8)
    where[6:18, :10] = 255
    write_image(tmp_path / "region.png", where)
    assert synth("--region", tmp_path / "region.png", output="file")[0] == 0
    assert synth("--region", "0,0.25,0.5,0.75")[0] == 0
    one, other = files(tmp_path / "run"), files(tmp_path / "file")
    same = [name for name in one if name.startswith("parts/")]
    assert len(same) == 21 and all(one[name] == other[name] for name in same)


@pytest.mark.parametrize(
    "region", ["0.1,0.2", "0,0,1,1.2", "0.5,0,0.5,1", "0,0.6,1,0.5", "0,0,nan,1"]
)
def test_mistakes(synth, anojax, parts, tmp_path, region):
    code, _, err = synth("--region", region)
    assert code == 2 and f"region is {region}" in err and "fractions" in err
    assert not (tmp_path / "run").exists()


def test_doctor_takes_them(anojax, parts):
    _, out, err = anojax("doctor", "--input", parts, "--region", "0,0,0.5,1")
    assert "region" not in out.split("foreground")[0] and "Traceback" not in err


def test_thin_ones_are_a_pixel():
    assert box_mask((0.99, 0.0, 1.0, 0.001), (16, 16)).sum() == 1
    assert parse_box("some/folder,with,commas") is None
    with pytest.raises(SettingError, match="left below right"):
        parse_box("1,0,0,1")
