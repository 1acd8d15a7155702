"""The stream from image files to synthetic images, with bounded memory.

Reader threads decode ahead of the device; programs are compiled in threads while the
images of their first batches are read; the device works on one batch while the
results of the one before are handed on. Batches have a fixed size and mix new images
with second attempts for draws that came out empty, because an image depends on its
own (seed, method, example id, draw) and not on its neighbors.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, islice
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from anojax import device_memory
from anojax.batching import Batch, batch
from anojax.data.plan import Job, Loaded, Made, Plan
from anojax.data.provenance import hashes, noted
from anojax.data.supply import bank_for, with_prompts
from anojax.data.timings import timed
from anojax.environment import cores
from anojax.errors import DataError, SettingError
from anojax.types import Controls, Inputs

log = logging.getLogger("anojax")

A, B = TypeVar("A"), TypeVar("B")

MOST_TOLD = 16
"""Longest list of drawn numbers that a manifest keeps."""

GROUP = 4096
"""Jobs of one image that are held at a time, at most."""

COMPILERS = 8
"""Programs that are compiled at the same time, on as many cores; each takes a few
hundred MiB meanwhile."""


@dataclass(eq=False)
class _Item:
    job: Job
    draw: int
    loaded: Loaded
    inputs_sha256: dict[str, str]


class _Program(NamedTuple):
    run: Batch
    params: Any
    size: int
    """Images that it takes."""


def synthesize(
    plan: Plan,
    jobs: Iterable[Job],
    *,
    batch_size: int = 64,
    devices: Sequence[jax.Device] | None = None,
    readers: int = 2,
) -> Iterator[Made]:
    """Make the jobs' images, in an order of convenience.

    Args:
      plan: what decides the pixels.
      jobs: those of `plan.jobs()` that are wanted, in order.
      batch_size: images per device call; the pixels do not depend on it. A batch that
        does not fit into the devices' memory is halved, and a warning says so.
      devices: all local ones by default; the pixels do not depend on them.
      readers: threads that decode.

    Raises:
      SettingError: not even the smallest batch fits into the devices' memory.
    """
    # An image that is used very often is read again now and then: groups are held.
    by_image = (
        (image, list(group))
        for (image, _), group in groupby(jobs, lambda j: (j.image, j.index // GROUP))
    )

    def read(entry):
        image, group = entry
        with noted() as files, timed("decode"):
            try:
                loaded = plan.load(image)
            except DataError as error:
                loaded = str(error)
        with timed("hash"):
            return group, loaded, hashes(files)

    # Two batches ahead keep the device busy; more would only cost memory.
    ahead = max(2, min(2 * batch_size, 128))
    with (
        ThreadPoolExecutor(readers, thread_name_prefix="read") as pool,
        _pool(min(cores(), COMPILERS), "compile") as compiling,
    ):
        device = _Device(plan, batch_size, devices, compiling)
        for group, loaded, inputs in look_ahead(pool, read, by_image, ahead):
            for job in group:
                if isinstance(loaded, str):
                    yield Made(job, reason=loaded, inputs_sha256=inputs)
                else:
                    yield from device.add(_Item(job, job.first_draw, loaded, inputs))
        yield from device.flush()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Small arrays as numbers that JSON holds, to five digits."""

    def number(value):
        return float(f"{value:.5g}") if isinstance(value, float) else value

    found = {name: np.asarray(value) for name, value in values.items()}
    return {
        name: number(value.item())
        if value.ndim == 0
        else [*map(number, value.tolist())]
        for name, value in found.items()
        if value.ndim < 2 and value.size <= MOST_TOLD
    }


@contextmanager
def _pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads; what they have not begun when the block ends is dropped."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def look_ahead(
    pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A], ahead: int
) -> Iterator[B]:
    """``map`` in threads, in order, with at most `ahead` results waiting."""
    items = iter(items)
    waiting = deque(pool.submit(work, item) for item in islice(items, ahead))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


