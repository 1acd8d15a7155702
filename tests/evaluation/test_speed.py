"""The benchmark's arithmetic, on methods that cost nothing."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np
import pytest

from anojax import batching
from anojax.core import Card, Synthesizer
from anojax.errors import SettingError
from anojax.evaluation import bench, speed
from anojax.ops.blend import local_synthesis


@dataclass(frozen=True)
class Invert(Synthesizer):
    """The whole image, inverted."""

    card: ClassVar[Card] = Card(
        title="t", authors="a", venue="v", year=2026, url="u",
        paradigm="handcrafted", family="self_contained", level="image",
    )  # fmt: skip

    def synthesize(self, params, key, inputs):
        mask = jax.numpy.ones((*inputs.image.shape[:2], 1))
        return local_synthesis(inputs, 1 - inputs.image, mask)


IMAGES = np.arange(4 * 8 * 6 * 3, dtype=np.uint8).reshape(4, 8, 6, 3)


def measure(**options):
    options = {"seconds": 0.01, "bandwidth": 1e9} | options
    return speed.measure(Invert(), IMAGES, None, devices=jax.devices()[:2], **options)


def test_the_fastest_batch_and_what_follows_from_it():
    row = measure(batch_sizes=(4, 8))
    assert set(row.tried) == {4, 8} and row.batch in row.tried
    assert row.images_per_s == max(row.tried.values())
    assert row.us_per_image == pytest.approx(1e6 / row.images_per_s)
    # An image in; an image, a mask and an alpha out, and label and anomalous.
    assert 8 * 6 * (3 + 3 + 1 + 1) <= row.border_bytes <= 8 * 6 * 8 + 16
    assert row.bound_us == pytest.approx(row.border_bytes / 1e3)
    assert row.copy_fraction == pytest.approx(row.bound_us / row.us_per_image)
    assert row.device_bytes >= row.batch // 2 * row.border_bytes
    assert (row.height, row.width) == (8, 6)


def test_batches_that_do_not_fit_are_left_out(monkeypatch):
    lower = batching.Batch.lower

    def refuse(self, params, size, inputs):
        if size > 8:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return lower(self, params, size, inputs)

    monkeypatch.setattr(batching.Batch, "lower", refuse)
    assert set(measure(batch_sizes=(4, 8, 16, 32)).tried) == {4, 8}
    with pytest.raises(SettingError, match="not even 16 images fit"):
        measure(batch_sizes=(16,))


def test_copies_move_what_they_say():
    """Half the array in the same time would be half the bandwidth: orders agree."""
    small = speed.copy_bandwidth(jax.devices()[:2], mib=8)
    large = speed.copy_bandwidth(jax.devices()[:2], mib=32)
    assert 1e8 < small < 1e13 and 0.02 < large / small < 50


def test_a_batch_is_checked_before_the_work():
    devices = jax.devices()[:2]
    bench.check_batches((4, 64), (256, 256, 3), devices)
    with pytest.raises(SettingError, match="is 3, which 2 devices"):
        bench.check_batches((3,), (256, 256, 3), devices)
    with pytest.raises(SettingError, match="this machine has"):
        bench.check_batches((2**30,), (4096, 4096, 3), devices)


def test_rows_of_the_benchmark():
    (row,) = bench.bench(
        [Invert()],
        shape=(16, 16, 3),
        devices=jax.devices()[:1],
        batch_sizes=(2,),
        seconds=0.01,
    )
    assert row["method"] == "test_speed" and row["compile_s"] > 0
    assert row["copy_bandwidth"] > 0 and row["device"] == "1 x cpu"
    assert not row["random_parameters"] and row["device_peak_bytes"] is None
