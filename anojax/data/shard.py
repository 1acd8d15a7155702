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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anojax.data.containment import inside
from anojax.data.files import (
    Pixels,
    decode_png,
    encode_png,
    make_folder,
    sha256,
    temporary_name,
)
from anojax.data.manifest import Row
from anojax.data.plan import Final, Job, Made
from anojax.data.timings import timed_as
from anojax.data.write import Encoded, Ledger, Output, Paths, encode_pair
from anojax.errors import DataError, RunError

VERSION = "1.0.0"
SHARD_RECORDS = 1024
SPLITS = ("train", "test")
METADATA = ("features.json", "dataset_info.json", "label.labels.txt")


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


class _Records(NamedTuple):
    encoded: Encoded
    normal: bytes | None = None
    """Serialized record of the normal image, with the first job of each."""
    example: bytes | None = None


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
        self._ledger = self.ledger()

    @cached_property
    def images_per_shard(self) -> int:
        plan = self.output.plan
        return max(1, SHARD_RECORDS // (plan.draws_per_image * plan.each))

    @cached_property
    def ends(self) -> list[int]:
        """Number of jobs up to the end of each shard."""
        plan, step = self.output.plan, self.images_per_shard
        images = sum(plan.draws_of(i) > 0 for i in range(len(plan.images)))
        stops = [*range(step, images, step), len(plan.images)]
        return [plan.first_job(stop) for stop in stops]

    def shard_name(self, split: str, shard: int) -> str:
        return f"{self.name}-{split}.array_record-{shard:05}-of-{len(self.ends):05}"

    def folders(self) -> set[str]:
        return {self.folder.relative_to(self.output.run).as_posix()}

    def make_folders(self) -> None:
        make_folder(self.folder)

    def boundary(self, done: int) -> int:
        return max((end for end in self.ends if end <= done), default=0)

    def encode(self, made: Made) -> _Records:
        output, first = self.output, made.job.first_of_image
        if made.normal is None or (made.reason is not None and not first):
            return _Records(Encoded(None, output.left_out(made)))
        made, final = output.settled(made)
        normal = normal_sha256 = None
        if first:
            png = encode_png(final.normal)
            normal = self.normal_record(made, final.normal, png)
            normal_sha256 = sha256(png)
        if made.reason is not None:
            left_out = Encoded(None, output.left_out(made), normal_sha256)
            return _Records(left_out, normal)
        pngs = encode_pair(final)
        # Place and shard are known when the record is written.
        row = output.row(made, final, Paths("", "", ""), pngs)
        mask = pngs.mask or encode_png(final.mask)
        example = self.record(made, final, pngs.image, mask)
        return _Records(Encoded(row, None, normal_sha256), normal, example)

    def commit(self, job: Job, records: _Records) -> list[str]:
        if self.open_shard is None:
            number = self.shard_of(job)
            names = {split: self.shard_name(split, number) for split in SPLITS}
            self.open_shard = _Shard(self.folder, names, number)
        shard = self.open_shard
        for split, record in (("train", records.normal), ("test", records.example)):
            if record is not None:
                shard.write(split, record)
        row = self._ledger.enter(job, records.encoded)
        shard.lines.append(records.encoded.left_out if row is None else row.line())
        if job.index + 1 < self.ends[shard.number]:
            return []
        shard.close()
        self.open_shard = None
        return shard.lines

    def ledger(self) -> "ShardLedger":
        return ShardLedger(self)

    def shard_of(self, job: Job) -> int:
        """The number of the shard that a job's images are in."""
        return bisect.bisect_right(self.ends, job.index)

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
        for name in METADATA:
            yield f"{inside}/{name}"

    def jobs_in(self, name: str) -> Iterable[int]:
        found = re.fullmatch(r".*\.array_record-(\d+)-of-\d+", name)
        if found is None or (shard := int(found[1])) >= len(self.ends):
            return ()
        return range(self.ends[shard - 1] if shard else 0, self.ends[shard])

    def together(self, number: int) -> Iterable[int]:
        shard = bisect.bisect_right(self.ends, number)
        return range(self.ends[shard - 1] if shard else 0, self.ends[shard])

    def where(self, job: Job, row: dict[str, Any] | None) -> Paths | None:
        if row is None:
            return None
        return Paths(row["normal"], row["image"], row["image"])

    def normal_fits(self, name: str, made: Made, final: Final, png: bytes) -> bool:
        run = self.output.run
        # As it lies there: another version of zlib gives other bytes of the same mask.
        mask = read_pngs(run, name)[1]
        fits = self._normal_with(made, final.normal, png, mask) == read_record(
            run, name
        )
        return fits and not decode_png(mask).any()

    def record_problem(self, name: str, made: Made, final: Final) -> str | None:
        run = self.output.run
        found = read_record(run, name)
        if found == self.record(made, final, *read_pngs(run, name)):
            return None
        return "the record has another label, example id, draw or source"

    def normal_record(self, made: Made, own: Pixels, png: bytes) -> bytes:
        """The record of a normal image."""
        mask = encode_png(np.zeros((*own.shape[:2], 1), np.uint8))
        return self._normal_with(made, own, png, mask)

    def _normal_with(self, made: Made, own: Pixels, png: bytes, mask: bytes) -> bytes:
        final = Final(own, own, np.zeros((*own.shape[:2], 1), np.uint8))
        return self._serialize(made, final, png, mask, "good")

    def record(self, made: Made, final: Final, image: bytes, mask: bytes) -> bytes:
        """The record of a result whose images are these PNG files."""
        method = self.output.plan.methods[made.job.method].name
        return self._serialize(made, final, image, mask, method)

    @timed_as("encode")
    def _serialize(self, made: Made, final: Final, image, mask, label: str) -> bytes:
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
        source = self.output.plan.source(made.job.image)
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


class ShardLedger(Ledger):
    """Gives rows the places of their records: ``<file>#<number in the file>``."""

    def __init__(self, sink: TfdsSink):
        super().__init__(sink.output.run)
        self.sink, self.shard = sink, -1
        self.lengths = dict.fromkeys(SPLITS, 0)

    def enter(self, job: Job, encoded: Encoded) -> Row | None:
        sink, shard = self.sink, self.sink.shard_of(job)
        if shard != self.shard:
            self.shard, self.lengths = shard, dict.fromkeys(SPLITS, 0)
        self.lengths["train"] += encoded.normal_sha256 is not None
        row = super().enter(job, encoded)
        if row is None:
            return None
        self.lengths["test"] += 1
        inside = f"{sink.name}/{VERSION}"
        train, test = (
            f"{inside}/{sink.shard_name(split, shard)}#{self.lengths[split] - 1}"
            for split in SPLITS
        )
        mask = test if row.anomalous else None
        return dataclasses.replace(row, normal=train, image=test, mask=mask)


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
        self.lines: list[str] = []

    @timed_as("write")
    def write(self, split: str, record: bytes) -> None:
        self.writers[split].write(record)

    @timed_as("write")
    def close(self) -> None:
        for split, path in self.paths.items():
            self.writers[split].close()
            os.replace(temporary_name(path), path)


PLACE = re.compile(r"(.+\.array_record-\d+-of-\d+)#(\d+)")
"""A record as a manifest names it: ``<file>#<number in the file>``."""


def record_count(path: Path) -> int:
    """Number of records in an ArrayRecord file.

    Raises:
      RunError: it cannot be read.
    """
    with _reader(path) as reader:
        return reader.num_records()


def read_record(run: Path, place: str) -> bytes:
    """The record at ``"<file>#<number>"``, as it was serialized.

    Raises:
      RunError: there is no such record, or it is damaged.
    """
    found = PLACE.fullmatch(place)
    if found is None:
        raise RunError(f"'{place}' is no record of a TFDS data set")
    path, number = inside(run, found[1]), int(found[2])
    with _reader(path) as reader:
        count = reader.num_records()
        if number >= count:
            raise RunError(f"{path} has {count} records, and no number {number}")
        return reader.read([number])[0]


def read_pngs(run: Path, place: str) -> tuple[bytes, bytes]:
    """Image and mask of the record at ``"<file>#<number>"``, as PNG files.

    Raises:
      RunError: there is no such record, or it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        example = tf_example_pb2.Example.FromString(read_record(run, place))
        values = example.features.feature
        return tuple(values[name].bytes_list.value[0] for name in ("image", "mask"))
    except (DecodeError, IndexError) as error:
        raise RunError(f"{run / place} is damaged") from error


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """An open ArrayRecord file; its refusals are `RunError`."""
    from array_record.python.array_record_module import ArrayRecordReader

    if not path.is_file():
        raise RunError(f"{path} is missing")
    try:
        reader = ArrayRecordReader(str(path))
        try:
            yield reader
        finally:
            reader.close()
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        if isinstance(error, RunError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RunError(f"{path} is damaged ({reason[:100]})") from error
