"""How a training step runs on many devices: the only file that knows.

Two strategies with one interface. `Pmap` copies the state to every device; `MeshJit`
compiles for a named mesh ``(data, model)`` and shards large parameters by rules. Both
give the numbers of one device, because everything random derives from example ids and
the mean over devices is injected into the pure step as `Reduce`.
"""

import abc
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Key

from anojax.errors import AnojaxError
from anojax.task import Examples, Metrics, Reduce, Task, TrainState
from anojax.types import Bank, PyTree

Rules = tuple[tuple[str, tuple[str | None, ...]], ...]
"""(regular expression, mesh axis of each array axis); the first match decides."""

Step = Callable[
    [TrainState, Key[Array, "..."], Bank | None, Examples], tuple[TrainState, Metrics]
]

_DEVICES = "devices"


class Fold(NamedTuple):
    """The compiled parts of `Task.context_start`, `context_visit` and
    `context_finish`."""

    start: Callable[..., PyTree]
    """``(state, batch) -> fold``."""
    visit: Callable[..., PyTree]
    """``(fold, state, key, bank, batch, weights) -> fold``."""
    finish: Callable[[PyTree], PyTree]
    """``(fold) -> context``."""


class Strategy(abc.ABC):
    """Where state and batches live, and how the step is compiled.

    A compiled step takes batches with two leading axes ``[k, B, ...]`` and makes k
    updates in one call; its metrics have the leading axis k.
    """

    devices: list[jax.Device]
    """Those that work, of all processes."""
    shares: int
    """Devices, over all processes, that a batch is divided among."""

    def check_batch(self, size: int) -> None:
        """Raise unless a global batch of `size` divides over the devices.

        Raises:
          AnojaxError: it does not.
        """
        if size < 1 or size % self.shares:
            nearest = max(1, size // self.shares) * self.shares
            raise AnojaxError(
                f"batch_size is {size}, which does not divide over {self.shares} "
                f"devices; use for instance {nearest}, or fewer devices"
            )

    @abc.abstractmethod
    def init(self, task: Task, key: Key[Array, ""], batch: Examples) -> PyTree:
        """The state before the first step, placed; `batch` has one leading axis."""

    @abc.abstractmethod
    def template(self, shapes: PyTree) -> PyTree:
        """What a restored state should look like, from its abstract shapes."""

    @abc.abstractmethod
    def place_state(self, state: TrainState) -> PyTree:
        """Bring one unreplicated state (host arrays) to the devices."""

    @abc.abstractmethod
    def place_whole(self, tree: PyTree) -> PyTree:
        """Bring something that every device needs whole (key, bank)."""

    @abc.abstractmethod
    def place_batch(self, batch: PyTree) -> PyTree:
        """Divide this process's batches ``[k, B / processes, ...]``."""

    @abc.abstractmethod
    def compile(self, task: Task) -> Step:
        """The step of a task; its first argument is donated."""

    @abc.abstractmethod
    def compile_fold(self, task: Task, name: str) -> Fold:
        """What measures a context of a task; batches as for the step, with k = 1."""

    @abc.abstractmethod
    def fetch(self, state: PyTree) -> PyTree:
        """One unreplicated copy, as host arrays (global arrays if spread over hosts)."""

    @abc.abstractmethod
    def fetch_metrics(self, metrics: PyTree) -> dict[str, np.ndarray]:
        """Metrics of one call on the host, ``[k]`` each."""


class Pmap(Strategy):
    """Data parallelism with a copy of the state on every device."""

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self.given = None if devices is None else list(devices)
        self.local = jax.local_devices() if devices is None else self.given
        self.devices = jax.devices() if devices is None else self.given
        self.shares = len(self.devices)
        mesh = Mesh(np.array(self.local), (_DEVICES,))
        self.split = NamedSharding(mesh, PartitionSpec(_DEVICES))

    def init(self, task: Task, key: Key[Array, ""], batch: Examples) -> PyTree:
        return self.place_state(jax.device_get(_init(task)(key, batch)))

    def template(self, shapes: PyTree) -> PyTree:
        return shapes

    def place_state(self, state: TrainState) -> PyTree:
        return self.place_whole(state)

    def place_whole(self, tree: PyTree) -> PyTree:
        def copy(x):
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(copy(jax.random.key_data(x)))
            host = np.asarray(x)[None]
            shape = (len(self.local), *x.shape)
            return jax.make_array_from_callback(shape, self.split, lambda _: host)

        return jax.tree.map(copy, tree)

    def place_batch(self, batch: PyTree) -> PyTree:
        def divide(x):
            shape = (x.shape[0], len(self.local), -1, *x.shape[2:])
            return jax.device_put(np.swapaxes(x.reshape(shape), 0, 1), self.split)

        return jax.tree.map(divide, batch)

    def compile(self, task: Task) -> Step:
        return _pmapped(task, self._named())

    def compile_fold(self, task: Task, name: str) -> Fold:
        return Fold(
            *(_pmapped_fold(f, self._named()) for f in _folds(task, name, True))
        )

    def _named(self) -> tuple[jax.Device, ...] | None:
        return None if self.given is None else tuple(self.given)

    def fetch(self, state: PyTree) -> PyTree:
        return jax.tree.map(_first_copy, state)

    def fetch_metrics(self, metrics: PyTree) -> dict[str, np.ndarray]:
        return jax.tree.map(_first_copy, metrics)


class MeshJit(Strategy):
    """`jit` over a mesh ``(data, model)``: for networks too large to copy.

    Args:
      model: devices that share one copy of the parameters; divides the devices of a
        process.
      rules: which leaves of the state to divide, by their path, for instance
        ``(("kernel$", (None, None, None, "model")),)``. Optimizer moments and averages
        have the paths of their parameters at the end, so one rule holds for all.
        Leaves without a matching rule are copied.
    """

    def __init__(
        self,
        model: int = 1,
        rules: Rules = (),
        devices: Sequence[jax.Device] | None = None,
    ):
        devices = jax.devices() if devices is None else list(devices)
        here = sum(d.process_index == jax.process_index() for d in devices)
        if model < 1 or here % model:
            raise AnojaxError(
                f"model_devices is {model}, but a process has {here} devices; "
                f"choose a divisor of {here}"
            )
        self.devices, self.shares = devices, len(devices) // model
        shape = np.array(devices).reshape(self.shares, model)
        # Auto on purpose: make_mesh would give Explicit axes.
        self.mesh = Mesh(shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2)
        self.rules = rules
        self.whole = NamedSharding(self.mesh, PartitionSpec())
        self.split = NamedSharding(self.mesh, PartitionSpec(None, "data"))

    def shardings(self, state: PyTree) -> PyTree:
        """The sharding of every leaf, by `rules`."""

        def choose(path, leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            for pattern, axes in self.rules:
                if re.search(pattern, name) and len(axes) == len(leaf.shape):
                    self._check_rule(name, leaf.shape, axes)
                    return NamedSharding(self.mesh, PartitionSpec(*axes))
            return self.whole

        return jax.tree_util.tree_map_with_path(choose, state)

    def _check_rule(self, name, shape, axes):
        for size, axis in zip(shape, axes, strict=True):
            if axis is not None and axis not in self.mesh.shape:
                raise AnojaxError(f"sharding of {name}: no mesh axis '{axis}'")
            if axis is not None and size % self.mesh.shape[axis]:
                raise AnojaxError(
                    f"sharding of {name}: an axis of {size} does not divide over "
                    f"{self.mesh.shape[axis]} devices; change the rule"
                )

    def init(self, task: Task, key: Key[Array, ""], batch: Examples) -> PyTree:
        shape = jax.eval_shape(task.init, key, batch)
        # Raw key data: a key made by one process is no global array.
        data = np.asarray(jax.random.key_data(key))
        made = jax.jit(
            lambda data, batch: task.init(jax.random.wrap_key_data(data), batch),
            out_shardings=self.shardings(shape),
        )
        return made(data, jax.tree.map(np.asarray, batch))

    def template(self, shapes: PyTree) -> PyTree:
        return jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            shapes,
            self.shardings(shapes),
        )

    def place_state(self, state: TrainState) -> PyTree:
        return jax.tree.map(_put, state, self.shardings(state))

    def place_whole(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: _put(x, self.whole), tree)

    def place_batch(self, batch: PyTree) -> PyTree:
        put = jax.make_array_from_process_local_data
        return jax.tree.map(lambda x: put(self.split, x), batch)

    def compile(self, task: Task) -> Step:
        return _jitted(task, self)

    def compile_fold(self, task: Task, name: str) -> Fold:
        return Fold(*(_jitted_fold(f, self) for f in _folds(task, name, False)))

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, MeshJit) and self.rules == other.rules
        return same and self.mesh == other.mesh

    def __hash__(self) -> int:
        return hash((self.mesh, self.rules))

    def fetch(self, state: PyTree) -> PyTree:
        return jax.tree.map(_to_host, state)

    def fetch_metrics(self, metrics: PyTree) -> dict[str, np.ndarray]:
        return jax.tree.map(_to_host, metrics)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; a meeting point of all of them."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def gathered(tree: PyTree) -> PyTree:
    """What `Strategy.fetch` found, with arrays that are spread over hosts made whole on
    each of them; then a meeting point of all processes."""

    def whole(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(whole, tree)


def wait_for_all(name: str) -> None:
    """Return once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


# Equal tasks share one compilation, also between runs in one process.
@lru_cache(maxsize=8)
def _init(task: Task):
    return jax.jit(task.init)


@lru_cache(maxsize=8)
def _pmapped(task: Task, devices: tuple[jax.Device, ...] | None) -> Step:
    many = _many_steps(task, Reduce(_DEVICES))
    return jax.pmap(many, _DEVICES, devices=devices, donate_argnums=0)


@lru_cache(maxsize=8)
def _jitted(task: Task, strategy: MeshJit) -> Step:
    many = _many_steps(task, Reduce())

    def keep_sharding(state, key, bank, batch):
        state, metrics = many(state, key, bank, batch)
        return lax.with_sharding_constraint(state, strategy.shardings(state)), metrics

    return jax.jit(keep_sharding, donate_argnums=0)


@lru_cache(maxsize=8)
def _folds(task: Task, name: str, mapped: bool) -> tuple[Callable[..., PyTree], ...]:
    reduce = Reduce(_DEVICES if mapped else None)

    def start(state, batch):
        return task.context_start(name, state, _one(batch))

    def visit(fold, state, key, bank, batch, weights):
        batch = _one(batch).replace(bank=bank)
        return task.context_visit(name, fold, state, key, batch, weights[0], reduce)

    def finish(fold):
        return task.context_finish(name, fold)

    return start, visit, finish


@lru_cache(maxsize=24)
def _pmapped_fold(part, devices: tuple[jax.Device, ...] | None):
    return jax.pmap(part, _DEVICES, devices=devices)


@lru_cache(maxsize=24)
def _jitted_fold(part, strategy: MeshJit):
    def whole(*args):
        return lax.with_sharding_constraint(part(*args), strategy.whole)

    return jax.jit(whole)


def _one(batches: Examples) -> Examples:
    return jax.tree.map(lambda x: x[0], batches)


def _many_steps(task: Task, reduce: Reduce) -> Step:
    def many(state, key, bank, batches):
        # No step can change what is frozen, and no loop carries it along.
        frozen = state.frozen

        def one(state, batch):
            whole = state.replace(frozen=frozen)
            new, metrics = task.step(whole, key, batch.replace(bank=bank), reduce)
            return new.replace(frozen={}), metrics

        state = state.replace(frozen={})
        if batches.ids.shape[0] > 1:
            # XLA's compiler for CPUs brings convolutions into their fast form outside of
            # loops only; inside one, a gradient by a kernel takes 60 times as long.
            unroll = jax.default_backend() == "cpu"
            state, metrics = lax.scan(one, state, batches, unroll=unroll)
        else:
            state, metrics = one(state, _one(batches))
            metrics = jax.tree.map(lambda x: x[None], metrics)
        return state.replace(frozen=frozen), metrics

    return many


def _first_copy(x: Any) -> np.ndarray:
    return np.asarray(x.addressable_shards[0].data)[0, ...]


def _to_host(x: Any) -> Any:
    if x.is_fully_replicated:
        return np.asarray(x.addressable_shards[0].data)
    return np.asarray(x) if x.is_fully_addressable else x


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    if sharding.is_fully_addressable or getattr(x, "sharding", None) == sharding:
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(x), sharding))
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
