"""The report: what it counts, and that it needs nothing else."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np

from anojax.data.files import encode_png
from anojax.report import html


def make_run(run, methods=("spot", "weave"), each=5):
    (run / "p").mkdir(parents=True)
    normal = np.full((20, 30, 1), 60, np.uint8)
    mask = np.zeros((20, 30, 1), np.uint8)
    mask[5:10, 10:20] = 255
    (run / "p/n.png").write_bytes(encode_png(normal))
    (run / "p/i#1 50%.png").write_bytes(
        encode_png(np.where(mask > 0, 200, normal).astype("u1"))
    )
    (run / "p/m.png").write_bytes(encode_png(mask))
    row = {
        "source": "/home/me/x/a<b>.png", "normal": "p/n.png", "image": "p/i#1 50%.png",
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


CONFIG = {
    "request": {"data": {"input": "/home/me/x"}, "checkpoint": "/runs/a b,/runs/c"},
    "seed": 0,
}


def write(run, left_out=()):
    facts = {"input": "/home/me/x", "note": "left out 3 in /home/me/x/y"}
    return html.write_report(
        run, title="t", facts=facts, config=CONFIG, left_out=left_out
    )


class Page(HTMLParser):
    """What a browser would find: elements by their tags, with their attributes."""

    def __init__(self, run):
        super().__init__()
        self.text = (run / "report.html").read_text()
        self.found = []
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, tag):
        return [values for name, values in self.found if name == tag]


def test_counts_by_method(tmp_path):
    make_run(tmp_path)
    tallies = write(tmp_path)
    spot = tallies["spot"]
    assert (spot.images, spot.empty, spot.redrawn) == (5, 1, 2)
    assert spot.center[0] == (0.5, 0.375) and len(spot.area) == 4


def test_the_page_is_self_contained_and_escaped(tmp_path):
    make_run(tmp_path)
    write(tmp_path)
    found = Page(tmp_path)
    page = found.text
    assert not re.search(r'src="(?!data:)|url\(|@import|https?:', page)
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
    entry = {
        "source": "/home/me/x/y/bad.png",
        "reason": "/home/me/x/y/bad.png is damaged",
    }
    write(tmp_path, [entry | {"method": m} for m in ("spot", "weave")])
    page = (tmp_path / "report.html").read_text()
    assert "Left out: 2" in page and page.count("bad.png is damaged") == 1
    assert "<td>x/y/bad.png</td>" in page and "/home" not in page


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


def test_links_lead_to_the_files(tmp_path):
    make_run(tmp_path)
    write(tmp_path)
    links = [link["href"] for link in Page(tmp_path).all("a")]
    assert len(links) == 3 * 8
    assert all((tmp_path / unquote(link)).is_file() for link in links)
    assert not any(set(link) & set("# ") or link.startswith("/") for link in links)


def test_every_image_has_words_of_its_own(tmp_path):
    make_run(tmp_path)
    write(tmp_path)
    words = [image["alt"] for image in Page(tmp_path).all("img")]
    assert len(set(words)) == len(words) == 4 * 8
    assert "difference of a<b>.png by weave, example 3" in words


def test_no_absolute_path_is_in_the_page(tmp_path):
    make_run(tmp_path)
    write(tmp_path, [{"source": "/else/z.png", "reason": "why", "method": "spot"}])
    page = Page(tmp_path).text
    for folder in ("/home", "/runs", "/else", str(tmp_path)):
        assert folder not in page, folder
    assert "<td>x</td>" in page and "left out 3 in x/y" in page
    assert re.search("checkpoint: .{0,5}a b,c", page) and "input: x" in page


def test_figures_say_what_they_are_sorted_by(tmp_path):
    make_run(tmp_path)
    write(tmp_path)
    page = Page(tmp_path)
    keys = {option["value"].lstrip("-") for option in page.all("option")}
    figures = [each for each in page.all("figure") if "data-of" in each]
    assert keys == {"place", "contrast", "area"}
    for each in figures:
        assert all(float(each[f"data-{key}"]) >= 0 for key in keys)
    assert [each["data-of"] for each in figures] == 4 * ["spot"] + 4 * ["weave"]
    # What white means in the difference: 200 - 60.
    assert page.text.count("change 140 of 255 levels") == 8