class _Device:
    """Queues of work, one per method and number of channels; one batch in flight."""

    def __init__(self, plan: Plan, batch_size: int, devices, compilers):
        self.plan, self.batch_size, self.compilers = plan, batch_size, compilers
        self.devices = tuple(jax.local_devices() if devices is None else devices)
        self.queues: dict[tuple[int, int], deque[_Item]] = {}
        self.programs: dict[tuple[int, int], Future[_Program]] = {}
        self.in_flight: tuple[tuple[int, int], list[_Item], int, Any] | None = None
        self.making_bank = Lock()

    def add(self, item: _Item) -> Iterator[Made]:
        kind = item.job.method, item.loaded.image.shape[-1]
        if kind not in self.programs:
            self._compile(kind, item, self.batch_size)
        queue = self.queues.setdefault(kind, deque())
        queue.append(item)
        if len(queue) >= self.batch_size:
            yield from self._run(kind)

    def flush(self) -> Iterator[Made]:
        """Work off what is left; empty draws come back into the queues."""
        while self.in_flight or any(self.queues.values()):
            kind = next((k for k, queue in self.queues.items() if queue), None)
            if kind is None:
                yield from self._collect()
            else:
                yield from self._run(kind)

    def _run(self, kind: tuple[int, int]) -> Iterator[Made]:
        """Start a batch; while the device is at it, hand on the one before."""
        with timed("compile"):
            run, params, size = self.programs[kind].result()
        queue = self.queues[kind]
        items = [queue.popleft() for _ in range(min(size, len(queue)))]
        padded = items + [items[-1]] * (size - len(items))
        ids = np.array([item.job.example_id for item in padded], np.uint32)
        draws = np.array([item.draw for item in padded], np.uint32)
        try:
            with timed("feed"):
                out = run(params, self.plan.seed, ids, self._inputs(padded), draws)
        except jax.errors.JaxRuntimeError as error:
            self._retry_smaller(kind, items, size, error)
            return
        # Only what is needed keeps its memory on the device.
        started = kind, items, size, (out.image, out.mask, out.aux)
        yield from self._collect()
        self.in_flight = started

    def _collect(self) -> Iterator[Made]:
        if self.in_flight is None:
            return
        (kind, items, size, out), self.in_flight = self.in_flight, None
        try:
            with timed("device"):
                images, masks, told = jax.tree.map(np.asarray, out)
        except jax.errors.JaxRuntimeError as error:
            self._retry_smaller(kind, items, size, error)
            return
        again = []
        for place, (item, image, mask) in enumerate(
            zip(items, images, masks, strict=False)
        ):
            job, attempts = item.job, item.draw - item.job.first_draw + 1
            normal = item.loaded.image
            with timed("judge"):
                mask = self.plan.mask(job, normal, image, mask)
            inputs = item.inputs_sha256
            # Copies: views would keep the whole batch alive.
            made = Made(
                job,
                item.draw,
                normal,
                image.copy(),
                mask.copy(),
                inputs_sha256=inputs,
                own_shape=item.loaded.own_shape,
                drawn=_plain(self.plan.drawn(job, item.draw))
                | _plain({name: values[place] for name, values in told.items()}),
            )
            with timed("judge"):
                shows = job.draws == 1 or self.plan.shows(made)
            if shows:
                yield made
            elif attempts < job.draws:
                again.append(replace(item, draw=item.draw + 1))
            else:
                reason = self.plan.gave_up(job, attempts)
                yield Made(job, item.draw, normal, reason=reason, inputs_sha256=inputs)
        self.queues[kind].extendleft(reversed(again))

    def _inputs(self, items: list[_Item]) -> Inputs:
        def stack(name):
            planes = [getattr(item.loaded, name) for item in items]
            return None if planes[0] is None else np.stack(planes)

        label = self.plan.label
        return Inputs(
            image=stack("image"),
            foreground=stack("foreground"),
            region=stack("region"),
            label=None if label is None else np.full(len(items), label, np.int32),
            controls=self._controls(items),
        )

    def _controls(self, items: list[_Item]) -> Controls:
        """Those of the plan; where it has ranges, a value for each item."""
        plan = self.plan
        drawn = [plan.drawn(item.job, item.draw) for item in items]
        own = {
            name: np.array([each[name] for each in drawn], np.float32)
            for name in plan.ranges
        }
        return replace(plan.controls, **own)

    def _compile(self, kind: tuple[int, int], item: _Item, size: int) -> None:
        """Begin to compile the program of a kind for batches of `size`."""
        self.programs[kind] = self.compilers.submit(self._compiled, kind, item, size)

    def _compiled(self, kind: tuple[int, int], item: _Item, size: int) -> _Program:
        method, channels = kind
        synth = self.plan.methods[method]
        with self.making_bank:  # methods share banks: each is made once
            bank = bank_for(synth.needs, self.plan.bank, channels)
        key = jax.random.key(np.uint32(self.plan.seed & 0xFFFFFFFF))
        # Controls are single numbers; all else has a leading axis.
        given = self._inputs([item]).replace(controls=self.plan.controls)
        arrays = given.replace(controls=Controls())
        one = jax.tree.map(lambda x: x[0], arrays).replace(controls=self.plan.controls)
        params = synth.init(key, one)
        bank = with_prompts(bank, synth, params, self.plan.prompts)
        run = batch(synth, bank=bank, uint8=True, devices=self.devices)
        params = run.place(params)
        while not self._fits(run, params, size, given):
            size = self._smaller(kind, size)
        return _Program(run, params, size)

    def _fits(self, run: Batch, params: Any, size: int, given: Inputs) -> bool:
        """Compile for batches of `size`; False where the memory is too small."""
        try:
            compiled = run.lower(params, size, given).compile()
        except jax.errors.JaxRuntimeError as error:
            if device_memory.is_full(error):
                return False
            raise
        return device_memory.fits(compiled, self.devices)

    def _retry_smaller(self, kind, items: list[_Item], size: int, error) -> None:
        """Put a batch that did not fit back into its queue, for a smaller program."""
        if not device_memory.is_full(error):
            raise error
        self.queues[kind].extendleft(reversed(items))
        # A second batch of this size may have been under way already.
        if self.programs[kind].result().size == size:
            self._compile(kind, items[0], self._smaller(kind, size))

    def _smaller(self, kind: tuple[int, int], size: int) -> int:
        """Half of a batch that does not fit, and a sentence that says so."""
        name = self.plan.methods[kind[0]].name
        where = self.devices[0].device_kind
        smaller = device_memory.halved(size, self.devices)
        if smaller is None:
            raise SettingError(
                f"{name}: not even {size} images fit into the memory of {where}; "
                "choose a smaller --size"
            )
        log.warning(
            f"{name}: {size} images at a time do not fit into the memory of {where}; "
            f"going on with {smaller}"
        )
        return smaller
