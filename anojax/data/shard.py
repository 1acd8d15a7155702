"""Runs as a TensorFlow Datasets folder of ArrayRecord files, without TensorFlow.

``tfds.builder_from_directory(folder).as_data_source("test")`` reads it back. Split
``train`` holds the normal images, split ``test`` the synthetic ones. A shard covers a
fixed range of normal images and appears whole, so that a killed run continues at the
next shard and ends with the same bytes.
"""

import bisect
import dataclasses
import logging
import os
import re
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anojax.data.files import Pixels, encode_png, make_folder, temporary_name
from anojax.data.manifest import Row
from anojax.data.pipeline import Final, Job, Made
from anojax.data.stages import stage
from anojax.data.write import Output, Paths, encode_pair, lost
from anojax.errors import DataError, RunError

VERSION = "1.0.0"
SHARD_RECORDS = 1024
SPLITS = ("train", "test")


def import_tfds() -> Any:
    """TensorFlow Datasets, without its advice about TensorFlow on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_datasets

    # absl's logger tells at every start that TensorFlow is absent.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tensorflow_datasets


def dataset_name(category: str) -> str:
    """The category as TFDS allows it: lower case letters, digits and underscores."""
    name = re.sub(r"[^a-z0-9]+", "_", category.lower()).strip("_")
    return name if name[:1].isalpha() else f"set_{name}".rstrip("_")


class _Encoded(NamedTuple):
    row: Row | None
    """None when the job gives no image."""
    left_out: str | None
    normal: bytes | None
    """Serialized record of the normal image, with the first job of each."""
    example: bytes | None


class TfdsSink:
    """Writes ``<run>/<name>/1.0.0/<name>-<split>.array_record-<i>-of-<n>``."""

    def __init__(
        self,
        output: Output,
        *,
        size: tuple[int | None, int | None],
        channels: int,
        dtype: type,
    ):
        self.output = output
        self.tfds = import_tfds()
        self.name = dataset_name(output.category)
        self.folder = output.run / self.name / VERSION
        methods = [synth.name for synth in output.plan.methods]
        features = self.tfds.features
        self.features = features.FeaturesDict(
            {
                "image": features.Image(shape=(*size, channels), dtype=dtype),
                "mask": features.Image(shape=(*size, 1)),
                "label": features.ClassLabel(names=["good", *methods]),
                "example_id": np.int64,
                "draw": np.int64,
                "source": features.Text(),
            }
        )
        self.channels, self.dtype = channels, np.dtype(dtype)
        self.open_shard: _Shard | None = None

    @cached_property
    def images_per_shard(self) -> int:
        plan = self.output.plan
        return max(1, SHARD_RECORDS // (plan.draws_per_image * len(plan.methods)))

    @cached_property
    def ends(self) -> list[int]:
        """Number of jobs up to the end of each shard."""
        plan, step = self.output.plan, self.images_per_shard
        images = sum(plan.draws_of(i) > 0 for i in range(len(plan.images)))
        stops = [*range(step, images, step), len(plan.images)]
        return [plan.first_job(stop) for stop in stops]

    def shard_name(self, split: str, shard: int) -> str:
        return f"{self.name}-{split}.array_record-{shard:05}-of-{len(self.ends):05}"

    def make_folders(self) -> None:
        make_folder(self.folder)

    def boundary(self, done: int) -> int:
        return max((end for end in self.ends if end <= done), default=0)

    def encode(self, made: Made) -> _Encoded:
        job, output = made.job, self.output
        if made.normal is None:
            return _Encoded(None, output.left_out(made), None, None)
        first_of_image = job.method == 0 and job.draw_of_image == 0
        if made.reason is not None:
            normal = None
            if first_of_image:
                normal = self._normal(made, output.normal(made))
            return _Encoded(None, output.left_out(made), normal, None)
        final = output.plan.final(made)
        if reason := lost(output.plan, made, final):
            made = dataclasses.replace(made, reason=reason)
            normal = self._normal(made, final.normal) if first_of_image else None
            return _Encoded(None, output.left_out(made), normal, None)
        pngs = encode_pair(final)
        # Place and shard are known when the record is written.
        row = output.row(made, final, Paths("", "", ""), pngs)
        mask = pngs.mask or encode_png(final.mask)
        example = self._serialize(final, pngs.image, mask, row.method, made)
        normal = self._normal(made, final.normal) if first_of_image else None
        return _Encoded(row, None, normal, example)

    def commit(self, job: Job, encoded: _Encoded) -> list[str]:
        if self.open_shard is None:
            number = bisect.bisect_right(self.ends, job.index)
            names = {split: self.shard_name(split, number) for split in SPLITS}
            self.open_shard = _Shard(self.folder, names, number)
        shard = self.open_shard
        if encoded.normal is not None:
            shard.write("train", encoded.normal)
            shard.normals[job.image] = shard.lengths["train"] - 1
        if encoded.row is None:
            shard.lines.append(encoded.left_out)
        else:
            shard.write("test", encoded.example)
            shard.lines.append(self._placed(encoded.row, job).line())
        if job.index + 1 < self.ends[shard.number]:
            return []
        shard.close()
        self.open_shard = None
        return shard.lines

    def finish(self) -> None:
        """Write features.json and dataset_info.json."""
        template = self.tfds.core.ShardedFileTemplate(
            dataset_name=self.name,
            filetype_suffix="array_record",
            data_dir=self.folder,
        )
        splits = []
        for split in SPLITS:
            paths = [
                self.folder / self.shard_name(split, i) for i in range(len(self.ends))
            ]
            splits.append(
                self.tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[record_count(path) for path in paths],
                    num_bytes=sum(path.stat().st_size for path in paths),
                    filename_template=template.replace(split=split),
                )
            )
        self.tfds.folder_dataset.write_metadata(
            data_dir=self.folder,
            features=self.features,
            split_infos=splits,
            version=VERSION,
            filename_template=template,
            check_data=False,  # the check needs TensorFlow
        )

    def files(self) -> Iterator[str]:
        inside = f"{self.name}/{VERSION}"
        for shard in range(len(self.ends)):
            for split in SPLITS:
                yield f"{inside}/{self.shard_name(split, shard)}"
        for name in ("features.json", "dataset_info.json", "label.labels.txt"):
            yield f"{inside}/{name}"

    def _placed(self, row: Row, job: Job) -> Row:
        """The row with the places of its records: ``<file>#<number in the file>``."""
        shard, inside = self.open_shard, f"{self.name}/{VERSION}"
        test, train = (self.shard_name(s, shard.number) for s in ("test", "train"))
        place = f"{inside}/{test}#{shard.lengths['test'] - 1}"
        return dataclasses.replace(
            row,
            image=place,
            mask=place if row.anomalous else None,
            normal=f"{inside}/{train}#{shard.normals[job.image]}",
        )

    def _normal(self, made: Made, own: Pixels) -> bytes:
        mask = np.zeros((*own.shape[:2], 1), np.uint8)
        final = Final(own, own, mask)
        return self._serialize(final, encode_png(own), encode_png(mask), "good", made)

    @stage("encode")
    def _serialize(self, final, image: bytes, mask: bytes, label: str, made) -> bytes:
        """A tf.train.Example with sorted keys: TFDS itself leaves their order open."""
        shape, dtype = final.image.shape, final.image.dtype
        if shape[-1] != self.channels or dtype != self.dtype:
            raise DataError(
                f"{self.output.plan.images[made.job.image]} has {shape[-1]} "
                f"channels of {dtype}, others have {self.channels} of {self.dtype}; "
                "a TFDS data set takes one kind: use --gray or --format mvtec"
            )
        from tensorflow_datasets.proto import tf_example_pb2

        # What `features.encode_example` and its serializer give, in a sixth of the time.
        example = tf_example_pb2.Example()
        values = example.features.feature
        source = str(self.output.plan.images[made.job.image])
        texts = {"image": image, "mask": mask, "source": source.encode()}
        for name, text in texts.items():
            values[name].bytes_list.value.append(text)
        numbers = {
            "label": self.features["label"].str2int(label),
            "example_id": -1 if label == "good" else made.job.example_id,
            "draw": 0 if label == "good" else made.draw,
        }
        for name, number in numbers.items():
            values[name].int64_list.value.append(number)
        return example.SerializeToString(deterministic=True)


