"""How fast a method synthesizes, and how far that is from what the memory allows.

Only the device is timed: inputs lie there already, results stay there, all as uint8.
The bound is the device's measured copy bandwidth: a method must at least read its
image and its source and write the new image, the mask and the alpha.
"""

import statistics
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from anojax.batching import batch
from anojax.core import Synthesizer
from anojax.types import Bank, Inputs


@dataclass(frozen=True)
class Speed:
    """One row of the benchmark."""

    method: str
    size: int
    batch: int
    images_per_s: float
    """Median over the timed repeats."""
    spread: float
    """(slowest - fastest) / median of the repeats."""
    compile_s: float
    """Tracing and compiling, without the persistent cache."""
    border_bytes: int
    """Bytes per image that cross the border of the program, all uint8."""
    xla_bytes: float | None
    """Bytes per image that the compiled program accesses by XLA's own estimate, loops
    counted once; None where the backend does not say."""
    copy_fraction: float
    """images_per_s relative to moving `border_bytes` at copy bandwidth."""


def copy_bandwidth(devices: list[jax.Device], mib: int = 128) -> float:
    """Bytes per second, read plus written, of a plain copy on all devices together."""
    mesh = Mesh(np.array(devices), ("x",))
    split = NamedSharding(mesh, PartitionSpec("x"))
    data = jax.device_put(jnp.zeros((len(devices), mib * 2**20), jnp.uint8), split)
    run = jax.jit(lambda x: x + jnp.uint8(1))
    run(data).block_until_ready()
    times = [_timed(lambda: run(data)) for _ in range(5)]
    return 2 * data.size / min(times)


def measure(
    synth: Synthesizer,
    normal: np.ndarray,
    bank: Bank | None,
    *,
    batch_size: int = 64,
    seconds: float = 2.0,
    bandwidth: float,
    devices: list[jax.Device] | None = None,
) -> Speed:
    """Time one method on uint8 `images` [N, H, W, C], repeated to the batch size.

    Methods that learn run with the random parameters of their `init`.
    """
    devices = devices or jax.local_devices()
    run = batch(synth, bank=bank, uint8=True, devices=devices)
    images = np.resize(normal, (batch_size, *normal.shape[1:]))
    split = NamedSharding(
        Mesh(np.array(devices), ("example",)), PartitionSpec("example")
    )
    on_device = jax.device_put(Inputs(image=images), split)
    ids = np.arange(batch_size)
    params = synth.init(jax.random.key(0), _one_example(images, bank))
    params = jax.device_put(params, NamedSharding(split.mesh, PartitionSpec()))

    # Callers switch the persistent cache off: a hit would hide the cost.
    started = time.perf_counter()
    compiled = run.lower(params, batch_size, on_device).compile()
    compile_s = time.perf_counter() - started
    # Fresh ids each time: the share of branches taken is that of a long run.
    rounds = iter(range(10**9))

    def once():
        return run(params, 0, ids + batch_size * next(rounds), on_device)

    once(), _timed(once)
    rates, end = [], time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        rates.append(batch_size / _timed(once))
    median = statistics.median(rates)
    border = _border_bytes(images, bank, run(params, 0, ids, on_device))
    cost = compiled.cost_analysis() or {}
    accessed = cost.get("bytes accessed")
    return Speed(
        method=synth.name,
        size=normal.shape[1],
        batch=batch_size,
        images_per_s=median,
        spread=(max(rates) - min(rates)) / median,
        compile_s=compile_s,
        border_bytes=border,
        xla_bytes=accessed and accessed * len(devices) / batch_size,
        copy_fraction=median * border / bandwidth,
    )


def _one_example(images: np.ndarray, bank: Bank | None) -> Inputs:
    source = None if bank is None else np.float32(bank.images[0]) / 255
    return Inputs(image=np.float32(images[0]) / 255, source=source)


def _timed(f) -> float:
    started = time.perf_counter()
    jax.block_until_ready(f())
    return time.perf_counter() - started


def _border_bytes(images: np.ndarray, bank: Bank | None, out) -> int:
    one = images[0].nbytes + sum(x.nbytes // len(images) for x in jax.tree.leaves(out))
    return one + (0 if bank is None else bank.images[0].nbytes)
