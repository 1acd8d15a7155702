"""Batches for training: deterministic, divided by process, resumable anywhere.

Position p of the stream is example ``p``: its image follows from p and the seed
alone, so a run can continue at any position, with another batch size or on another
number of hosts. Every visit of an image has its own example id, ``visit * images +
image``; in the first epoch it is the image's number, as in `anojax synth`, and the
anomaly is the same. Synthesis itself runs inside the training step, on the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import grain
import jax
import numpy as np

from anojax.errors import AnojaxError, DataError
from anojax.task import Examples
from anojax.types import Inputs, Synthesis


@runtime_checkable
class Source(Protocol):
    """Images by number: a list, a folder, an archive."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Inputs | tuple[Inputs, Synthesis]:
        """One image without a batch axis, numpy, images and masks as uint8; with
        the anomaly made from it where anomalies are precomputed."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Images that are already decoded: every array with a leading axis N."""

    inputs: Inputs

    def __len__(self) -> int:
        return len(self.inputs.image)

    def __getitem__(self, index: int) -> Inputs:
        return jax.tree.map(lambda x: x[index], self.inputs)


@dataclass(frozen=True)
class Stream:
    """An endless stream of batches over a source.

    Every epoch visits every image once, in an order that depends on the seed and the
    epoch only. Batches may straddle epochs; none is ever short.
    """

    source: Source
    batch_size: int
    """Of all processes together."""
    seed: int = 0
    shuffle: bool = True
    process: int = 0
    processes: int = 1
    threads: int = 4
    """That read ahead; 0 reads on request."""
    ahead: int = 4
    """Batches that are read ahead, at most."""

    def __post_init__(self):
        if not len(self.source):
            raise DataError("there are no images to train on")
        if self.batch_size < 1 or self.batch_size % self.processes:
            raise AnojaxError(
                f"batch_size is {self.batch_size}, which does not divide over "
                f"{self.processes} processes"
            )

    def locate(self, position: int) -> tuple[int, int]:
        """Position in the stream -> (example id, number of the image).

        Raises:
          AnojaxError: all 2**32 example ids are used up.
        """
        count = len(self.source)
        visit, place = divmod(position, count)
        image = int(_order(count, self.seed, visit)[place]) if self.shuffle else place
        example = visit * count + image
        if example >= 2**32:
            raise AnojaxError(
                f"position {position} is beyond the last example id, 2**32 - 1; "
                "continue with another seed and init_from"
            )
        return example, image

    def batches(self, position: int = 0, group: int = 1) -> Iterator[Examples]:
        """Batches from `position` on, in groups: leading axes ``[group, B, ...]``.

        B is the batch of this process: rows ``process * B`` to ``(process + 1) * B``
        of the whole batch.
        """
        own = self.batch_size // self.processes
        skip = self.process * own

        def load(number):
            step, row = divmod(int(number), own)
            return self._load(position + step * self.batch_size + skip + row)

        rows = grain.MapDataset.range(_FOREVER).map(load)
        grouped = rows.batch(own).batch(group)
        options = grain.ReadOptions(
            num_threads=self.threads, prefetch_buffer_size=self.ahead * self.threads
        )
        return iter(grouped.to_iter_dataset(options))

    def _load(self, position: int) -> Examples:
        example, image = self.locate(position)
        found = self.source[image]
        inputs, precomputed = found if isinstance(found, tuple) else (found, None)
        return Examples(inputs=inputs, ids=np.uint32(example), precomputed=precomputed)


# Far more batches than ids, and still a length that grain can count.
_FOREVER = 2**40


@lru_cache(maxsize=4)
def _order(count: int, seed: int, visit: int) -> np.ndarray:
    # Raw bits and a stable sort: unlike Generator.permutation, numpy promises that
    # these never change between versions.
    bits = np.random.Philox(key=[seed, visit]).random_raw(count)
    return np.argsort(bits, kind="stable")
