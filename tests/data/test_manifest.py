"""The log of a run under way, and what the manifest says about an image."""

import json

import numpy as np
import pytest

from anojax.data.manifest import (
    Progress,
    box,
    contrast,
    finished,
    left_out_line,
    mark_finished,
    plan_files,
    planned_files,
    read_rows,
)
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


def test_finishing_parts_images_from_what_was_left_out(tmp_path):
    log = Progress(tmp_path)
    log.resume()
    log.append(['{"image": 1}', left_out_line("s", "m", 4, "broken"), '{"image": 2}'])
    written, left_out = log.finish()
    assert written == 2 and left_out[0]["reason"] == "broken"
    assert [row["image"] for row in read_rows(tmp_path)] == [1, 2]
    assert finished(tmp_path) is None
    mark_finished(tmp_path, {"images": 2})
    assert finished(tmp_path) == {"images": 2}
    assert not log.path.exists()


def test_a_broken_manifest_names_the_line(tmp_path):
    (tmp_path / "manifest.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(RunError, match="line 2"):
        list(read_rows(tmp_path))


def test_a_missing_manifest_says_what_to_give(tmp_path):
    with pytest.raises(RunError, match="finished run"):
        list(read_rows(tmp_path))


def test_planned_files_end_with_the_configuration(tmp_path):
    plan_files(tmp_path, ["a.png", "b.png", "a.png"])
    plan_files(tmp_path, ["never written twice"])
    names = planned_files(tmp_path)
    assert names[:2] == ["a.png", "b.png"] and names[-1] == "config.yaml"
