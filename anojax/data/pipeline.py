"""The stream from image files to synthetic images, with bounded memory.

Reader threads decode ahead of the device; programs are compiled in threads while the
images of their first batches are read; the device works on one batch while the
results of the one before are handed on. Batches have a fixed size and mix new images
with second attempts for draws that came out empty, because an image depends on its
own (seed, method, example id, draw) and not on its neighbors.
"""

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import UInt8, UInt16

from anojax import device_memory
from anojax.batching import Batch, batch
from anojax.core import Synthesizer
from anojax.data.naming import file_name
from anojax.data.native import to_native
from anojax.data.provenance import hashes, noted
from anojax.data.timings import timed
from anojax.data.visible import RULE, mean_change, written_mask
from anojax.environment import cores
from anojax.errors import DataError, SettingError
from anojax.types import Bank, Controls, Inputs

log = logging.getLogger("anojax")

A, B = TypeVar("A"), TypeVar("B")

Plane = UInt8[np.ndarray, "h w 1"]
Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]

DRAWS = 20
"""Attempts before an image is given up as empty."""

GROUP = 4096
"""Jobs of one image that are held at a time, at most."""

FAINT = 8.0
"""Changes below this many gray levels at the working size may be lost when a defect is
enlarged to an image's own resolution; they are looked at there before they count."""
COMPILERS = 8
"""Programs that are compiled at the same time, on as many cores; each takes a few
hundred MiB meanwhile."""


@dataclass(frozen=True)
class Loaded:
    """A normal image, ready for the device."""

    image: UInt8[np.ndarray, "h w c"]
    foreground: Plane | None = None
    region: Plane | None = None


@dataclass(frozen=True)
class Job:
    """One image to make."""

    index: int
    """Place in the manifest."""
    method: int
    """Place of the method in the plan."""
    image: int
    """Place of the normal image in natural order."""
    draw_of_image: int
    example_id: int
    first_draw: int = 0
    draws: int = DRAWS
    """Attempts allowed."""

    @property
    def first_of_image(self) -> bool:
        """Whether the normal image is written with it."""
        return self.method == 0 and self.draw_of_image == 0


@dataclass(frozen=True)
class Made:
    """What became of a job: an image and its mask, or a reason why not."""

    job: Job
    draw: int = 0
    normal: UInt8[np.ndarray, "h w c"] | None = None
    image: UInt8[np.ndarray, "h w c"] | None = None
    mask: Plane | None = None
    reason: str | None = None
    inputs_sha256: dict[str, str] = field(default_factory=dict)
    """Of the files that it was made from, by their paths."""


class Final(NamedTuple):
    """Images as they are written."""

    normal: Pixels
    image: Pixels
    mask: Plane


