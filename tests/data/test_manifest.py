"""The log of a run under way, and what the manifest says about an image."""

import dataclasses
import json

import numpy as np
import pytest

from anojax.data.manifest import (
    FINISHED,
    MANIFEST,
    Progress,
    Row,
    contrast,
    finished,
    left_out_line,
    mark_finished,
    read_rows,
)
from anojax.data.measure import box
from anojax.errors import RunError


def test_box_has_exclusive_ends():
    mask = np.zeros((9, 12, 1), np.uint8)
    mask[2:5, 7:12] = 255
    assert box(mask) == [7, 2, 12, 5]
    assert box(np.zeros_like(mask)) is None


@pytest.mark.parametrize(("kind", "top"), [("uint8", 255), ("uint16", 65535)])
def test_contrast_is_a_fraction_of_the_range(kind, top):
    before, after = np.zeros((4, 4, 3), kind), np.zeros((4, 4, 3), kind)
    after[0] = top
    mask = np.zeros((4, 4, 1), np.uint8)
    assert contrast(before, after, mask) == 0
    mask[:2] = 255
    assert contrast(before, after, mask) == pytest.approx(0.5)


def test_a_new_log_starts_at_nothing(tmp_path):
    assert Progress(tmp_path).resume() == 0


def test_a_line_torn_by_a_kill_is_cut_off(tmp_path):
    log = Progress(tmp_path)
    log.resume()
    log.append(['{"a": 1}', '{"a": 2}'])
    with log.path.open("a") as file:
        file.write('{"a": 3')
    assert log.resume() == 2
    log.append(['{"a": 4}'])
    assert [json.loads(line)["a"] for line in log.path.read_text().splitlines()] == [
        *(1, 2, 4)
    ]


def test_only_whole_shards_count(tmp_path):
    log = Progress(tmp_path)
    log.resume()
    log.append([f'{{"a": {i}}}' for i in range(7)])
    assert log.resume(lambda done: done // 3 * 3) == 6
    assert len(log.path.read_text().splitlines()) == 6


def a_row(**changes):
    values = Row(
        *("s.png", "n.png", "i.png", "m.png", "spot", {}, 0, 1, 0, True, [9, 12]),
        *(0.1, [7, 2, 12, 5], 0.5, "aa", "bb"),
    )
    return dataclasses.replace(values, **changes).line()


def test_finishing_parts_images_from_what_was_left_out(tmp_path):
    log = Progress(tmp_path)
    log.resume()
    lines = [a_row(draw=1), left_out_line("s", "m", 4, "broken"), a_row(draw=2)]
    log.append(lines)
    written, left_out = log.finish()
    assert written == 2 and left_out[0]["reason"] == "broken"
    assert [row["draw"] for row in read_rows(tmp_path)] == [1, 2]
    assert finished(tmp_path) is None
    facts = {"images": 2, "redrawn": 2, "empty": 0, "left_out": 1}
    mark_finished(tmp_path, facts, [MANIFEST])
    found = finished(tmp_path)
    assert facts.items() <= found.items() and set(found["files"]) == {MANIFEST}
    assert not log.path.exists()


def test_a_finished_run_speaks_for_itself(tmp_path):
    mark_finished(tmp_path, {"images": 2, "redrawn": 2, "empty": 0, "left_out": 1})
    path = tmp_path / FINISHED
    whole = path.read_text()
    for damaged in ("", "{", "[]", "{}", whole.replace("2", "3", 1), "[" * 100_000):
        path.write_text(damaged)
        with pytest.raises(RunError, match="damaged"):
            finished(tmp_path)


@pytest.mark.parametrize("damage", [b"\0" * 40, b"[]\n", b"\xff\n", b"[" * 99_999])
def test_a_damaged_line_and_all_after_it_are_cut_off(tmp_path, damage):
    log = Progress(tmp_path)
    log.resume()
    log.append([f'{{"a": {i}}}' for i in range(9)])
    data = log.path.read_bytes()
    log.path.write_bytes(data[:18] + damage + data[27:])
    assert log.resume() == 2
    assert log.path.read_bytes() == data[:18]


def test_lines_that_do_not_tell_the_truth_are_cut_off(tmp_path):
    log = Progress(tmp_path)
    log.resume()
    log.append([f'{{"a": {i}}}' for i in (0, 1, 1, 2)])

    def true(lines):
        return next(n for n, line in enumerate(lines) if line["a"] != n)

    assert log.resume(whole=true) == 2
    assert len(log.path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "line",
    ["3", "null", "{}", a_row().replace("9", '"9"'), a_row().replace("true", "1")],
)
def test_a_line_of_another_kind_is_named(tmp_path, line):
    (tmp_path / MANIFEST).write_text(f"{a_row()}\n{line}\n")
    with pytest.raises(RunError, match="line 2"):
        list(read_rows(tmp_path))


def test_a_broken_manifest_names_the_line(tmp_path):
    (tmp_path / "manifest.jsonl").write_text(f"{a_row()}\nnonsense\n")
    with pytest.raises(RunError, match="line 2"):
        list(read_rows(tmp_path))


def test_a_missing_manifest_says_what_to_give(tmp_path):
    with pytest.raises(RunError, match="finished run"):
        list(read_rows(tmp_path))


def test_the_facts_of_version_0_1_0_have_todays_names(tmp_path):
    facts = {"pictures": 2, "redrawn": 1, "empty": 0, "left_out": 0, "hash": "x"}
    (tmp_path / "finished.json").write_text(json.dumps(facts))
    found = finished(tmp_path)
    assert found["images"] == 2 and "pictures" not in found
