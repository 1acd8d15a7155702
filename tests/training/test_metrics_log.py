"""The log: JSON lines and CSV agree, and continue without repeating a step."""

import csv
import json

import pytest

from anojax.errors import AnojaxError, RunError
from anojax.training.metrics_log import MetricsLog, read


def rows_of_csv(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_both_files_hold_every_row(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(1, {"loss": 0.5})
    log.write(2, {"loss": 0.25})
    log.write(2, {"eval/auroc": 0.9})
    log.close()
    assert read(tmp_path / "metrics.jsonl") == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25},
        {"step": 2, "eval/auroc": 0.9},
    ]
    table = rows_of_csv(tmp_path)
    assert table[1] == {"step": "2", "loss": "0.25", "eval/auroc": ""}
    assert table[2] == {"step": "2", "loss": "", "eval/auroc": "0.9"}


def test_continuing_drops_what_was_lost(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write(step, {"loss": step})
    again = MetricsLog(tmp_path, step=2)
    again.write(3, {"loss": 30})
    assert [r["loss"] for r in read(tmp_path / "metrics.jsonl")] == [1, 2, 30]
    assert [r["loss"] for r in rows_of_csv(tmp_path)] == ["1.0", "2.0", "30.0"]


def test_a_line_cut_short_is_passed_over_and_a_damaged_one_is_named(tmp_path):
    MetricsLog(tmp_path).write(1, {"loss": 1})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 2, "lo')
    assert len(read(path)) == 1
    path.write_text("{bad\n" + whole)
    with pytest.raises(RunError, match="line 1 is no JSON"):
        MetricsLog(tmp_path)


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(AnojaxError, match="needs tensorboardX"):
        MetricsLog(tmp_path, tensorboard=True)


def test_numbers_are_plain(tmp_path):
    MetricsLog(tmp_path).write(1, {"loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None


def test_tensorboard_holds_every_number(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    log = MetricsLog(tmp_path, tensorboard=True)
    log.write(1, {"loss": 0.5})
    log.write(2, {"loss": 0.25, "eval/auroc": 0.75})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, found = file.read_bytes(), []
    while data:  # TFRecord: length, its checksum, the message, its checksum
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    assert found == [(1, "loss", 0.5), (2, "loss", 0.25), (2, "eval/auroc", 0.75)]
