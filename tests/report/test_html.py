"""The report: what it counts, and that it needs nothing else."""

import json
import re

import numpy as np

from anojax.data.files import encode_png
from anojax.report import html


def make_run(run, methods=("spot", "weave"), each=5):
    (run / "p").mkdir(parents=True)
    normal = np.full((20, 30, 1), 60, np.uint8)
    mask = np.zeros((20, 30, 1), np.uint8)
    mask[5:10, 10:20] = 255
    (run / "p/n.png").write_bytes(encode_png(normal))
    (run / "p/i.png").write_bytes(
        encode_png(np.where(mask > 0, 200, normal).astype("u1"))
    )
    (run / "p/m.png").write_bytes(encode_png(mask))
    row = {
        "source": "/x/a<b>.png", "normal": "p/n.png", "image": "p/i.png",
        "mask": "p/m.png", "size": [20, 30], "area": 0.08, "contrast": 0.5,
        "box": [10, 5, 20, 10], "anomalous": True, "settings": {}, "seed": 0,
        "sha256": "", "mask_sha256": "",
    }  # fmt: skip
    empty = {"anomalous": False, "mask": None, "box": None, "area": 0.0}
    lines = [
        row
        | {"method": method, "example_id": i, "draw": i % 2}
        | (empty if i == 4 else {})
        for i in range(each)
        for method in methods
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "manifest.jsonl").write_text(text)


def write(run, left_out=()):
    return html.write_report(
        run, title="t", facts={"k": "v"}, config_text="seed: 0", left_out=left_out
    )


def test_counts_by_method(tmp_path):
    make_run(tmp_path)
    tallies = write(tmp_path)
    spot = tallies["spot"]
    assert (spot.images, spot.empty, spot.redrawn) == (5, 1, 2)
    assert spot.center[0] == (0.5, 0.375) and len(spot.area) == 4


def test_the_page_is_self_contained_and_escaped(tmp_path):
    make_run(tmp_path)
    write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "a&lt;b&gt;.png" in page and "a<b>.png" not in page
    assert page.count("<figure data-of") == 8
    assert 'data-method="weave"' in page and "seed: 0" in page


def test_the_page_does_not_depend_on_when_it_was_made(tmp_path):
    make_run(tmp_path)
    write(tmp_path)
    first = (tmp_path / "report.html").read_bytes()
    write(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first


def test_images_left_out_are_listed_once(tmp_path):
    make_run(tmp_path)
    entry = {"source": "/x/bad.png", "reason": "it is damaged"}
    write(tmp_path, [entry | {"method": m} for m in ("spot", "weave")])
    page = (tmp_path / "report.html").read_text()
    assert "Left out: 2" in page and page.count("it is damaged") == 1


def test_samples_spread_evenly_over_the_run(tmp_path):
    make_run(tmp_path, methods=("spot",), each=200)
    ids = [row["example_id"] for row in html.samples(tmp_path, 5)]
    assert len(ids) == 5 and ids[0] == 0 and ids[-1] == 199
    assert max(np.diff(ids)) < 60


def test_a_method_without_images_says_so(tmp_path):
    make_run(tmp_path, methods=("spot",), each=5)
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    (tmp_path / "manifest.jsonl").write_text(lines[4] + "\n")
    write(tmp_path)
    page = " ".join((tmp_path / "report.html").read_text().split())
    assert page.count(": no images") == 2 and "1 images, 0 redrawn, 1 empty" in page
