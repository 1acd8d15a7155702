"""Overlap counts against counting pixels."""

import jax
import numpy as np

from anojax.ops.overlap import overlap_counts


def test_counts_are_those_of_shifted_masks():
    rng = np.random.default_rng(0)
    mask = (rng.uniform(size=(70, 90, 1)) < 0.6).astype(np.float32)
    patch = (rng.uniform(size=(23, 41, 1)) < 0.7).astype(np.float32)
    y0 = rng.integers(0, 71, 60).astype(np.int32)
    # Word boundaries are where shifts go wrong.
    x0 = np.concatenate([[0, 31, 32, 33, 63, 64, 90], rng.integers(0, 91, 53)])
    x0 = x0.astype(np.int32)
    out = jax.jit(overlap_counts)(mask, patch, y0, x0)
    padded = np.pad(mask, ((0, 23), (0, 41), (0, 0)))
    expected = [
        (padded[y : y + 23, x : x + 41] * patch).sum()
        for y, x in zip(y0, x0, strict=True)
    ]
    assert np.array_equal(out, expected)
