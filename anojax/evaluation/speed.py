"""How fast a method synthesizes, and how far that is from what the memory allows.

Only the device is timed: inputs lie there already, results stay there, all as uint8.
The bound is the device's measured copy bandwidth: a method must at least read its
image and its source and write the new image, the mask and the alpha.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from anojax import device_memory
from anojax.batching import Batch, batch
from anojax.core import Synthesizer
from anojax.errors import SettingError
from anojax.pixels import in_unit_range
from anojax.types import Bank, Inputs

MIB = 2**20


@dataclass(frozen=True)
class Speed:
    """One row of the benchmark."""

    method: str
    height: int
    width: int
    batch: int
    """The fastest of those in `tried`; all else is about this one."""
    images_per_s: float
    """Median over the timed repeats."""
    us_per_image: float
    """The same in microseconds an image."""
    spread: float
    """(slowest - fastest) / median of the repeats."""
    tried: dict[int, float]
    """Images per second at each batch that fits into the memory."""
    compile_s: float
    """Tracing and compiling, without the persistent cache."""
    border_bytes: int
    """Bytes per image that cross the border of the program, all uint8."""
    bound_us: float
    """Microseconds that moving `border_bytes` takes at copy bandwidth."""
    copy_fraction: float
    """bound_us / us_per_image."""
    xla_bytes: float | None
    """Bytes per image that the compiled program accesses by XLA's own estimate, loops
    counted once; None where the backend does not say."""
    device_bytes: int | None
    """Memory of each device that the program holds while it runs, inputs and results
    included, as the compiler plans it; None where the backend does not say."""


def copy_bandwidth(
    devices: Sequence[jax.Device], mib: int | None = None, copies: int = 8
) -> float:
    """Bytes per second, read plus written, of float32 copies on all devices at once.

    Args:
      devices: all of one kind.
      mib: of each device's array; by default an eighth of an accelerator's free memory
        up to 4 GiB, far more than its caches hold, and of a CPU's 512 MiB its share.
      copies: one after the other, so that starting them costs nothing.
    """
    if mib is None:
        mib = _array_mib(devices)
    split = NamedSharding(Mesh(np.array(devices), ("x",)), PartitionSpec("x"))
    shape = len(devices), mib * MIB // 4
    fill = jax.jit(lambda x: jnp.full(shape, x, jnp.float32), out_shardings=split)
    # The second array's memory takes the result: new memory would be touched for the
    # first time, which costs a CPU more than the copy.
    copy = jax.jit(lambda x, into: -x, donate_argnums=1, keep_unused=True)
    arrays = fill(1.0), fill(2.0)
    arrays = copy(*arrays), arrays[0]
    best = float("inf")
    for _ in range(5):
        jax.block_until_ready(arrays)
        started = time.perf_counter()
        for _ in range(copies):
            arrays = copy(*arrays), arrays[0]
        jax.block_until_ready(arrays)
        best = min(best, time.perf_counter() - started)
    return copies * 2 * arrays[0].nbytes / best


def _array_mib(devices: Sequence[jax.Device]) -> int:
    if devices[0].platform == "cpu":
        return max(32, 512 // len(devices))
    free = device_memory.free_bytes(devices) or 8 * 1024 * MIB
    return max(32, min(4096, free // 8 // MIB))


def measure(
    synth: Synthesizer,
    normal: np.ndarray,
    bank: Bank | None,
    *,
    batch_sizes: Sequence[int] = (64,),
    seconds: float = 2.0,
    bandwidth: float,
    devices: Sequence[jax.Device] | None = None,
) -> Speed:
    """Time one method on uint8 `images` [N, H, W, C], repeated to each batch size.

    Methods that learn run with the random parameters of their `init`. The persistent
    cache must be off: a program found there would hide what compiling costs.

    Args:
      batch_sizes: to try; those that do not fit into the memory are left out.
      seconds: of timing, for each batch size.
      bandwidth: of `copy_bandwidth`.

    Raises:
      SettingError: not one of the batches fits.
    """
    devices = tuple(devices or jax.local_devices())
    run = batch(synth, bank=bank, uint8=True, devices=devices)
    params = synth.init(jax.random.key(0), _one_example(normal, bank))
    params = jax.device_put(params, NamedSharding(_mesh(devices), PartitionSpec()))
    trials = []
    for size in sorted(batch_sizes):
        try:
            trials.append(_try(run, params, normal, size, seconds))
        except jax.errors.JaxRuntimeError as error:
            if not device_memory.is_full(error):
                raise
            break  # nor do larger ones
    if not trials:
        raise SettingError(
            f"{synth.name}: not even {min(batch_sizes)} images fit into the memory of "
            f"{devices[0].device_kind}; choose a smaller --batch-size or --size"
        )
    best = max(trials, key=lambda trial: trial.rate)
    border = best.result_bytes + normal[0].nbytes
    border += 0 if bank is None or bank.images is None else bank.images[0].nbytes
    bound_us, us = 1e6 * border / bandwidth, 1e6 / best.rate
    accessed = (best.compiled.cost_analysis() or {}).get("bytes accessed")
    return Speed(
        method=synth.name,
        height=normal.shape[1],
        width=normal.shape[2],
        batch=best.size,
        images_per_s=best.rate,
        us_per_image=us,
        spread=best.spread,
        tried={trial.size: trial.rate for trial in trials},
        compile_s=best.compile_s,
        border_bytes=border,
        bound_us=bound_us,
        copy_fraction=bound_us / us,
        xla_bytes=accessed and accessed * len(devices) / best.size,
        device_bytes=device_memory.program_bytes(best.compiled),
    )


@dataclass(frozen=True)
class _Trial:
    """One batch size, timed."""

    size: int
    rate: float
    spread: float
    compile_s: float
    compiled: jax.stages.Compiled
    result_bytes: int
    """Of one image."""


def _try(run: Batch, params, normal: np.ndarray, size: int, seconds: float) -> _Trial:
    images = np.resize(normal, (size, *normal.shape[1:]))
    split = NamedSharding(_mesh(run.devices), PartitionSpec("example"))
    inputs = jax.device_put(Inputs(image=images), split)
    ids = np.arange(size)
    started = time.perf_counter()
    compiled = run.lower(params, size, inputs).compile()
    compile_s = time.perf_counter() - started
    # Fresh ids each time: the share of branches taken is that of a long run.
    rounds = iter(range(10**9))

    def once():
        return run(params, 0, ids + size * next(rounds), inputs)

    result = jax.block_until_ready(once())
    # As in a run: the next batch is on its way while the device is at this one.
    under_way, finished = once(), time.perf_counter()
    rates, end = [], finished + seconds
    while len(rates) < 4 or finished < end:
        following = once()
        jax.block_until_ready(under_way)
        under_way, before, finished = following, finished, time.perf_counter()
        rates.append(size / (finished - before))
    rates = rates[1:]  # the first had a head start
    median = statistics.median(rates)
    return _Trial(
        size=size,
        rate=median,
        spread=(max(rates) - min(rates)) / median,
        compile_s=compile_s,
        compiled=compiled,
        result_bytes=sum(x.nbytes // size for x in jax.tree.leaves(result)),
    )


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), ("example",))


def _one_example(images: np.ndarray, bank: Bank | None) -> Inputs:
    drawn = None if bank is None or bank.images is None else bank.images[0]
    return Inputs(image=in_unit_range(images[0]), source=in_unit_range(drawn))
