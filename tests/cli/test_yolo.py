"""YOLO labels, read back by their format, are the masks they were made from."""

import json

import cv2
import numpy as np
import pytest
import yaml

from anojax.data.files import decode_png
from anojax.data.yolo import label_line, polygons


def rows(run):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def parse(text):
    """Class and corners of each line, by the format: ``class x y x y ...``."""
    for line in text.splitlines():
        number, *values = line.split()
        corners = np.array(values, float).reshape(-1, 2)
        assert len(corners) >= 3 and (0 <= corners).all() and (corners <= 1).all()
        yield int(number), corners


def filled(corners, size):
    """By the rule of even and odd, at the centers of the pixels."""
    (height, width), inside = size, np.zeros(size, bool)
    corners = corners * [width, height]
    ys, xs = np.mgrid[:height, :width] + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if y0 != y1:
            crosses = (y0 <= ys) != (y1 <= ys)
            inside ^= crosses & (xs < x0 + (ys - y0) * (x1 - x0) / (y1 - y0))
    return inside


def as_trained(corners, size):
    """As trainers draw them: whole pixels, filled with their outline."""
    canvas = np.zeros(size, np.uint8)
    points = (corners.astype(np.float32) * size[::-1]).astype(np.int32)
    cv2.fillPoly(canvas, [points], 1)
    return canvas > 0


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def united(mask, draw):
    text = "\n".join(label_line(0, p) for p in polygons(mask))
    parts = [draw(p, mask.shape[:2]) for _, p in parse(text)]
    return np.any(parts, axis=0)


def ring():
    ys, xs = np.mgrid[:40, :48]
    distance = np.hypot(ys - 19, xs - 23)
    return (distance < 16) & (distance > 6)


def blobs(seed, smooth):
    noise = np.random.default_rng(seed).normal(size=(48, 40)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), smooth) > 0.02


SHAPES = {
    "ring": ring(),
    "whole": np.ones((7, 9), bool),
    "at the border": np.pad(np.ones((5, 6), bool), ((0, 9), (7, 0))),
    "smooth": blobs(0, 4),
    "many holes": blobs(1, 1.5),
}


@pytest.mark.parametrize("name", SHAPES)
def test_polygons_are_the_mask(name):
    mask = SHAPES[name]
    found = np.uint8(mask)[..., None] * 255
    np.testing.assert_array_equal(united(found, filled), mask)
    assert overlap(united(found, as_trained), mask) > 0.95


@pytest.mark.parametrize("height, width", [(1, 1), (1, 2), (3, 1), (2, 2)])
def test_tiny_regions_are_boxes(height, width):
    mask = np.zeros((30, 40, 1), np.uint8)
    mask[8 : 8 + height, 39 - width : 39] = 255
    (corners,) = polygons(mask)
    assert len(corners) == 4
    for draw in (filled, as_trained):
        np.testing.assert_array_equal(united(mask, draw), mask[..., 0] > 0)


def test_noise_is_its_pixels():
    mask = np.random.default_rng(3).integers(0, 2, (20, 20, 1)).astype(np.uint8)
    np.testing.assert_array_equal(united(mask, filled), mask[..., 0] > 0)


@pytest.fixture
def run(synth, tmp_path):
    code, _, err = synth(
        *("--format", "mvtec,yolo,coco", "--set", "spot.empty=0.5", "--keep-empty"),
        method="spot,weave",
    )
    assert code == 0, err
    return tmp_path / "run"


def test_labels_of_a_run(run, anojax):
    folder = run / "parts/yolo"
    described = yaml.safe_load((folder / "data.yaml").read_text())
    assert described["names"] == {0: "spot", 1: "weave"}
    images = sorted((folder / described["train"]).rglob("*.png"))
    assert len(images) == len(rows(run)) == 14
    empty = 0
    for row in rows(run):
        image = run / row["image"].replace("/test/", "/yolo/images/")
        assert image.read_bytes() == (run / row["image"]).read_bytes()
        # The place in which trainers look.
        label = str(image).replace("/images/", "/labels/").replace(".png", ".txt")
        found = list(parse(open(label).read()))
        empty += row["mask"] is None
        assert bool(found) == (row["mask"] is not None)
        if found:
            mask = decode_png((run / row["mask"]).read_bytes())[..., 0] > 0
            drawn = np.any([filled(p, row["size"]) for _, p in found], axis=0)
            np.testing.assert_array_equal(drawn, mask)
            assert {described["names"][n] for n, _ in found} == {row["method"]}
    assert empty
    assert anojax("verify", run)[0] == 0


def files(run):
    return {p: p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", ["label", "image", "yaml", "extra"])
def test_what_was_changed_is_noticed_and_repaired(run, anojax, kind):
    before, folder = files(run), run / "parts/yolo"
    if kind == "label":
        (folder / "labels/weave/part3.txt").write_text("0 0 0 1 0 1 1\n")
    elif kind == "image":
        (folder / "images/weave/part3.png").unlink()
    elif kind == "yaml":
        (folder / "data.yaml").write_text("names: []\n")
    else:
        (folder / "labels/weave/part9.txt").write_text("")
    code, out, err = anojax("verify", run)
    assert code == 1 and "parts/yolo/" in out + err
    if kind != "extra":
        assert anojax("verify", run, "--repair")[0] == 0
        assert files(run) == before


def test_a_run_stopped_before_its_end_goes_on_and_can_be_replaced(run, synth, anojax):
    before = files(run)
    more = ("--format", "mvtec,yolo,coco", "--set", "spot.empty=0.5", "--keep-empty")
    (run / "finished.json").unlink()
    assert synth(*more, method="spot,weave")[0] == 0
    assert files(run) == before
    (run / "finished.json").unlink()
    code, _, err = synth("--overwrite", method="weave")
    assert code == 0, err
    assert (
        not (run / "parts/yolo").exists() and not (run / "parts/annotations").exists()
    )
    assert anojax("verify", run)[0] == 0


def test_without_links_images_are_copied(synth, tmp_path, monkeypatch, anojax):
    def none(*where):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", none)
    assert synth("--format", "yolo")[0] == 0
    run = tmp_path / "run"
    copy = run / "parts/yolo/images/spot/part0.png"
    assert copy.stat().st_nlink == 1
    assert anojax("verify", run)[0] == 0
