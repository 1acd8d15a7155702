"""Writers: threads that turn results into files while the device makes the next ones.

A sink encodes in threads, in any order, and commits in the order of the jobs. What is
committed is logged, so that a killed run continues after the last committed job and
ends with the same bytes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from anojax.data.files import (
    atomic_write,
    encode_png,
    make_folder,
    sha256,
    sha256_of,
)
from anojax.data.manifest import Row, contrast, left_out_line
from anojax.data.measure import box
from anojax.data.plan import Final, Job, Made, Plan
from anojax.data.timings import timed_as


@dataclass(frozen=True)
class Output:
    """What the files of a run depend on, beyond the plan."""

    run: Path
    category: str
    plan: Plan
    settings: tuple[dict[str, Any], ...]
    """Hyper-parameters and controls of each method, for the manifest."""

    def settled(self, made: Made) -> tuple[Made, Final]:
        """A result, and its images as they are written.

        A defect that does not outlive enlarging is left out after all.
        """
        plan = self.plan
        if made.reason is not None:
            native = plan.native
            own = made.normal if native is None else native(made.job.image)
            return made, Final(own, own, np.zeros((*own.shape[:2], 1), np.uint8))
        final = plan.final(made)
        vanished = made.mask.any() and not final.mask.any()
        if vanished and plan.mask_rule is not None and not plan.keep_empty:
            name = plan.methods[made.job.method].name
            reason = f"{name} made no defect that shows at the image's own resolution"
            made = replace(made, reason=reason)
        return made, final

    @timed_as("manifest")
    def row(self, made: Made, final: Final, paths: "Paths", pngs: "Pngs") -> Row:
        """The manifest's line of a result."""
        plan, job = self.plan, made.job
        return Row(
            source=plan.source(job.image),
            normal=paths.normal,
            image=paths.image,
            mask=None if pngs.mask is None else paths.mask,
            method=plan.methods[job.method].name,
            settings=self.settings[job.method],
            seed=plan.seed,
            example_id=job.example_id,
            draw=made.draw,
            anomalous=pngs.mask is not None,
            size=[int(n) for n in final.mask.shape[:2]],
            area=round(float((final.mask > 0).mean()), 6),
            box=box(final.mask),
            contrast=contrast(final.normal, final.image, final.mask, plan.bits),
            sha256=sha256(pngs.image),
            mask_sha256=None if pngs.mask is None else sha256(pngs.mask),
            inputs_sha256=made.inputs_sha256,
            drawn=made.drawn,
            **plan.in_mm(made, final.mask)._asdict(),
        )

    def left_out(self, made: Made) -> str:
        """The log's line of a job without an image."""
        plan, job = self.plan, made.job
        return left_out_line(
            plan.source(job.image),
            plan.methods[job.method].name,
            job.example_id,
            made.reason,
            made.inputs_sha256,
        )


class Paths(NamedTuple):
    normal: str
    image: str
    mask: str


class Pngs(NamedTuple):
    image: bytes
    mask: bytes | None


class Encoded(NamedTuple):
    """What became of a result: a row, or a line about what was left out."""

    row: Row | None
    """Without the hash of its normal image."""
    left_out: str | None
    normal_sha256: str | None = None
    """With the first job of each image."""


def encode_pair(final: Final) -> Pngs:
    """Image and mask as PNG; no mask for an empty draw."""
    mask = encode_png(final.mask) if final.mask.any() else None
    return Pngs(encode_png(final.image), mask)


class Ledger:
    """Adds to rows what depends on the rows before; jobs come in their order."""

    def __init__(self, run: Path):
        self.run = run
        # Number of the last normal image, and the hash of its file.
        self.normal: tuple[int, str] = (-1, "")

    def enter(self, job: Job, encoded: Encoded) -> Row | None:
        """The row as it stands in the manifest, if there is one."""
        if encoded.normal_sha256 is not None:
            self.normal = job.image, encoded.normal_sha256
        if encoded.row is None:
            return None
        if self.normal[0] != job.image:  # an earlier process wrote it
            self.normal = job.image, sha256_of(self.run / encoded.row.normal)
        return replace(encoded.row, normal_sha256=self.normal[1])


@runtime_checkable
class Log(Protocol):
    """Where the lines about jobs go."""

    def append(self, lines: list[str]) -> None:
        """Record finished jobs, in order."""


@runtime_checkable
class Sink(Protocol):
    """Where results go."""

    def ledger(self) -> Ledger:
        """What completes the rows, from the first job on."""

    @property
    def ends(self) -> Sequence[int]:
        """Numbers of jobs after which the work may be divided among processes: each
        part is whole images, and has files of its own."""

    def folders(self) -> set[str]:
        """Names of the folders that a run has, also where they stay empty."""

    def make_folders(self) -> None:
        """Before the first job."""

    def boundary(self, done: int) -> int:
        """The largest number of jobs, at most `done`, that is whole on disk."""

    def encode(self, made: Made) -> Any:
        """In a thread: what `commit` needs."""

    def commit(self, job: Job, encoded: Any) -> list[str]:
        """In the order of the jobs: the log lines that are now whole on disk."""

    def finish(self) -> None:
        """After the last job."""

    def files(self) -> Iterator[str]:
        """The files that hold more than one image, by their names in the run."""

    def jobs_in(self, name: str) -> Iterable[int]:
        """Numbers of the jobs whose images are in such a file."""

    def together(self, number: int) -> Iterable[int]:
        """Numbers of the jobs that are written in one piece with a job."""

    def where(self, job: Job, row: dict[str, Any] | None) -> Paths | None:
        """Where the images of a job are, by the plan or else by the manifest's row;
        ``None`` where neither says."""

    def normal_fits(self, name: str, made: Made, final: Final, png: bytes) -> bool:
        """Whether what is stored beside a normal image is right."""

    def record_problem(self, name: str, made: Made, final: Final) -> str | None:
        """What is wrong with what is stored beside an image."""


