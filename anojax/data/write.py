"""Writers: threads that turn results into files while the device makes the next ones.

A sink encodes in threads, in any order, and commits in the order of the jobs. What is
committed is logged, so that a killed run continues after the last committed job and
ends with the same bytes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from anojax.data.files import Pixels, atomic_write, encode_png, make_folder, sha256
from anojax.data.manifest import Progress, Row, box, contrast, left_out_line
from anojax.data.pipeline import Final, Job, Made, Plan
from anojax.data.stages import stage


@dataclass(frozen=True)
class Output:
    """What the files of a run depend on, beyond the plan."""

    run: Path
    category: str
    plan: Plan
    settings: tuple[dict[str, Any], ...]
    """Hyper-parameters and controls of each method, for the manifest."""

    def normal(self, made: Made) -> Pixels:
        """The normal image of a result as it is written."""
        native = self.plan.native
        return made.normal if native is None else native(made.job.image)

    @stage("manifest")
    def row(self, made: Made, final: Final, paths: "Paths", pngs: "Pngs") -> Row:
        """The manifest's line of a result."""
        plan, job = self.plan, made.job
        return Row(
            source=str(plan.images[job.image]),
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
        )

    def left_out(self, made: Made) -> str:
        """The log's line of a job without an image."""
        plan, job = self.plan, made.job
        return left_out_line(
            str(plan.images[job.image]),
            plan.methods[job.method].name,
            job.example_id,
            made.reason,
        )


class Paths(NamedTuple):
    normal: str
    image: str
    mask: str


class Pngs(NamedTuple):
    image: bytes
    mask: bytes | None


def lost(plan: Plan, made: Made, final: Final) -> str | None:
    """Why a result is left out after all: its defect did not outlive enlarging."""
    kept = plan.mask_rule is None or plan.keep_empty or final.mask.any()
    if kept or not made.mask.any():
        return None
    name = plan.methods[made.job.method].name
    return f"the defect of {name} is not to be seen at the image's own resolution"


def encode_pair(final: Final) -> Pngs:
    """Image and mask as PNG; no mask for an empty draw."""
    mask = encode_png(final.mask) if final.mask.any() else None
    return Pngs(encode_png(final.image), mask)


@runtime_checkable
class Sink(Protocol):
    """Where results go."""

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
        """Every file that the plan may have written, relative to the run."""


class MvtecSink:
    """Folders as in MVTec AD: ``train/good``, ``test/<method>``, ``ground_truth``.

    ``train/good`` holds each normal image once, as the methods saw it, so that the
    folder is a data set of its own.
    """

    def __init__(self, output: Output):
        self.output = output

    def boundary(self, done: int) -> int:
        return done

    def paths(self, job: Job) -> Paths:
        plan, category = self.output.plan, self.output.category
        method, stem = plan.methods[job.method].name, plan.stem(job)
        return Paths(
            f"{category}/train/good/{plan.stems[job.image]}.png",
            f"{category}/test/{method}/{stem}.png",
            f"{category}/ground_truth/{method}/{stem}_mask.png",
        )

    def make_folders(self) -> None:
        for job in _one_of_each_method(self.output.plan):
            for path in self.paths(job):
                make_folder((self.output.run / path).parent)

    def encode(self, made: Made) -> str:
        run, paths, job = self.output.run, self.paths(made.job), made.job
        if made.normal is None:
            return self.output.left_out(made)
        first_of_image = job.method == 0 and job.draw_of_image == 0
        if made.reason is not None:
            if first_of_image:
                own = self.output.normal(made)
                atomic_write(run / paths.normal, encode_png(own))
            return self.output.left_out(made)
        final = self.output.plan.final(made)
        if first_of_image:
            atomic_write(run / paths.normal, encode_png(final.normal))
        if reason := lost(self.output.plan, made, final):
            return self.output.left_out(replace(made, reason=reason))
        pngs = encode_pair(final)
        atomic_write(run / paths.image, pngs.image)
        if pngs.mask is not None:
            atomic_write(run / paths.mask, pngs.mask)
        return self.output.row(made, final, paths, pngs).line()

    def commit(self, job: Job, encoded: str) -> list[str]:
        return [encoded]

    def finish(self) -> None:
        """Every file is in place already."""

    def files(self) -> Iterator[str]:
        for job in self.output.plan.jobs():
            yield from self.paths(job)


def drain(
    results: Iterable[Made],
    sink: Sink,
    progress: Progress,
    *,
    start: int,
    writers: int,
    on_commit: Callable[[], None] = lambda: None,
) -> None:
    """Write results as they come; log them in the order of their jobs.

    Args:
      results: of the jobs from number `start` on, in any order.
      sink: where they go.
      progress: the log.
      start: number of the first job.
      writers: threads that encode.
      on_commit: called after each job.
    """
    waiting: dict[int, tuple[Job, Future]] = {}
    unfinished: deque[Future] = deque()
    following = start
    pool = ThreadPoolExecutor(writers, thread_name_prefix="write")
    try:
        for made in results:
            future = pool.submit(sink.encode, made)
            waiting[made.job.index] = made.job, future
            unfinished.append(future)
            # Back-pressure: the device waits when the disk does not keep up.
            while len(unfinished) > 64 * writers:
                unfinished.popleft().result()
            following = _commit(waiting, following, sink, progress, on_commit, False)
        _commit(waiting, following, sink, progress, on_commit, True)
    finally:
        pool.shutdown(cancel_futures=True)


def _commit(waiting, following, sink, progress, on_commit, wait: bool) -> int:
    """Commit the results that are next in order; returns the number that follows."""
    lines = []
    while following in waiting and (wait or waiting[following][1].done()):
        job, future = waiting.pop(following)
        lines += sink.commit(job, future.result())
        on_commit()
        following += 1
    if lines:
        progress.append(lines)
    return following


def _one_of_each_method(plan: Plan) -> list[Job]:
    return [job for job, _ in zip(plan.jobs(), plan.methods, strict=False)]
