"""A finished run in numbers, from its manifest: no image is opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anojax.config import read_yaml
from anojax.data.manifest import CONFIG, FINISHED, MANIFEST, finished
from anojax.data.mix import Mix
from anojax.data.tally import Tally, tally
from anojax.errors import RunError
from anojax.synthesis.folder import read_resolved


@dataclass(frozen=True)
class Spread:
    """How far values lie apart."""

    min: float
    median: float
    max: float


@dataclass(frozen=True)
class Numbers:
    """Of one method, or of a whole run."""

    images: int
    anomalous: int
    empty: int
    redrawn: int
    """Images that took more than one attempt."""
    left_out: int
    area: Spread | None
    """Fraction of the image under the mask, over the anomalous images; ``None`` where
    there are none."""
    contrast: Spread | None
    """Mean change under the mask as a fraction of the full range, over the same."""


@dataclass(frozen=True)
class Summary:
    """A run in numbers."""

    run: Path
    total: Numbers
    methods: dict[str, Numbers]
    left_out_reasons: dict[str, int]


def summarize(run: Path) -> Summary:
    """Count what a finished run holds.

    Args:
      run: its folder.

    Raises:
      RunError: the folder holds no finished run of synthesis, or the run is damaged.
      AnojaxError: its configuration is none.
    """
    _check_synthesis(run)
    facts = finished(run)
    if facts is None:
        raise RunError(
            f"the run in {run} is not finished; give its command again to finish it"
        )
    planned = _planned(
        read_resolved(run)["request"], facts["images"] + facts["left_out"]
    )
    found = tally(run)
    written = sum(one.images for one in found.values())
    if any(one.images > planned.get(name, 0) for name, one in found.items()):
        raise _damaged(run, f"{MANIFEST} does not fit {CONFIG}")
    if written != facts["images"]:
        raise _damaged(
            run,
            f"{MANIFEST} has {written} rows, {FINISHED} says {facts['images']}",
        )
    whole = Tally()
    for one in found.values():
        whole.area += one.area
        whole.contrast += one.contrast
        whole.images += one.images
        whole.empty += one.empty
        whole.redrawn += one.redrawn
    methods = {name: found.get(name, Tally()) for name in planned}
    return Summary(
        run,
        _numbers(whole, facts["left_out"]),
        {n: _numbers(one, planned[n] - one.images) for n, one in methods.items()},
        facts.get("left_out_reasons", {}),
    )


def _planned(request: dict[str, Any], total: int) -> dict[str, int]:
    """How many of a run's images each of its methods was to make."""
    names = request["methods"]
    if not request["mix"]:
        return dict.fromkeys(names, total // max(1, len(names)))
    weights = tuple(request["mix"][name] for name in names)
    return dict(zip(names, Mix(request["seed"], weights).counts(total), strict=True))


def _check_synthesis(run: Path) -> None:
    """Raise unless the folder holds a run of synthesis, finished or not."""
    if not run.is_dir():
        raise RunError(f"{run} is no folder; give that of a run")
    if not (run / CONFIG).is_file():
        raise RunError(f"{run} is no run of anojax: it has no {CONFIG}")
    request = read_yaml(run / CONFIG).get("request")
    if isinstance(request, dict) and "methods" not in request and "method" in request:
        raise RunError(
            f"{run} is a training run and holds no images; show-run is about runs that "
            "'anojax synth' made"
        )


def _damaged(run: Path, what: str) -> RunError:
    return RunError(f"the run in {run} is damaged: {what}; see 'anojax verify {run}'")


def _numbers(counted: Tally, left_out: int) -> Numbers:
    return Numbers(
        images=counted.images,
        anomalous=counted.images - counted.empty,
        empty=counted.empty,
        redrawn=counted.redrawn,
        left_out=left_out,
        area=_spread(counted.area),
        contrast=_spread(counted.contrast),
    )


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(min(values), float(np.median(values)), max(values))
