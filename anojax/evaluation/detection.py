"""How well a detector's scores and maps tell anomalous from normal."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from anojax.errors import DataError
from anojax.evaluation.ranking import Curve, PixelScores, Ranking, rank

MEASURES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupr": "pixel AUPR (trapezoid)",
    "pixel_f1_max": "pixel F1-max",
    "aupro": "AUPRO",
}
"""Names in the result, and in words."""

ALL = "all"


@dataclass(frozen=True)
class Row:
    """Measures of one defect type against all normal images, or of everything."""

    name: str
    normal: int
    anomalous: int
    measures: dict[str, float]
    """Keys of `MEASURES`; NaN where undefined."""


@dataclass(frozen=True)
class Result:
    """Outcome of `evaluate`."""

    rows: tuple[Row, ...]
    """``all`` first, then one row per defect type."""
    fpr_limit: float
    """False positive rate to which AUPRO is integrated."""
    notes: tuple[str, ...] = ()
    """Why a measure is undefined, and what else a reader must know."""
    image_curve: Curve | None = field(default=None, compare=False)
    pixel_curve: Curve | None = field(default=None, compare=False)

    def __getitem__(self, measure: str) -> float:
        """A measure over everything: ``result["image_auroc"]``."""
        return self.rows[0].measures[measure]

    def to_dict(self) -> dict:
        """Plain numbers and names; undefined measures are ``None``."""
        rows = [
            {
                "name": row.name,
                "normal": row.normal,
                "anomalous": row.anomalous,
                **{
                    key: None if math.isnan(value) else value
                    for key, value in row.measures.items()
                },
            }
            for row in self.rows
        ]
        return {"fpr_limit": self.fpr_limit, "rows": rows, "notes": [*self.notes]}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def evaluate(
    maps: Iterable[np.ndarray] | None,
    masks: Iterable[np.ndarray] | None,
    scores: Sequence | np.ndarray,
    labels: Sequence | np.ndarray,
    groups: Sequence[str],
    *,
    fpr_limit: float = 0.3,
    block_px: int = 1 << 21,
) -> Result:
    """Compare a detector with the truth, over all images and per defect type.

    Args:
      maps: anomaly maps ``[H, W]`` or ``[H, W, 1]``, one per image, compared as
        float32; a generator will do, no two are held at once. ``None``: images only.
      masks: true masks of the same sizes, 0 or 1, 1 on defects.
      scores: one number per image, higher for more anomalous.
      labels: 0 for normal images, 1 for anomalous ones.
      groups: defect type of each image; those of normal images are not used.
      fpr_limit: false positive rate, in (0, 1], to which AUPRO is integrated.
      block_px: pixels held in memory at once; the result does not depend on it.

    Each defect type is measured against all normal images, and pixel measures pool
    all pixels of those images.

    Raises:
      DataError: the lengths or sizes do not fit, or a value is out of place.

    Example:
      >>> masks = [np.zeros((8, 8)), np.zeros((8, 8))]
      >>> masks[1][2:4, 2:4] = 1
      >>> maps, scores = [0.1 * masks[1], masks[1]], [0.1, 0.9]
      >>> result = evaluate(maps, masks, scores, [0, 1], ['good', 'hole'])
      >>> result["image_auroc"], result["pixel_auroc"]
      (1.0, 1.0)
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    _check_images(scores, labels, groups, fpr_limit)
    anomalous = labels == 1
    pixels, notes = None, []
    if maps is not None and masks is not None:
        pixels = PixelScores(block_px=block_px)
        notes += _add_pixels(pixels, maps, masks, anomalous)
    else:
        notes.append("pixel measures are undefined: there are no maps with masks")
    kinds = sorted({g for g, bad in zip(groups, anomalous, strict=True) if bad})
    chosen = {ALL: np.arange(len(labels))}
    for kind in kinds:
        mine = np.asarray([g == kind for g in groups], bool)
        chosen[f"type {ALL}" if kind == ALL else kind] = np.flatnonzero(
            ~anomalous | mine
        )
    rows, curves = [], ()
    for name, index in chosen.items():
        image = rank(scores[index], anomalous[index])
        pixel = Ranking(0, 0)
        if pixels is not None:
            pixel = pixels.rank(index.tolist(), fpr_limit=fpr_limit)
            notes += _undefined(name, "pixel", pixel)
        notes += _undefined(name, "image", image)
        rows.append(Row(name, image.negatives, image.positives, _row(image, pixel)))
        curves = curves or (image.curve, pixel.curve)
    return Result(tuple(rows), fpr_limit, tuple(notes), *curves)


def _row(image: Ranking, pixel: Ranking) -> dict[str, float]:
    values = {f"image_{m}": getattr(image, m) for m in ("auroc", "ap", "f1_max")}
    for measure in ("auroc", "ap", "aupr", "f1_max"):
        values[f"pixel_{measure}"] = getattr(pixel, measure)
    return values | {"aupro": pixel.aupro}


def _undefined(name: str, what: str, ranking: Ranking) -> list[str]:
    lacks = [
        kind
        for kind, count in (
            ("normal", ranking.negatives),
            ("anomalous", ranking.positives),
        )
        if not count
    ]
    unit = "pixel" if what == "pixel" else "image"
    if not lacks:
        return []
    missing = " and ".join(f"no {kind} {unit}" for kind in lacks)
    return [f"{name}: {what} measures are undefined, there is {missing}"]


def _check_images(
    scores: np.ndarray, labels: np.ndarray, groups: Sequence[str], fpr_limit: float
) -> None:
    if not len(scores) == len(labels) == len(groups):
        raise DataError(
            f"{len(scores)} scores, {len(labels)} labels and {len(groups)} groups; "
            "need one of each per image"
        )
    if not len(labels):
        raise DataError("there are no images to evaluate; check the test folder")
    strange = sorted(set(labels.tolist()) - {0, 1})
    if strange:
        raise DataError(f"label {strange[0]!r}; expected 0 (normal) or 1 (anomalous)")
    if not 0 < fpr_limit <= 1:
        raise DataError(f"fpr_limit is {fpr_limit}; expected a number in (0, 1]")


def _add_pixels(
    pixels: PixelScores,
    maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    anomalous: np.ndarray,
) -> list[str]:
    """Store all maps; what is worth noting about the masks."""
    added = unmarked = 0
    for i, (found, mask) in enumerate(zip(maps, masks, strict=True)):
        if i >= len(anomalous):
            raise DataError(f"more than {len(anomalous)} maps for as many labels")
        found, mask = np.asarray(found), np.asarray(mask)
        if found.shape != mask.shape and found.size == mask.size:
            found = found.reshape(mask.shape)
        if found.shape != mask.shape:
            raise DataError(
                f"image {i}: the map is {found.shape}, its mask {mask.shape}; "
                "resize the map to the mask"
            )
        truth = mask > 0
        if not np.all((mask == 0) | (mask == 1)):
            raise DataError(
                f"image {i}: the mask has the value {mask[truth].max()}; expected "
                "0 and 1 only: threshold it first"
            )
        if truth.any() and not anomalous[i]:
            raise DataError(
                f"image {i} is labeled normal, but its mask marks {truth.sum()} "
                "pixels; correct one of them"
            )
        unmarked += bool(anomalous[i]) and not truth.any()
        h, w = mask.shape[:2]
        pixels.add(found.reshape(h, w).astype(np.float32), truth.reshape(h, w))
        added += 1
    if added != len(anomalous):
        raise DataError(f"{added} maps for {len(anomalous)} labels; need as many")
    if unmarked:
        return [f"{unmarked} anomalous images have an empty mask"]
    return []
