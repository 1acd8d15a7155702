"""The benchmark of synthesis alone: every method on the same procedural images."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from anojax.compile_cache import compiling_afresh
from anojax.core import Synthesizer
from anojax.data import samples, textures
from anojax.device_memory import peak_bytes
from anojax.environment import host_bytes
from anojax.errors import SettingError
from anojax.evaluation import speed
from anojax.types import Bank

PER_ACCELERATOR = (64, 256, 1024)
"""Images at a time that are tried. A CPU works on one image after the other, so the
size of its batch matters little: one is tried, that of `anojax synth`."""

IMAGES = 32
"""Different images; they are repeated to fill a batch."""


def default_batches(devices: Sequence[jax.Device]) -> tuple[int, ...]:
    """The batch sizes that are worth trying on these devices."""
    if devices[0].platform == "cpu":
        return (max(64, 16 * len(devices)),)
    return tuple(size * len(devices) for size in PER_ACCELERATOR)


def check_batches(
    sizes: Sequence[int], shape: tuple[int, int, int], devices: Sequence[jax.Device]
) -> None:
    """Refuse batches that cannot be timed here.

    Raises:
      SettingError: devices cannot share one equally, or the host's memory is too small.
    """
    for size in sizes:
        if size < 1 or size % len(devices):
            raise SettingError(
                f"--batch-size is {size}, which {len(devices)} devices cannot share "
                f"equally; give a multiple of {len(devices)}, or other --devices"
            )
    height, width, channels = shape
    # Images, sources, results with mask and alpha; made here, and two batches of them.
    each = height * width * (2 * channels + channels + 2)
    needed, memory = 2 * max(sizes) * each, host_bytes()
    if memory is not None and needed > memory:
        raise SettingError(
            f"{max(sizes)} images of {height}x{width}x{channels} and what is made of "
            f"them take {needed / 2**30:.0f} GiB, and this machine has "
            f"{memory / 2**30:.0f}; choose a smaller --size or --batch-size"
        )


def bench(
    synths: Sequence[Synthesizer],
    *,
    shape: tuple[int, int, int],
    devices: Sequence[jax.Device],
    batch_sizes: Sequence[int],
    seconds: float = 3.0,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[dict[str, Any]]:
    """Time methods, one after the other.

    Args:
      synths: the methods.
      shape: ``(H, W, C)`` of the images, C = 1 or 3.
      devices: those that work together.
      batch_sizes: to try; see `check_batches`.
      seconds: of timing, for each method and batch size.
      note: told what was measured, as it comes.

    Returns:
      The fields of a `Speed` for each method, with the device, its copy bandwidth and
      the most memory that was in use on one device since the process began.

    Raises:
      SettingError: not one of the batches fits into the memory.
    """
    size, channels = shape[:2], shape[2]
    images, _ = samples.make("tile", IMAGES, size=size, seed=0)
    images = images[..., :channels]
    kind = f"{len(devices)} x {devices[0].device_kind}"
    bandwidth = speed.copy_bandwidth(devices)
    note(f"{kind}: copies at {bandwidth / 1e9:.1f} GB/s")
    grain = textures.texture_bank(None, size=size, channels=channels)
    for synth in synths:
        bank = None
        if "texture" in synth.needs:
            bank = Bank(grain)
        elif "normal" in synth.needs:
            bank = Bank(images)
        with compiling_afresh():
            row = speed.measure(
                synth,
                images,
                bank,
                batch_sizes=batch_sizes,
                seconds=seconds,
                bandwidth=bandwidth,
                devices=devices,
            )
        random = " with random parameters" if synth.learns else ""
        note(f"{row.method}: {row.images_per_s:,.0f} images/s{random}")
        yield dataclasses.asdict(row) | {
            "random_parameters": synth.learns,
            "device": kind,
            "copy_bandwidth": bandwidth,
            "device_peak_bytes": peak_bytes(devices),
        }
