"""How many images a device takes at a time: from its memory and what programs need."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax

MOST = 1024
"""Images per accelerator and call; above that a batch only costs memory."""

FIRST_GUESS = 64
"""float32 images that a method is taken to hold for each that it makes, until it is
compiled and says itself what it needs."""

USABLE = 0.9
"""Share of the free memory that a program may plan with."""


@runtime_checkable
class Device(Protocol):
    """What is requested of a `jax.Device`."""

    platform: str

    def memory_stats(self) -> dict[str, int] | None: ...


@runtime_checkable
class Program(Protocol):
    """What is requested of a `jax.stages.Compiled`."""

    def memory_analysis(self) -> Any: ...


def images_at_a_time(
    devices: Sequence[Device], shape: tuple[int, int, int], count: int
) -> int:
    """The batch size to begin with; pixels do not depend on it.

    A CPU works on one image after the other, so a small batch is enough. An
    accelerator takes as many as are wanted and fit, a power of two for each device,
    so that other runs find the same programs in the cache.

    >>> import jax
    >>> images_at_a_time(jax.local_devices(backend="cpu")[:1], (256, 256, 3), count=10_000)
    64

    Args:
      devices: those that share the batch.
      shape: ``(H, W, C)`` of the images.
      count: how many images one method is to make.
    """
    if devices[0].platform == "cpu":
        return max(64, 16 * len(devices))
    height, width, channels = shape
    most = min(MOST, _power_above(-(-count // len(devices))))
    if (free := free_bytes(devices)) is not None:
        guess = FIRST_GUESS * 4 * height * width * channels
        most = min(most, _power_below(int(USABLE * free / guess)))
    return most * len(devices)


def free_bytes(devices: Sequence[Device]) -> int | None:
    """Free memory of the fullest device; None where the device does not say, as CPUs."""
    stats = [device.memory_stats() or {} for device in devices]
    if not all({"bytes_limit", "bytes_in_use"} <= each.keys() for each in stats):
        return None
    return min(each["bytes_limit"] - each["bytes_in_use"] for each in stats)


def peak_bytes(devices: Sequence[Device]) -> int | None:
    """Most memory that was in use at once on one device since the process began; None
    where the device does not say, as CPUs."""
    peaks = [(d.memory_stats() or {}).get("peak_bytes_in_use") for d in devices]
    return None if None in peaks else max(peaks)


def program_bytes(compiled: Program) -> int | None:
    """What a program holds on each device while it runs, as the compiler says: inputs,
    outputs and intermediate results; None where the backend does not say."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    outside = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return outside + analysis.temp_size_in_bytes - analysis.alias_size_in_bytes


def fits(compiled: Program, devices: Sequence[Device]) -> bool:
    """Whether a program and the batch before it, which still lies on the device, find
    room; True where that is unknown."""
    needed, free = program_bytes(compiled), free_bytes(devices)
    if needed is None or free is None:
        return True
    analysis = compiled.memory_analysis()
    before = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return needed + before <= USABLE * free


def is_full(error: BaseException) -> bool:
    """Whether a device refused a program because its memory is full."""
    full = "RESOURCE_EXHAUSTED" in str(error)
    return full and isinstance(error, jax.errors.JaxRuntimeError)


def halved(size: int, devices: Sequence[Device]) -> int | None:
    """Half the batch, equal for all devices; None where it cannot become smaller."""
    smaller = size // 2 // len(devices) * len(devices)
    # `anojax.batch` gives each device at least two.
    return smaller if smaller >= 2 * len(devices) else None


def _power_above(number: int) -> int:
    return max(2, 1 << (number - 1).bit_length())


def _power_below(number: int) -> int:
    return max(2, 1 << (number.bit_length() - 1)) if number > 0 else 2
