"""A TFDS data set: read back by TFDS itself, without TensorFlow."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from anojax.core import Synthesizer
from anojax.data import shard
from anojax.data.files import encode_png
from anojax.data.manifest import Progress
from anojax.data.plan import Job, Made, Plan
from anojax.data.shard import TfdsSink, dataset_name, read_pngs, record_count
from anojax.data.write import Output, drain
from anojax.errors import DataError


@dataclass(frozen=True)
class Spot(Synthesizer):
    """Stands for its name; the images of these tests are made up."""

    name = "spot"

    def synthesize(self, params, key, inputs):
        raise NotImplementedError


def no_load(index):
    raise NotImplementedError


def no_bank(need, channels):
    raise NotImplementedError


def make_output(run, images=5, per_image=2):
    plan = Plan(
        methods=(Spot(),),
        images=tuple(Path(f"/p/{i}.png") for i in range(images)),
        seed=0,
        load=no_load,
        bank=no_bank,
        per_image=per_image,
    )
    return Output(run, "My Parts", plan, ({"side": 3},))


def make_results(plan, broken=()):
    for job in plan.jobs():
        if job.image in broken:
            yield Made(job, reason="broken")
            continue
        generator = np.random.default_rng(job.index)
        normal = np.random.default_rng(100 + job.image)
        mask = np.zeros((8, 6, 1), np.uint8)
        mask[2:4] = 255
        yield Made(
            job,
            job.index % 3,
            normal.integers(0, 255, (8, 6, 1), "uint8"),
            generator.integers(0, 255, (8, 6, 1), "uint8"),
            mask,
        )


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shard, "SHARD_RECORDS", 4)


def write(run, broken=(), only=None):
    output = make_output(run)
    sink = TfdsSink(output, size=(8, 6), channels=1, dtype=np.uint8)
    sink.make_folders()
    progress = Progress(run)
    start = progress.resume(sink.boundary)
    results = [m for m in make_results(output.plan, broken) if m.job.index >= start]
    drain(results[:only], sink, progress, order=range(start, 99), writers=2)
    if only is None:
        sink.finish()
    return sink, results


def files(sink):
    return {path.name: path.read_bytes() for path in sink.folder.iterdir()}


def test_tfds_reads_it_back(tmp_path):
    sink, results = write(tmp_path)
    tfds = shard.import_tfds()
    builder = tfds.builder_from_directory(str(sink.folder))
    assert builder.info.features["label"].names == ["good", "spot"]
    test, train = map(builder.as_data_source, ("test", "train"))
    assert (len(test), len(train)) == (10, 5)
    for record, made in zip(test, results, strict=True):
        np.testing.assert_array_equal(record["image"], made.image)
        np.testing.assert_array_equal(record["mask"], made.mask)
        assert record["example_id"] == made.job.example_id
        assert record["label"] == 1 and record["draw"] == made.draw
        assert record["source"] == f"/p/{made.job.image}.png".encode()
    for i, record in enumerate(train):
        np.testing.assert_array_equal(record["image"], results[2 * i].normal)
        assert not record["mask"].any() and record["label"] == 0


def test_neither_writing_nor_reading_loads_tensorflow(tmp_path):
    sink, _ = write(tmp_path)
    program = (
        "import sys, tensorflow_datasets as tfds;"
        f"tfds.builder_from_directory({str(sink.folder)!r}).as_data_source('test')[0];"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert "tensorflow" not in sys.modules


def test_rows_name_the_place_of_their_records(tmp_path):
    _, results = write(tmp_path)
    progress = Progress(tmp_path)
    progress.finish()
    from anojax.data.manifest import read_rows

    for row, made in zip(read_rows(tmp_path), results, strict=True):
        assert read_pngs(tmp_path, row["image"])[0] == encode_png(made.image)
        assert read_pngs(tmp_path, row["normal"])[0] == encode_png(made.normal)


def test_an_interrupted_run_continues_at_a_whole_shard(tmp_path):
    whole, _ = write(tmp_path / "whole")
    write(tmp_path / "part", only=7)
    part, results = write(tmp_path / "part")
    assert results[0].job.index == 4
    assert files(part) == files(whole)
    logs = [Progress(tmp_path / name).path.read_text() for name in ("whole", "part")]
    assert logs[0] == logs[1]


def test_a_shard_whose_images_are_all_broken_is_empty(tmp_path):
    sink, _ = write(tmp_path, broken=(2, 3))
    lengths = [
        record_count(sink.folder / sink.shard_name("test", i))
        for i in range(len(sink.ends))
    ]
    assert lengths == [4, 0, 2]
    tfds = shard.import_tfds()
    builder = tfds.builder_from_directory(str(sink.folder))
    assert len(builder.as_data_source("test")) == 6


def test_a_image_of_another_kind_is_refused(tmp_path):
    sink = TfdsSink(make_output(tmp_path), size=(8, 6), channels=3, dtype=np.uint8)
    with pytest.raises(DataError, match="--gray"):
        sink.encode(next(make_results(sink.output.plan)))


def test_count_below_the_number_of_images_needs_no_empty_shard(tmp_path):
    output = make_output(tmp_path)
    plan = Plan(
        methods=output.plan.methods,
        images=output.plan.images,
        seed=0,
        load=no_load,
        bank=no_bank,
        count=3,
    )
    sink = TfdsSink(
        Output(tmp_path, "c", plan, ({},)), size=(8, 6), channels=1, dtype=np.uint8
    )
    assert sink.ends == [3]
    assert isinstance(next(plan.jobs()), Job)


@pytest.mark.parametrize(
    ("category", "name"),
    [("magnetic_tile", "magnetic_tile"), ("My Parts", "my_parts"), ("01", "set_01")],
)
def test_names_that_tfds_allows(category, name):
    assert dataset_name(category) == name
