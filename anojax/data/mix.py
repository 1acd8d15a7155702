"""Which method makes which image, where methods have weights."""

import hashlib
import math
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio's fraction, in 64 bits."""


@dataclass(frozen=True)
class Mix:
    """Divides the images of a run by the weights of its methods.

    Multiples of the golden ratio fill [0, 1) evenly from any beginning on, so that
    every stretch of the images is divided nearly by the weights. Whole numbers of
    64 bits: the same on every machine, and in any order of the work.

    >>> Mix(0, (2.0, 1.0)).counts(300)
    [201, 99]
    """

    seed: int
    weights: tuple[float, ...]

    def place(self, index: int) -> int:
        """The place of the method that makes an image."""
        share = ((self._start + index * GOLDEN) & (2**64 - 1)) / 2**64
        return min(bisect_right(self._ends, share), len(self.weights) - 1)

    def counts(self, total: int) -> list[int]:
        """How many of the first `total` images each method makes."""
        found = Counter(map(self.place, range(total)))
        return [found[place] for place in range(len(self.weights))]

    @cached_property
    def _start(self) -> int:
        found = hashlib.sha256(f"{self.seed} mix".encode()).digest()[:8]
        return int.from_bytes(found, "big")

    @cached_property
    def _ends(self) -> tuple[float, ...]:
        whole = math.fsum(self.weights)
        return tuple(end / whole for end in accumulate(self.weights))
