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
from anojax.types import Bank, Exemplar, Inputs, PyTree, Synthesis

Vectorization = Literal["auto", "vmap", "map"]
"""How a device works on its examples: all at once, one after the other, or by platform."""


@dataclass(frozen=True)
class Batch:
    """A synthesizer over a leading axis; make one with `batch`."""

    synth: Synthesizer
    bank: Bank | None
    uint8: bool
    vectorization: Vectorization
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
        self.synth.check(_supplied(jax.tree.map(lambda x: x[0], inputs), self.bank))
        missing = self._whole(len(ids)) - len(ids)
        ids, draws, inputs = jax.tree.map(
            lambda x: _pad(x, missing), (ids, draws, inputs)
        )
        split, _ = self._shardings()
        ids, draws, inputs = jax.device_put((ids, draws, inputs), split)
        key = _placed_key(int(seed), self.synth.name, self.devices)
        params = self.place(params)
        run = _compiled(self.synth, self.uint8, self._vectorization(), self.devices)
        out = run(params, key, self.bank, ids, draws, inputs)
        return jax.tree.map(lambda x: x[:-missing], out) if missing else out

    def place(self, params: PyTree) -> PyTree:
        """Parameters on all devices of the batch, for a whole run: calls with what this
        returns copy nothing.

        Args:
          params: of the synthesizer; arrays that are there already stay as they are.
        """
        _, whole = self._shardings()
        leaves, structure = jax.tree.flatten(params)
        away = [i for i, x in enumerate(leaves) if not _lies(x, whole)]
        if away:
            moved = jax.device_put([leaves[i] for i in away], whole)
            for i, x in zip(away, moved, strict=True):
                leaves[i] = x
        return jax.tree.unflatten(structure, leaves)

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
        run = _compiled(self.synth, self.uint8, self._vectorization(), self.devices)
        return run.lower(*shared, ids, ids, inputs)

    def traces(self) -> int:
        """How many programs these settings have been compiled into so far."""
        run = _compiled(self.synth, self.uint8, self._vectorization(), self.devices)
        return run._cache_size()  # pyright: ignore[reportAttributeAccessIssue]

    def _vectorization(self) -> Vectorization:
        if self.vectorization != "auto":
            return self.vectorization
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
    vectorization: Vectorization = "auto",
    devices: Sequence[jax.Device] | None = None,
) -> Batch:
    """Compile a synthesizer over a leading axis and all local devices.

    What is compiled is kept for the next process; see `anojax.keep_programs`.

    Args:
      synth: the method; equal synthesizers share their compilation.
      bank: what each example draws from, by its key, where its inputs lack it: a
        source, an exemplar, a prompt.
      uint8: return images, masks and alphas as uint8 (0..255), rounded on the
        device, so that a quarter of the bytes travel to the host.
      vectorization: ``"vmap"`` (accelerators), ``"map"`` (CPU) or by platform.
      devices: which devices to use; all local ones by default.

    Raises:
      AnojaxError: an unknown vectorization, or no devices.

    Example:
      >>> import anojax
      >>> import numpy as np
      >>> images = np.full((3, 32, 32, 3), 128, np.uint8)
      >>> run = anojax.batch(anojax.get("riad")(cells_px=(4,)), uint8=True)
      >>> out = run({}, 0, [0, 1, 2], anojax.Inputs(image=images))
      >>> out.image.shape, out.mask.dtype
      ((3, 32, 32, 3), dtype('uint8'))
    """
    if vectorization not in ("auto", "vmap", "map"):
        raise AnojaxError(
            f"vectorization is {vectorization!r}; choose auto, vmap or map"
        )
    devices = tuple(jax.local_devices() if devices is None else devices)
    if not devices:
        raise AnojaxError("devices is empty; give at least one")
    keep_programs()
    if bank is not None:
        bank = jax.device_put(bank, NamedSharding(_mesh(devices), PartitionSpec()))
    return Batch(synth, bank, uint8, vectorization, devices)


@cache
def _mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    return Mesh(np.array(devices), ("example",))


