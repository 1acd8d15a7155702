"""From one image to many: the only place where batches are made.

A batch is compiled once for its shape and runs on all local devices. Accelerators run
it as one `vmap`. A CPU device runs its examples one after the other instead: one
image's working set stays in cache, and `lax.switch` branches for real instead of
computing every branch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from anojax.arrays import as_inputs
from anojax.compile_cache import keep_programs
from anojax.core import Synthesizer
from anojax.errors import AnojaxError
from anojax.pixels import as_binary, as_uint8, in_unit_range
from anojax.random import example_key, method_key, stream
from anojax.types import Bank, Inputs, PyTree, Synthesis

Vectorization = Literal["auto", "vmap", "map"]


@dataclass(frozen=True)
class Batch:
    """A synthesizer over a leading axis; make one with `batch`."""

    synth: Synthesizer
    bank: Bank | None
    uint8: bool
    strategy: Vectorization
    devices: tuple[jax.Device, ...]

    def __call__(
        self,
        params: PyTree,
        seed: int,
        example_ids: Sequence[int] | np.ndarray,
        inputs: Any,
        draw: int | Sequence[int] | np.ndarray = 0,
    ) -> Synthesis:
        """Synthesize one anomaly per example.

        Args:
          params: of the synthesizer, shared by all examples.
          seed: of the run, an integer in [0, 2**63).
          example_ids: ``[B]`` integers in [0, 2**32): what each image depends on.
          inputs: `Inputs`, every array with a leading axis B, or the normal images
            alone. Images are uint8 or floats in [0, 1], masks may also be bool or uint8
            (0 and 1, or 0 and 255), B x H x W or B x H x W x C. Controls may be single
            numbers.
          draw: attempt number, one for all or one each.

        Returns:
          A Synthesis with a leading axis B. Same pixels for the same example id,
          whatever the batch size and the number of devices.
        """
        ids = _as_uint32(example_ids, "example_ids")
        draws = np.broadcast_to(_as_uint32(draw, "draw"), ids.shape)
        inputs = _spread_controls(as_inputs(inputs, lead=1), len(ids))
        _check_leading_axis(inputs, len(ids))
        example = jax.tree.map(lambda x: x[0], inputs)
        self.synth.check(
            example if self.bank is None else example.replace(source=self.bank)
        )
        missing = self._whole(len(ids)) - len(ids)
        ids, draws, inputs = jax.tree.map(
            lambda x: _pad(x, missing), (ids, draws, inputs)
        )
        split, whole = self._shardings()
        ids, draws, inputs = jax.device_put((ids, draws, inputs), split)
        key = jax.device_put(method_key(seed, self.synth.name), whole)
        bank, params = jax.device_put((self.bank, params), whole)
        run = _compiled(self.synth, self.uint8, self._strategy(), self.devices)
        out = run(params, key, bank, ids, draws, inputs)
        return jax.tree.map(lambda x: x[:-missing], out) if missing else out

    def lower(self, params: PyTree, size: int, inputs: Any) -> jax.stages.Lowered:
        """The program for batches of `size` inputs like `inputs`.

        Once ``.compile()`` was called on it, calls with such a batch find it compiled.

        Args:
          inputs: as in a call; only shapes and dtypes count, so a leading axis of 1
            is enough.
        """
        whole = self._whole(size)
        split, copied = self._shardings()

        def like(x, sharding, shape=None):
            kind = jax.typeof(x)
            shape = kind.shape if shape is None else shape
            return jax.ShapeDtypeStruct(
                shape, kind.dtype, sharding=sharding, weak_type=kind.weak_type
            )

        inputs = _spread_controls(as_inputs(inputs, lead=1), 1)
        ids = like(np.zeros(1, np.uint32), split, (whole,))
        inputs = jax.tree.map(lambda x: like(x, split, (whole, *x.shape[1:])), inputs)
        key = method_key(0, self.synth.name)
        shared = (params, key, self.bank)
        shared = jax.tree.map(lambda x: like(x, copied), shared)
        run = _compiled(self.synth, self.uint8, self._strategy(), self.devices)
        return run.lower(*shared, ids, ids, inputs)

    def traces(self) -> int:
        """How many programs these settings have been compiled into so far."""
        run = _compiled(self.synth, self.uint8, self._strategy(), self.devices)
        return run._cache_size()  # pyright: ignore[reportAttributeAccessIssue]

    def _strategy(self) -> Vectorization:
        if self.strategy != "auto":
            return self.strategy
        return "map" if self.devices[0].platform == "cpu" else "vmap"

    def _whole(self, size: int) -> int:
        """What a batch is filled up to: the same for each device."""
        # At least two per device: a loop of one is compiled in line, where other
        # roundings can result.
        return max(-(-size // len(self.devices)), 2) * len(self.devices)

    def _shardings(self):
        mesh = _mesh(self.devices)
        return (
            NamedSharding(mesh, PartitionSpec("example")),
            NamedSharding(mesh, PartitionSpec()),
        )


def batch(
    synth: Synthesizer,
    *,
    bank: Bank | None = None,
    uint8: bool = False,
    strategy: Vectorization = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> Batch:
    """Compile a synthesizer over a leading axis and all local devices.

    What is compiled is kept for the next process; see `anojax.keep_programs`.

    Args:
      synth: the method; equal synthesizers share their compilation.
      bank: where each example draws its `Inputs.source` from, by its key.
      uint8: return images, masks and alphas as uint8 (0..255), rounded on the
        device, so that a quarter of the bytes travel to the host.
      strategy: ``"vmap"`` (accelerators), ``"map"`` (CPU) or by platform.
      devices: which devices to use; all local ones by default.

    Raises:
      AnojaxError: an unknown strategy, or no devices.

    Example:
      >>> import anojax
      >>> import numpy as np
      >>> images = np.full((3, 32, 32, 3), 128, np.uint8)
      >>> run = anojax.batch(anojax.get("riad")(cells_px=(4,)), uint8=True)
      >>> out = run({}, 0, [0, 1, 2], anojax.Inputs(image=images))
      >>> out.image.shape, out.mask.dtype
      ((3, 32, 32, 3), dtype('uint8'))
    """
    if strategy not in ("auto", "vmap", "map"):
        raise AnojaxError(f"strategy is {strategy!r}; choose auto, vmap or map")
    devices = tuple(jax.local_devices() if devices is None else devices)
    if not devices:
        raise AnojaxError("devices is empty; give at least one")
    keep_programs()
    if bank is not None:
        bank = jax.device_put(bank, NamedSharding(_mesh(devices), PartitionSpec()))
    return Batch(synth, bank, uint8, strategy, devices)


@cache
def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), ("example",))


def over_examples(
    synth: Synthesizer, strategy: Vectorization = "auto", uint8: bool = False
):
    """The batch as a pure function, for use inside a larger compiled step.

    The pixels are those of `batch`: an image in a training step is the image that
    `anojax synth` writes.

    Returns:
      ``f(params, key, bank, ids, draws, inputs) -> Synthesis``, where `key` is the
      run's `method_key` and ids, draws and inputs have a leading axis.
    """
    if strategy == "auto":
        strategy = "map" if jax.default_backend() == "cpu" else "vmap"

    def many(params, key, bank, ids, draws, inputs):
        def one(example):
            # The barriers keep the compiler from fusing the method with the loop
            # around it: roundings would depend on the shape of the batch.
            example_id, draw, given = lax.optimization_barrier(example)
            own = example_key(key, example_id, draw)
            given = _to_float(given)
            if bank is not None:
                given = _draw_source(stream(own, "bank"), bank, given)
            out = lax.optimization_barrier(synth.apply(params, own, given))
            return lax.optimization_barrier(_to_uint8(out)) if uint8 else out

        each = (ids, draws, inputs)
        return jax.vmap(one)(each) if strategy == "vmap" else lax.map(one, each)

    return many


@lru_cache(maxsize=256)
def _compiled(synth, uint8: bool, strategy: Vectorization, devices):
    whole, split = PartitionSpec(), PartitionSpec("example")
    return jax.jit(
        jax.shard_map(
            over_examples(synth, strategy, uint8),
            mesh=_mesh(devices),
            in_specs=(whole, whole, whole, split, split, split),
            out_specs=split,
            check_vma=False,
        )
    )


def _draw_source(key, bank: Bank, inputs: Inputs) -> Inputs:
    index = jax.random.randint(key, (), 0, bank.images.shape[0])
    picked = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, index, 0, False), bank)
    return inputs.replace(
        source=in_unit_range(picked.images),
        source_foreground=as_binary(picked.foregrounds),
    )


def _to_float(inputs: Inputs) -> Inputs:
    return inputs.replace(
        image=in_unit_range(inputs.image),
        source=in_unit_range(inputs.source),
        foreground=as_binary(inputs.foreground),
        region=as_binary(inputs.region),
        source_foreground=as_binary(inputs.source_foreground),
    )


def _to_uint8(out: Synthesis) -> Synthesis:
    return out.replace(
        image=as_uint8(out.image), mask=as_uint8(out.mask), alpha=as_uint8(out.alpha)
    )


def _as_uint32(values: Any, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.size == 0:
        raise AnojaxError(f"{what} is empty; give at least one")
    if values.dtype.kind not in "iu" or values.min(initial=0) < 0:
        raise AnojaxError(f"{what} must be whole numbers from 0 to 2**32 - 1")
    if values.max(initial=0) >= 2**32:
        raise AnojaxError(f"{what} is {values.max()}; the largest is 2**32 - 1")
    return values.astype(np.uint32)


def _spread_controls(inputs: Inputs, size: int) -> Inputs:
    def spread(x):
        x = jnp.asarray(x, jnp.float32)
        return jnp.broadcast_to(x, (size,)) if x.ndim == 0 else x

    return inputs.replace(controls=jax.tree.map(spread, inputs.controls))


def _check_leading_axis(inputs: Inputs, size: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(inputs):
        if np.ndim(leaf) == 0 or leaf.shape[0] != size:
            name = jax.tree_util.keystr(path).lstrip(".")
            raise AnojaxError(
                f"inputs.{name} has shape {np.shape(leaf)}; its first axis must be "
                f"the batch of {size} example ids"
            )


def _pad(x, missing: int):
    if not missing:
        return x
    # Repeats, not zeros: an all-zero image may take branches no real one takes.
    xp = jnp if isinstance(x, jax.Array) else np
    return xp.concatenate([x, xp.repeat(x[-1:], missing, axis=0)])
