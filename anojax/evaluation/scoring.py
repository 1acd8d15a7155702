"""A detector over a test set: the one loop that everything that measures goes through."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile

import jax
import numpy as np
from jaxtyping import Bool, Float

from anojax.data.layouts import GOOD
from anojax.data.testset import TestSet
from anojax.detector import Detector, score_batch
from anojax.evaluation import detection
from anojax.types import PyTree

BATCH = 16


@dataclass(frozen=True)
class Scored:
    """What a detector says about a test set, beside the truth."""

    maps: Float[np.ndarray, "n h w"]
    masks: Bool[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    """Higher for more anomalous."""
    defects: tuple[str, ...]
    """Type of each image's defect, ``"good"`` for none."""

    def result(self) -> detection.Result:
        """Every measure, over all images and per type of defect."""
        labels = [int(kind != GOOD) for kind in self.defects]
        return detection.evaluate(
            self.maps, self.masks, self.scores, labels, self.defects
        )


@contextmanager
def scored(
    detector: Detector,
    variables: PyTree,
    parts: Iterable[TestSet],
    defects: Sequence[str],
    shape: tuple[int, int],
    *,
    batch_size: int = BATCH,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Scored]:
    """Score test images; maps and masks are kept in files for as long as the context
    lasts, for a test set may be larger than the memory.

    Args:
      detector: what is measured.
      variables: its calibrated variables.
      parts: the images with their truth, at most `batch_size` at a time.
      defects: types of all of them, in order.
      shape: their height and width.
      batch_size: images at a time.
      advance: told how many images have been scored.
    """
    size, count = (len(defects), *shape), len(defects)
    batch_size = min(batch_size, count)
    variables = jax.device_put(variables)
    with TemporaryFile() as one, TemporaryFile() as other:
        maps = np.memmap(one, np.float32, "w+", shape=size)
        masks = np.memmap(other, np.bool_, "w+", shape=size)
        scores, done = np.zeros(count), 0
        for part in parts:
            fresh = len(part.images)
            # Repeats fill the last batch, so that one compiled program serves all.
            full = np.resize(part.images, (batch_size, *part.images.shape[1:]))
            found, score = score_batch(detector, variables, full)
            here = slice(done, done + fresh)
            maps[here], masks[here] = np.asarray(found)[:fresh], part.masks
            scores[here] = np.asarray(score)[:fresh]
            done += fresh
            advance(fresh)
        yield Scored(maps, masks, scores, tuple(defects))


def in_parts(test: TestSet, size: int = BATCH) -> Iterator[TestSet]:
    """A test set that is in memory, `size` images at a time; the last may be fewer."""
    for begin in range(0, len(test.images), size):
        here = slice(begin, begin + size)
        yield TestSet(test.images[here], test.masks[here], test.defects[here])