@dataclass(frozen=True)
class Plan:
    """Everything that decides the pixels of a run, and nothing else."""

    methods: tuple[Synthesizer, ...]
    images: tuple[Path, ...]
    seed: int
    load: Callable[[int], Loaded] = field(repr=False)
    """Reads image number i; raises DataError if it cannot be used."""
    bank: Callable[[str, int], Bank] = field(repr=False)
    """The images that a need ("texture", "normal") draws from, by channels."""
    controls: Controls = field(default_factory=Controls)
    per_image: int = 1
    count: int | None = None
    """Images per method, going round the normal images; instead of `per_image`."""
    keep_empty: bool = False
    label: int | None = None
    """Of the images' category, for methods that tell categories apart."""
    native: Callable[[int], Pixels] | None = field(default=None, repr=False)
    """Reads the own pixels of image number i; ``None`` keeps the working size."""
    bits: int = 16
    """Depth of the sensor, for own pixels of 16 bits."""
    mask_rule: str | None = RULE
    """``None``: masks as the methods give them, as in runs of earlier versions."""
    sources: tuple[str, ...] | None = None
    """Names of the images for the manifest; their paths when absent."""
    min_contrast: float = 1.0
    """Least mean change under the mask, in gray levels of 255."""

    @property
    def draws_per_image(self) -> int:
        """Most images that one method makes from one normal image."""
        if self.count is None:
            return self.per_image
        return -(-self.count // len(self.images))

    def draws_of(self, image: int) -> int:
        """Images that each method makes from this normal image."""
        if self.count is None:
            return self.per_image
        whole, rest = divmod(self.count, len(self.images))
        return whole + (image < rest)

    def first_job(self, image: int) -> int:
        """Number of jobs before those of this image."""
        if self.count is None:
            return image * self.per_image * len(self.methods)
        whole, rest = divmod(self.count, len(self.images))
        return (image * whole + min(image, rest)) * len(self.methods)

    @property
    def total(self) -> int:
        """Number of images to make."""
        return self.first_job(len(self.images))

    def jobs(self, start: int = 0) -> Iterator[Job]:
        """The jobs from number `start` on: image by image, so that each is decoded
        once."""
        places = range(len(self.images))
        first = max(0, bisect_right(places, start, key=self.first_job) - 1)
        for image in places[first:]:
            index, each = self.first_job(image), len(self.methods)
            skipped = max(0, start - index) // each
            index += skipped * each
            for draw in range(skipped, self.draws_of(image)):
                for method in range(len(self.methods)):
                    example_id = image * self.draws_per_image + draw
                    draws = 1 if self.keep_empty else DRAWS
                    if index >= start:
                        yield Job(index, method, image, draw, example_id, draws=draws)
                    index += 1

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """A name for each image: its file's, made unique where two collide."""
        stems = [file_name(path.stem) for path in self.images]
        taken = set(stems)
        if len(taken) == len(stems):
            return tuple(stems)
        seen, unique = set(), []
        for number, stem in enumerate(stems):
            if stem in seen:
                stem = f"{stem}-{number}"
                while stem in taken:
                    stem += "-"
            seen.add(stem)
            taken.add(stem)
            unique.append(stem)
        return tuple(unique)

    def source(self, image: int) -> str:
        """Under which name the manifest mentions a normal image."""
        return str(self.images[image]) if self.sources is None else self.sources[image]

    def final(self, made: "Made") -> "Final":
        """The images of a result as they are written, at their own resolution if that
        is requested."""
        if self.native is None:
            return Final(made.normal, made.image, made.mask)
        own = self.native(made.job.image)
        image, mask = to_native(own, made.normal, made.image, made.mask, self.bits)
        return Final(own, image, self.mask(made.job, own, image, mask))

    def mask(self, job: Job, normal: Pixels, image: Pixels, mask: Plane) -> Plane:
        """The mask of an image, by the plan's rule; empty where nothing changed."""
        if self.mask_rule is None:
            return mask
        return written_mask(self.methods[job.method], normal, image, mask)

    def shows(self, made: "Made") -> bool:
        """Whether the image as it is written is anomalous, and plainly enough."""
        if self.mask_rule is None or not made.mask.any():
            return bool(made.mask.any())
        least, clear = self.min_contrast, max(FAINT, 2 * self.min_contrast)
        levels = 255 * mean_change(made.normal, made.image, made.mask)
        if levels < least or self.native is None or levels >= clear:
            return levels >= least
        final = self.final(made)
        return bool(final.mask.any()) and 255 * mean_change(*final, self.bits) >= least

    def gave_up(self, job: Job, attempts: int) -> str:
        """Why there is no image after that many attempts."""
        name, least = self.methods[job.method].name, self.min_contrast
        what = f"{name} came out empty"
        if self.mask_rule is not None:
            what += f", or changed less than {least:g} of 255 gray levels,"
        return f"{what} in {attempts} draws"

    def stem(self, job: Job) -> str:
        """The name of a job's files, without ending."""
        stem = self.stems[job.image]
        if self.draws_per_image == 1:
            return stem
        digits = max(3, len(str(self.draws_per_image - 1)))
        return f"{stem}_{job.draw_of_image:0{digits}}"


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
        started = kind, items, size, (out.image, out.mask)
        yield from self._collect()
        self.in_flight = started

    def _collect(self) -> Iterator[Made]:
        if self.in_flight is None:
            return
        (kind, items, size, out), self.in_flight = self.in_flight, None
        try:
            with timed("device"):
                images, masks = map(np.asarray, out)
        except jax.errors.JaxRuntimeError as error:
            self._retry_smaller(kind, items, size, error)
            return
        again = []
        for item, image, mask in zip(items, images, masks, strict=False):
            job, attempts = item.job, item.draw - item.job.first_draw + 1
            normal = item.loaded.image
            with timed("judge"):
                mask = self.plan.mask(job, normal, image, mask)
            inputs = item.inputs_sha256
            # Copies: views would keep the whole batch alive.
            made = Made(
                job, item.draw, normal, image.copy(), mask.copy(), inputs_sha256=inputs
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
            controls=self.plan.controls,
        )

    def _compile(self, kind: tuple[int, int], item: _Item, size: int) -> None:
        """Begin to compile the program of a kind for batches of `size`."""
        self.programs[kind] = self.compilers.submit(self._compiled, kind, item, size)

    def _compiled(self, kind: tuple[int, int], item: _Item, size: int) -> _Program:
        method, channels = kind
        synth = self.plan.methods[method]
        need = next((n for n in synth.needs if n in ("texture", "normal")), None)
        with self.making_bank:  # methods share banks: each is made once
            bank = None if need is None else self.plan.bank(need, channels)
        run = batch(synth, bank=bank, uint8=True, devices=self.devices)
        key = jax.random.key(np.uint32(self.plan.seed & 0xFFFFFFFF))
        # Controls are single numbers; all else has a leading axis.
        given = self._inputs([item])
        arrays = given.replace(controls=Controls())
        one = jax.tree.map(lambda x: x[0], arrays).replace(controls=self.plan.controls)
        params = synth.init(key, one)
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
