"""Batch sizes from a device's memory, with devices that only say how large they are."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import pytest

from anojax import device_memory

GIB = 2**30


@dataclass(frozen=True)
class Accelerator:
    limit: int | None = 139 * GIB
    in_use: int = 0
    platform: str = "gpu"

    def memory_stats(self):
        if self.limit is None:
            return None
        return {
            "bytes_limit": self.limit,
            "bytes_in_use": self.in_use,
            "peak_bytes_in_use": self.in_use + 5,
        }


def size(*devices, side=256, count=10**6):
    return device_memory.images_at_a_time(devices, (side, side, 3), count)


def test_a_cpu_keeps_its_default():
    cpu = Accelerator(platform="cpu", limit=None)
    assert size(cpu) == 64 and size(*[cpu] * 16) == 256


def test_large_memory_takes_the_most_for_each_device():
    assert size(Accelerator()) == device_memory.MOST
    assert size(*[Accelerator()] * 4) == 4 * device_memory.MOST


def test_small_memory_or_large_images_take_fewer():
    assert size(Accelerator(8 * GIB)) == 128
    assert size(Accelerator(8 * GIB, in_use=6 * GIB)) == 32
    assert size(Accelerator(), Accelerator(8 * GIB)) == 2 * 128
    assert size(Accelerator(), side=2048) == 32
    assert size(Accelerator(GIB), side=4096) == 2


def test_no_more_than_are_wanted():
    assert size(Accelerator(), count=600) == 1024
    assert size(Accelerator(), count=500) == 512
    assert size(Accelerator(), count=1) == 2


def test_a_device_that_does_not_say():
    assert size(Accelerator(limit=None)) == device_memory.MOST
    assert device_memory.peak_bytes([Accelerator(limit=None)]) is None
    assert device_memory.peak_bytes([Accelerator(), Accelerator(in_use=7)]) == 12


def compiled(arguments, outputs, temporary):
    analysis = SimpleNamespace(
        argument_size_in_bytes=arguments,
        output_size_in_bytes=outputs,
        temp_size_in_bytes=temporary,
        alias_size_in_bytes=0,
    )
    return SimpleNamespace(memory_analysis=lambda: analysis)


def test_a_program_must_fit_beside_the_batch_before_it():
    device = Accelerator(1000)
    assert device_memory.program_bytes(compiled(100, 200, 300)) == 600
    assert device_memory.fits(compiled(100, 200, 300), [device])
    assert not device_memory.fits(compiled(100, 200, 301), [device])
    assert device_memory.fits(compiled(100, 200, 301), [Accelerator(limit=None)])


def test_what_a_real_program_needs():
    grow = jax.jit(lambda x: x + 1.0).lower(jax.ShapeDtypeStruct((1000,), "float32"))
    assert device_memory.program_bytes(grow.compile()) >= 2 * 4000


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_halving_stays_equal_for_all_devices(devices):
    sizes, own = [], [Accelerator()] * devices
    now = 16 * devices
    while now is not None:
        sizes.append(now)
        now = device_memory.halved(now, own)
    assert sizes == [16 * devices, 8 * devices, 4 * devices, 2 * devices]


def test_only_a_full_memory_counts_as_full():
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    assert device_memory.is_full(full)
    assert not device_memory.is_full(jax.errors.JaxRuntimeError("INTERNAL: x"))
    assert not device_memory.is_full(ValueError("RESOURCE_EXHAUSTED"))
