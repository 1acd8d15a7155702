"""Checkpoints on disk: what is kept, what comes back, what is refused."""

import shutil

import jax
import numpy as np
import pytest

from anojax.errors import CheckpointError
from anojax.task import TrainState
from anojax.training import checkpoint
from anojax.training.checkpoint import Checkpoints, Keep, Record


def state(step=0, width=3, ema=True):
    weights = {"conv": {"kernel": np.full((2, width), step, np.float32)}}
    average = {"conv": {"kernel": np.full((2, width), -step, np.float32)}}
    moments = (np.full(2, step, np.float32), np.int32(step))
    return TrainState(
        weights,
        {"mean": np.full(width, 0.5, np.float32)},
        moments,
        average if ema else None,
        np.asarray(step, np.int32),
    )


def save(folder, scores, **options):
    writer = Checkpoints(folder, Keep(**options))
    for step, score in scores.items():
        now = state(step)
        metrics = None if score is None else {"auroc": score}
        shapes = checkpoint.shapes_of(now)
        writer.save(
            Record("toy", step, 8 * step, (0, 7), shapes, {"a": 1}, metrics), now
        )
    writer.close()


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "run", {2: None, 4: None})
    return tmp_path / "run"


def test_everything_comes_back(folder):
    back, record = checkpoint.restore(folder, state(), method="toy")
    jax.tree.map(np.testing.assert_array_equal, back, state(4))
    assert isinstance(back.opt_state, tuple)
    assert (record.step, record.position, record.key) == (4, 32, (0, 7))
    assert record.config == {"a": 1}


def test_the_last_and_the_best_are_kept(tmp_path):
    scores = {1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: 0.6}
    save(tmp_path / "high", scores, best="auroc")
    assert checkpoint.steps(tmp_path / "high") == [2, 5]
    save(tmp_path / "high", {6: 0.8}, best="auroc")  # a later process remembers
    assert checkpoint.steps(tmp_path / "high") == [2, 6]
    save(tmp_path / "low", scores, best="auroc", lowest=True, last=2)
    assert checkpoint.steps(tmp_path / "low") == [1, 4, 5]


def test_finished_variables(tmp_path):
    given = {"params": {"w": np.eye(2, dtype=np.float32)}, "density": {"m": np.ones(3)}}
    for _ in range(2):  # the second replaces the first
        checkpoint.save_variables(
            tmp_path / "model", given, method="toy", config={"b": [1]}
        )
    back, record = checkpoint.load_variables(tmp_path / "model")
    jax.tree.map(np.testing.assert_array_equal, back, given)
    assert (record.method, record.config) == ("toy", {"b": [1]})


def refused(folder, words, template=None, method="toy", step=None):
    with pytest.raises(CheckpointError, match=words) as caught:
        template = state() if template is None else template
        checkpoint.restore(folder, template, method=method, step=step)
    assert "\n" not in str(caught.value)


def test_missing(folder, tmp_path):
    refused(tmp_path / "nowhere", "no checkpoint folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no checkpoint")
    refused(folder, "no finished step 3; it has 4", step=3)


def test_of_another_method(folder):
    refused(folder, "is of method 'toy', not 'nsa'", method="nsa")


def test_of_another_shape(folder):
    words = r"params/conv/kernel is \(2, 3\), here \(2, 5\); statistics"
    refused(folder, words, template=state(width=5))
    refused(folder, "ema/conv/kernel is not wanted here", template=state(ema=False))


def test_half_written(folder):
    shutil.copytree(folder / "4", folder / "6")
    (folder / "6" / "_CHECKPOINT_METADATA").unlink()  # killed before the end
    assert checkpoint.steps(folder) == [4]
    shutil.rmtree(folder / "4" / "state")
    refused(folder, "half-written or damaged")
    (folder / "4" / "record" / "metadata").write_text("{")
    refused(folder, "half-written or damaged")
    shutil.rmtree(folder / "4")
    refused(folder, "holds only the unfinished 6")


def test_a_flipped_bit_is_noticed(folder, tmp_path):
    """Anywhere in the newest checkpoint: refused, or without any effect."""
    files = sorted(p for p in (folder / "4").rglob("*") if p.is_file())
    assert files
    refused_ones = 0
    for path in files:
        data = path.read_bytes()
        for place in {0, len(data) // 3, len(data) // 2, len(data) - 1}:
            if not data:
                continue
            changed = bytearray(data)
            changed[place] ^= 4
            path.write_bytes(bytes(changed))
            try:
                back, record = checkpoint.restore(folder, state(), method="toy", step=4)
            except CheckpointError:
                refused_ones += 1
                continue
            jax.tree.map(np.testing.assert_array_equal, back, state(4))
            assert (record.step, record.position, record.config) == (4, 32, {"a": 1})
        path.write_bytes(data)
    assert refused_ones > len(files)


def test_a_full_disk_is_one_sentence(tmp_path):
    """The system allows files of no more than a few bytes."""
    resource = pytest.importorskip("resource")
    now = state(3)
    record = Record("toy", 3, 24, (0, 7), checkpoint.shapes_of(now), {})
    writer = Checkpoints(tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        with pytest.raises(CheckpointError, match="make room"):
            writer.save(record, now)
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not checkpoint.steps(tmp_path / "run")
