"""The protocol of detection: what finds defects after training."""

import abc
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
from jaxtyping import Array, Float, Shaped, UInt8

from anojax.pixels import in_unit_range
from anojax.types import PyTree


@dataclass(frozen=True)
class Detector(abc.ABC):
    """What finds defects after training; frozen, hashable, equal by value."""

    def calibrate(
        self, variables: PyTree, images: Iterable[UInt8[Any, "b h w c"]]
    ) -> PyTree:
        """Fit what needs normal images but no gradient (a density, a threshold).

        Args:
          variables: as `Task.variables` gives them.
          images: batches of normal images; the last one may be smaller.

        Returns:
          The variables that `score` needs: nested dictionaries of arrays.
        """
        del images
        return variables

    @abc.abstractmethod
    def score(
        self, variables: PyTree, image: Float[Array, "h w c"]
    ) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
        """Anomaly map and image score of one image; higher is more anomalous."""


@lru_cache(maxsize=32)
def _scores(detector: Detector):
    def many(variables, images):
        return jax.vmap(lambda x: detector.score(variables, x))(in_unit_range(images))

    return jax.jit(many)


def score_batch(
    detector: Detector, variables: PyTree, images: Shaped[Any, "b h w c"]
) -> tuple[Float[Array, "b h w"], Float[Array, " b"]]:
    """Maps and scores of a batch of images, uint8 or float32 in [0, 1]."""
    return _scores(detector)(variables, images)