class _Shard:
    """One file per split, under temporary names until they are whole."""

    def __init__(self, folder: Path, names: dict[str, str], number: int):
        from array_record.python.array_record_module import ArrayRecordWriter

        self.number = number
        self.paths = {split: folder / name for split, name in names.items()}
        # One record per group: readers fetch single records at random. A PNG is packed
        # already; packing it again doubles the time and saves nothing.
        self.writers = {
            split: ArrayRecordWriter(
                str(temporary_name(path)), "group_size:1,uncompressed"
            )
            for split, path in self.paths.items()
        }
        self.lengths = dict.fromkeys(names, 0)
        self.normals: dict[int, int] = {}
        self.lines: list[str] = []

    @stage("write")
    def write(self, split: str, record: bytes) -> None:
        self.writers[split].write(record)
        self.lengths[split] += 1

    @stage("write")
    def close(self) -> None:
        for split, path in self.paths.items():
            self.writers[split].close()
            os.replace(temporary_name(path), path)


def record_count(path: Path) -> int:
    """Number of records in an ArrayRecord file."""
    from array_record.python.array_record_module import ArrayRecordReader

    reader = ArrayRecordReader(str(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def read_pngs(run: Path, place: str) -> tuple[bytes, bytes]:
    """Image and mask of the record at ``"<file>#<number>"``, as PNG files.

    Raises:
      RunError: there is no such record.
    """
    from array_record.python.array_record_module import ArrayRecordReader
    from tensorflow_datasets.proto import tf_example_pb2

    name, _, number = place.rpartition("#")
    path = run / name
    if not path.is_file():
        raise RunError(f"{path} is missing")
    reader = ArrayRecordReader(str(path))
    try:
        record = reader.read([int(number)])[0]
    finally:
        reader.close()
    values = tf_example_pb2.Example.FromString(record).features.feature
    return values["image"].bytes_list.value[0], values["mask"].bytes_list.value[0]
