"""COCO instances are what the other side's own reader finds in the masks."""

import json

import numpy as np
import pytest

from anojax.data.coco import instances
from anojax.data.files import decode_png


def rows(run):
    text = (run / "manifest.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_masks(synth, anojax, tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    code, _, err = synth(
        *("--format", "mvtec,coco", "--set", "spot.empty=0.5", "--keep-empty"),
        method="spot,weave",
    )
    assert code == 0, err
    run = tmp_path / "run"
    found = coco.COCO(str(run / "parts/annotations/instances_test.json"))
    assert [k["name"] for k in found.loadCats(found.getCatIds())] == ["spot", "weave"]
    assert len(found.imgs) == len(rows(run)) == 14
    empty = 0
    for number, row in enumerate(rows(run), 1):
        image = found.loadImgs(number)[0]
        assert (run / "parts" / image["file_name"]) == run / row["image"]
        marks = found.loadAnns(found.getAnnIds(imgIds=number))
        union = np.zeros(row["size"], np.uint8)
        for mark in marks:
            one = found.annToMask(mark)
            assert one.sum() == mark["area"] and not (union & one).any()
            ys, xs = np.nonzero(one)
            x, y, w, h = mark["bbox"]
            assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (
                x,
                y,
                x + w,
                y + h,
            )
            assert found.cats[mark["category_id"]]["name"] == row["method"]
            union |= one
        empty += row["mask"] is None
        mask = np.zeros_like(union)
        if row["mask"] is not None:
            mask = decode_png((run / row["mask"]).read_bytes())[..., 0] > 0
        np.testing.assert_array_equal(union, mask)
    assert empty
    assert anojax("verify", run)[0] == 0
    (run / "parts/annotations/instances_test.json").unlink()
    assert anojax("verify", run)[0] == 1
    assert anojax("verify", run, "--repair")[0] == 0


def test_regions_are_instances():
    mask = np.zeros((9, 9, 1), np.uint8)
    mask[:2, :2] = mask[4:6, 4:6] = mask[6, 6] = 255
    assert [one["area"] for one in instances(mask)] == [4, 5]
    assert not list(instances(np.zeros_like(mask)))


@pytest.mark.parametrize("given", ["tfds,coco", "mvtec,tfds", "cocoa", "coco,coco"])
def test_formats_that_do_not_go_together(synth, tmp_path, given):
    code, _, err = synth("--format", given)
    assert code == 2 and ("coco" in err or "cocoa" in err)
    assert not (tmp_path / "run").exists()