def over_examples(
    synth: Synthesizer, vectorization: Vectorization = "auto", uint8: bool = False
):
    """The batch as a pure function, for use inside a larger compiled step.

    The pixels are those of `batch`: an image in a training step is the image that
    `anojax synth` writes.

    Returns:
      ``f(params, key, bank, ids, draws, inputs) -> Synthesis``, where `key` is the
      run's `method_key` and ids, draws and inputs have a leading axis.
    """
    if vectorization == "auto":
        vectorization = "map" if jax.default_backend() == "cpu" else "vmap"

    def many(params, key, bank, ids, draws, inputs):
        def one(example):
            # The barriers keep the compiler from fusing the method with the loop
            # around it: roundings would depend on the shape of the batch.
            example_id, draw, given = lax.optimization_barrier(example)
            own = example_key(key, example_id, draw)
            given = _to_float(given)
            if bank is not None:
                given = _drawn(own, bank, given)
            out = lax.optimization_barrier(synth.apply(params, own, given))
            return lax.optimization_barrier(_to_uint8(out)) if uint8 else out

        each = (ids, draws, inputs)
        return jax.vmap(one)(each) if vectorization == "vmap" else lax.map(one, each)

    return many


@lru_cache(maxsize=256)
def _compiled(synth, uint8: bool, vectorization: Vectorization, devices):
    whole, split = PartitionSpec(), PartitionSpec("example")
    return jax.jit(
        jax.shard_map(
            over_examples(synth, vectorization, uint8),
            mesh=_mesh(devices),
            in_specs=(whole, whole, whole, split, split, split),
            out_specs=split,
            check_vma=False,
        )
    )


def _drawn(key, bank: Bank, inputs: Inputs) -> Inputs:
    """The inputs with what the bank has for them. Streams have names, so that a bank
    with more in it leaves the other draws where they were."""
    if bank.images is not None:
        index = _index(stream(key, "bank"), bank.images)
        inputs = inputs.replace(
            source=in_unit_range(_row(bank.images, index)),
            source_foreground=as_binary(_row(bank.foregrounds, index)),
        )
    if bank.exemplars is not None and inputs.exemplar is None:
        key_of_exemplar, labels = stream(key, "exemplar"), bank.labels
        if labels is None or inputs.label is None:
            index = _index(key_of_exemplar, bank.exemplars.image)
        else:
            order = jax.random.uniform(key_of_exemplar, labels.shape)
            index = jnp.argmax(jnp.where(labels == inputs.label, order, -1.0))
        picked = jax.tree.map(lambda x: _row(x, index), bank.exemplars)
        label = inputs.label if labels is None else _row(labels, index)
        inputs = inputs.replace(exemplar=_float_exemplar(picked), label=label)
    if bank.texts is not None and inputs.text is None:
        index = _index(stream(key, "text"), bank.texts)
        inputs = inputs.replace(text=_row(bank.texts, index))
    return inputs


def _index(key, rows):
    return jax.random.randint(key, (), 0, rows.shape[0])


def _row(rows, index):
    return None if rows is None else lax.dynamic_index_in_dim(rows, index, 0, False)


def _supplied(inputs: Inputs, bank: Bank | None) -> Inputs:
    """The inputs of an example as the method will find them, by their structure."""
    if bank is None:
        return inputs
    found = {"source": bank.images, "exemplar": bank.exemplars, "text": bank.texts}
    if inputs.label is None and bank.exemplars is not None:
        found["label"] = bank.labels
    return inputs.replace(**{k: v for k, v in found.items() if v is not None})


def _to_float(inputs: Inputs) -> Inputs:
    return inputs.replace(
        image=in_unit_range(inputs.image),
        source=in_unit_range(inputs.source),
        foreground=as_binary(inputs.foreground),
        region=as_binary(inputs.region),
        source_foreground=as_binary(inputs.source_foreground),
        exemplar=_float_exemplar(inputs.exemplar),
    )


def _float_exemplar(exemplar: Exemplar | None) -> Exemplar | None:
    if exemplar is None:
        return None
    return Exemplar(in_unit_range(exemplar.image), as_binary(exemplar.mask))


@lru_cache(maxsize=16)
def _placed_key(seed: int, method: str, devices: tuple[jax.Device, ...]):
    """The key of a run, which lies on its devices for as long as it is in use."""
    whole = NamedSharding(_mesh(devices), PartitionSpec())
    return jax.device_put(method_key(seed, method), whole)


def _lies(x: Any, sharding: NamedSharding) -> bool:
    return isinstance(x, jax.Array) and x.sharding == sharding


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
