"""Detection measures that depend on the order of the scores only.

All come from one sweep over the distinct scores, from the highest down: a prediction is
positive where its score reaches the threshold. Tied scores are one step of the sweep.

* AUROC: trapezoid of the ROC, i.e. P(s+ > s-) + P(s+ = s-) / 2.
* AP: sum of (change of recall) x precision, without interpolation (scikit-learn's).
* AUPR: trapezoid of the same curve from precision 1 at recall 0 (anomalib's).
* F1-max: the largest 2 P R / (P + R) over all thresholds.
* AUPRO (Bergmann et al., CVPR 2020): mean overlap of the 8-connected true regions
  against the false positive rate over the background of all images, by trapezoid up
  to a limit (interpolated there), divided by the limit.

Without both kinds, normal and anomalous, all are NaN.
"""

import math
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Shaped
from scipy import ndimage

from anojax.errors import DataError

NAN = float("nan")
EIGHT = np.ones((3, 3), int)
RANGES = 1 << 16
"""Ranges of the sorted float32 numbers that share their upper 16 bits."""
GRID = 400
"""Resolution of the curves kept for drawing; the areas are exact."""


@dataclass(frozen=True)
class Curve:
    """Points of the sweep, thinned for drawing; equally long arrays."""

    false_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    overlap: np.ndarray
    """Mean overlap of the regions; zeros where regions were not requested."""


@dataclass(frozen=True)
class Ranking:
    """What the order of the scores says. Measures lie in [0, 1], or are NaN."""

    negatives: int
    positives: int
    auroc: float = NAN
    ap: float = NAN
    aupr: float = NAN
    f1_max: float = NAN
    aupro: float = NAN
    curve: Curve | None = field(default=None, compare=False)


def rank(scores: Sequence | np.ndarray, labels: Sequence | np.ndarray) -> Ranking:
    """Measures of `scores` ``[n]`` against `labels` ``[n]``, True where anomalous.

    Higher scores mean more anomalous; they are compared as float64.

    Raises:
      DataError: lengths differ, or a score is NaN.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    if scores.shape != labels.shape:
        raise DataError(f"{scores.size} scores for {labels.size} labels; need as many")
    _reject_nan(scores)
    sweep = _Sweep(int((~labels).sum()), int(labels.sum()), 0, 1.0)
    if scores.size:
        steps = _merge([_Steps(-scores, ~labels, labels, np.zeros(scores.size))])
        sweep.update(steps)
    return sweep.result()


class PixelScores:
    """Scores of the pixels of many images, ranked exactly in bounded memory.

    Every image is sorted when it is added and lies in a temporary file (8 bytes per
    pixel). The sweep merges the sorted images by ranges of scores, each of at most
    `block_px` pixels; a range of one 65,536th of all float32 numbers holds no more
    distinct ones, so memory stays bounded however many scores are tied.
    """

    def __init__(self, *, block_px: int = 1 << 21, folder: str | None = None):
        self.block_px = block_px
        self._file = tempfile.TemporaryFile(dir=folder)
        weakref.finalize(self, self._file.close)
        self._sizes: list[int] = []
        self._regions: list[int] = []
        self._defect_px: list[int] = []
        self._region_px = [math.inf]  # index 0 is the background, of weight zero

    def add(
        self, scores: Shaped[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
    ) -> None:
        """Append one image. Scores count as float32; NaN raises `DataError`."""
        scores = np.asarray(scores, np.float32)
        _reject_nan(scores)
        regions, count = ndimage.label(mask, EIGHT)
        px = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        regions = np.where(regions > 0, regions + (len(self._region_px) - 1), 0)
        keys = _descending_keys(scores.ravel())
        order = np.argsort(keys)
        self._file.write(keys[order].tobytes())
        self._file.write(regions.ravel()[order].astype(np.uint32).tobytes())
        self._region_px.extend(px.tolist())
        self._sizes.append(keys.size)
        self._regions.append(count)
        self._defect_px.append(int(px.sum()))

    def rank(
        self, images: Sequence[int] | None = None, *, fpr_limit: float = 0.3
    ) -> Ranking:
        """Measures over the pixels of `images` (indices; default: all)."""
        chosen = range(len(self._sizes)) if images is None else images
        total = sum(self._sizes[i] for i in chosen)
        positives = sum(self._defect_px[i] for i in chosen)
        regions = sum(self._regions[i] for i in chosen)
        sweep = _Sweep(total - positives, positives, regions, fpr_limit)
        if sweep.defined:
            for steps in self._blocks(self._runs(chosen)):
                sweep.update(steps)
        return sweep.result()

    def _runs(self, chosen: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Sorted keys and region numbers of every image, as views of the file."""
        self._file.flush()
        stored = np.memmap(self._file, np.uint32, "r")
        starts = 2 * np.concatenate([[0], np.cumsum(self._sizes, dtype=np.int64)])
        runs = []
        for i in chosen:
            keys = stored[starts[i] : starts[i] + self._sizes[i]]
            runs.append((keys, stored[starts[i] + self._sizes[i] : starts[i + 1]]))
        return runs

    def _blocks(self, runs: list[tuple[np.ndarray, np.ndarray]]) -> Iterator["_Steps"]:
        """The distinct scores in falling order, in blocks."""
        weights = 1 / np.asarray(self._region_px)
        edges = np.arange(1, RANGES, dtype=np.uint32) << 16
        filled = np.zeros(RANGES, np.int64)
        for keys, _ in runs:
            start = np.searchsorted(keys, edges)
            filled += np.diff(start, prepend=0, append=keys.size)
        firsts = _groups(filled, self.block_px)
        inner = np.asarray(firsts[1:], np.uint32) << 16
        # Where in each run every block begins.
        starts = [np.searchsorted(keys, inner) for keys, _ in runs]
        bounds = [
            np.concatenate([[0], start, [keys.size]])
            for start, (keys, _) in zip(starts, runs, strict=True)
        ]
        for block in range(len(firsts)):
            pending, waiting = [], 0
            for bound, (keys, regions) in zip(bounds, runs, strict=True):
                low, high = bound[block], bound[block + 1]
                region = regions[low:high]
                pending.append(
                    _Steps(keys[low:high], region == 0, region > 0, weights[region])
                )
                waiting += high - low
                if waiting > self.block_px:
                    pending = [_merge(pending)]
                    waiting = pending[0].key.size
            if waiting:
                yield _merge(pending)