BLOCK_JOBS = 256
"""About as many jobs are one part of the work."""


class MvtecSink:
    """Folders as in MVTec AD: ``train/good``, ``test/<method>``, ``ground_truth``.

    ``train/good``, or the plan's folder for them, holds each normal image once, as the
    methods saw it, so that the folder is a data set of its own.
    """

    def __init__(self, output: Output):
        self.output = output
        self._ledger = self.ledger()

    @cached_property
    def ends(self) -> list[int]:
        """Ends of the parts of the work; see `Sink.ends`."""
        plan = self.output.plan
        step = max(1, BLOCK_JOBS // (plan.draws_per_image * plan.each))
        images = sum(plan.draws_of(i) > 0 for i in range(len(plan.images)))
        stops = [*range(step, images, step), len(plan.images)]
        return [plan.first_job(stop) for stop in stops]

    def boundary(self, done: int) -> int:
        return done

    def paths(self, job: Job) -> Paths:
        plan, category = self.output.plan, self.output.category
        method, stem = plan.methods[job.method].name, plan.stem(job)
        return Paths(
            f"{category}/{plan.normal_folder}/{plan.stems[job.image]}.png",
            f"{category}/test/{method}/{stem}.png",
            f"{category}/ground_truth/{method}/{stem}_mask.png",
        )

    def ledger(self) -> "Ledger":
        return Ledger(self.output.run)

    def folders(self) -> set[str]:
        jobs = _one_of_each_method(self.output.plan)
        return {path.rpartition("/")[0] for job in jobs for path in self.paths(job)}

    def make_folders(self) -> None:
        for name in self.folders():
            make_folder(self.output.run / name)

    def encode(self, made: Made) -> Encoded:
        run, output, first = self.output.run, self.output, made.job.first_of_image
        if made.normal is None or (made.reason is not None and not first):
            return Encoded(None, output.left_out(made))
        paths = self.paths(made.job)
        made, final = output.settled(made)
        normal_sha256 = None
        if first:
            normal = encode_png(final.normal)
            atomic_write(run / paths.normal, normal)
            normal_sha256 = sha256(normal)
        if made.reason is not None:
            return Encoded(None, output.left_out(made), normal_sha256)
        pngs = encode_pair(final)
        atomic_write(run / paths.image, pngs.image)
        if pngs.mask is not None:
            atomic_write(run / paths.mask, pngs.mask)
        return Encoded(output.row(made, final, paths, pngs), None, normal_sha256)

    def commit(self, job: Job, encoded: Encoded) -> list[str]:
        row = self._ledger.enter(job, encoded)
        return [encoded.left_out if row is None else row.line()]

    def finish(self) -> None:
        """Every file is in place already."""

    def files(self) -> Iterator[str]:
        return iter(())

    def jobs_in(self, name: str) -> Iterable[int]:
        return ()

    def together(self, number: int) -> Iterable[int]:
        return (number,)

    def where(self, job: Job, row: dict[str, Any] | None) -> Paths | None:
        return self.paths(job)

    def normal_fits(self, name: str, made: Made, final: Final, png: bytes) -> bool:
        return True  # a PNG file holds nothing else

    def record_problem(self, name: str, made: Made, final: Final) -> str | None:
        return None


def drain(
    results: Iterable[Made],
    sink: Sink,
    progress: Log,
    *,
    order: Iterable[int],
    writers: int,
    on_commit: Callable[[], None] = lambda: None,
) -> None:
    """Write results as they come; log them in the order of their jobs.

    Args:
      results: of the jobs in `order`, in any order.
      sink: where they go.
      progress: the log.
      order: numbers of the jobs, rising.
      writers: threads that encode.
      on_commit: called after each job.
    """
    waiting: dict[int, tuple[Job, Future]] = {}
    unfinished: deque[Future] = deque()
    ahead = iter(order)
    following = next(ahead, None)
    pool = ThreadPoolExecutor(writers, thread_name_prefix="write")
    try:
        for made in results:
            future = pool.submit(sink.encode, made)
            waiting[made.job.index] = made.job, future
            unfinished.append(future)
            # Back-pressure: the device waits when the disk does not keep up.
            while len(unfinished) > 64 * writers:
                unfinished.popleft().result()
            following = _commit(
                waiting, following, ahead, sink, progress, on_commit, False
            )
        _commit(waiting, following, ahead, sink, progress, on_commit, True)
    finally:
        pool.shutdown(cancel_futures=True)


def _commit(waiting, following, ahead, sink, progress, on_commit, wait: bool):
    """Commit the results that are next in order; returns the number that follows."""
    lines = []
    while following in waiting and (wait or waiting[following][1].done()):
        job, future = waiting.pop(following)
        lines += sink.commit(job, future.result())
        on_commit()
        following = next(ahead, None)
    if lines:
        progress.append(lines)
    return following


def _one_of_each_method(plan: Plan) -> list[Job]:
    first = next(plan.jobs())
    return [replace(first, method=place) for place in range(len(plan.methods))]