@dataclass(frozen=True)
class _Steps:
    """Scores as keys in rising order (highest score first), and what each brings."""

    key: np.ndarray
    negatives: np.ndarray
    positives: np.ndarray
    weight: np.ndarray
    """Sum over the true pixels of 1 / size of their region."""


def _merge(parts: list[_Steps]) -> _Steps:
    """One entry per distinct key, in rising order."""
    key = np.concatenate([p.key for p in parts])
    order = np.argsort(key)
    key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))

    def total(name: str, dtype: type) -> np.ndarray:
        values = np.concatenate([getattr(p, name) for p in parts])[order]
        return np.add.reduceat(values, starts, dtype=dtype)

    return _Steps(
        key[starts],
        total("negatives", np.int64),
        total("positives", np.int64),
        total("weight", np.float64),
    )


def _groups(filled: np.ndarray, limit: int) -> list[int]:
    """First range of every block: each of at most `limit` pixels, or of one range."""
    firsts, held = [0], 0
    for i in np.flatnonzero(filled):
        if held and held + filled[i] > limit:
            firsts.append(int(i))
            held = 0
        held += filled[i]
    return firsts


def _descending_keys(scores: np.ndarray) -> np.ndarray:
    """uint32 keys that rise as float32 scores fall; equal scores have equal keys."""
    bits = (scores + np.float32(0)).view(np.uint32)  # the sum turns -0 into 0
    sign = np.uint32(1 << 31)
    return np.where(bits & sign, bits, ~(bits | sign))


def _reject_nan(scores: np.ndarray) -> None:
    if np.isnan(scores).any():
        raise DataError(
            f"{np.isnan(scores).sum()} of {scores.size} scores are NaN; "
            "a detector must give a number everywhere: check its training loss"
        )


class _Sweep:
    """Running sums of all measures, from the highest score down."""

    def __init__(self, negatives: int, positives: int, regions: int, limit: float):
        self.negatives, self.positives = negatives, positives
        self.regions, self.limit = regions, limit
        self.auroc = self.ap = self.aupr = self.f1_max = self.aupro = 0.0
        self.last = (0, 0, 0.0, 1.0)  # false and true positives, weight, precision
        self.points = [np.array([[0.0], [0.0], [1.0], [0.0]])]

    @property
    def defined(self) -> bool:
        return self.negatives > 0 and self.positives > 0

    def update(self, steps: _Steps) -> None:
        """Take the next lower scores into account."""
        if not self.defined:
            return
        fp0, tp0, w0, p0 = self.last
        fp = np.concatenate([[fp0], fp0 + np.cumsum(steps.negatives)])
        tp = np.concatenate([[tp0], tp0 + np.cumsum(steps.positives)])
        weight = np.concatenate([[w0], w0 + np.cumsum(steps.weight)])
        precision = np.concatenate([[p0], tp[1:] / (tp[1:] + fp[1:])])
        fpr, recall = fp / self.negatives, tp / self.positives
        overlap = np.minimum(weight / max(self.regions, 1), 1)
        self.auroc += np.trapezoid(recall, fpr)
        self.ap += np.sum(np.diff(recall) * precision[1:])
        self.aupr += np.trapezoid(precision, recall)
        best = np.max(2 * tp[1:] / (tp[1:] + fp[1:] + self.positives))
        self.f1_max = max(self.f1_max, best)
        self.aupro += _area_to(fpr, overlap, self.limit)
        self.last = (fp[-1], tp[-1], weight[-1], precision[-1])
        self.points.append(_thin(np.stack([fpr, recall, precision, overlap])[:, 1:]))

    def result(self) -> Ranking:
        """The measures, once everything is swept."""
        if not self.defined:
            return Ranking(self.negatives, self.positives)
        return Ranking(
            self.negatives,
            self.positives,
            float(self.auroc),
            float(self.ap),
            float(self.aupr),
            float(self.f1_max),
            float(self.aupro / self.limit) if self.regions else NAN,
            Curve(*np.concatenate(self.points, axis=1)),
        )


def _area_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Area under the polyline up to x = `limit`; x must not fall."""
    inside = x <= limit
    area = float(np.trapezoid(y[inside], x[inside])) if inside.any() else 0.0
    cut = int(inside.sum())
    if 0 < cut < x.size:
        x0, x1, y0, y1 = x[cut - 1], x[cut], y[cut - 1], y[cut]
        at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (limit - x0) * (y0 + at_limit) / 2
    return area


def _thin(points: np.ndarray) -> np.ndarray:
    """Only points where a rate enters another cell of the grid, and the last one."""
    cells = np.floor(points[[0, 1, 3]] * GRID)
    moved = np.any(np.diff(cells, axis=1) != 0, axis=0)
    return points[:, np.concatenate([moved, [True]])]
