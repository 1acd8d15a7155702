"""One run made by several processes: each takes its share of the work.

The work is divided into blocks, whose limits follow from the plan alone: whole normal
images, and in TFDS format whole shards. A process takes every n-th block and notes each
that is whole in a log of its own. However many processes there were, and however often
they were stopped, the logs of all blocks in their order are the log of the run, and
from there on it is finished like any other.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anojax.config import to_yaml
from anojax.data.files import atomic_write, make_folder, temporary_name
from anojax.data.lock import HIDDEN, locked
from anojax.data.manifest import BLOCKS, CONFIG, LOG
from anojax.data.pipeline import synthesize as make_images
from anojax.data.plan import Job
from anojax.data.write import Sink, drain
from anojax.environment import workers
from anojax.errors import SettingError
from anojax.progress import bar
from anojax.synthesis.prepare import Prepared


@dataclass(frozen=True)
class Share:
    """One of several equal parts of the work."""

    number: int
    """From 1 on."""
    of: int

    def __post_init__(self):
        if not 1 <= self.number <= self.of:
            raise SettingError(
                f"share is {self.number}/{self.of}; give 1/{self.of} to "
                f"{self.of}/{self.of}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, block: int) -> bool:
        """Whether a block is in it."""
        return block % self.of == self.number - 1


def parse_share(text: str) -> Share:
    """``"3/16"`` -> the third of sixteen.

    Raises:
      SettingError: it is no share.

    >>> parse_share("3/16").number
    3
    """
    number, slash, of = text.partition("/")
    if not (slash and number.strip().isdigit() and of.strip().isdigit()):
        raise SettingError(f"share is '{text}'; write number/of, for instance 3/16")
    return Share(int(number), int(of))


class Blocks:
    """The blocks of a run, and the logs of those that are whole."""

    def __init__(self, run: Path, ends: Sequence[int]):
        self.run, self.ends = run, list(ends)
        self.folder = run / HIDDEN / BLOCKS

    def __len__(self) -> int:
        return len(self.ends)

    def jobs_of(self, block: int) -> range:
        """Numbers of the jobs in a block."""
        return range(self.ends[block - 1] if block else 0, self.ends[block])

    def path(self, block: int) -> Path:
        return self.folder / f"{block:06}.jsonl"

    def missing(self) -> list[int]:
        """Blocks that are not whole yet."""
        before = self._logged()
        return [
            b
            for b in range(len(self))
            if self.ends[b] > before and not self.path(b).is_file()
        ]

    def _logged(self) -> int:
        """Jobs that a process alone has done before."""
        log = self.run / HIDDEN / LOG
        if not log.is_file():
            return 0
        with log.open("rb") as lines:
            return sum(line.endswith(b"\n") for line in lines)

    def join(self) -> None:
        """Make one log of the run out of those of its blocks, up to the first that is
        missing; what a process alone has done comes first."""
        if not self.folder.is_dir():
            return
        log = self.run / HIDDEN / LOG
        known = log.read_bytes().splitlines(keepends=True) if log.is_file() else []
        known = [line for line in known if line.endswith(b"\n")]
        whole = max((end for end in self.ends if end <= len(known)), default=0)
        lines = known[:whole]
        for block in range(len(self)):
            if self.ends[block] <= whole:
                continue
            if not self.path(block).is_file():
                break
            lines += self.path(block).read_bytes().splitlines(keepends=True)
        if len(lines) >= len(known):
            atomic_write(log, b"".join(lines))
        self.remove()

    def remove(self) -> None:
        """Remove the logs of the blocks, and what killed shares have left."""
        left = [self.folder, *self.folder.parent.glob("share-*-of-*")]
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)


class _Log:
    """Takes the lines of some blocks, and writes each block's when it is whole."""

    def __init__(self, blocks: Blocks, mine: Sequence[int]):
        self.blocks, self.ahead = blocks, iter(mine)
        self.lines: list[str] = []
        self.block = next(self.ahead, None)

    def append(self, lines: list[str]) -> None:
        self.lines += lines
        while self.block is not None:
            count = len(self.blocks.jobs_of(self.block))
            if len(self.lines) < count:
                return
            done, self.lines = self.lines[:count], self.lines[count:]
            text = "".join(f"{line}\n" for line in done)
            atomic_write(self.blocks.path(self.block), text)
            self.block = next(self.ahead, None)


def make_share(
    job: Prepared,
    run: Path,
    sink: Sink,
    share: Share,
    *,
    batch_size: int,
    devices: list,
    quiet: bool,
    note: Callable[[str], None],
) -> dict[str, Any]:
    """Make what is missing of a share of a run; returns what there is to say of it."""
    started = time.perf_counter()
    blocks = Blocks(run, sink.ends)
    make_folder(blocks.folder)
    mine = [block for block in blocks.missing() if share.has(block)]
    every = sum(len(blocks.jobs_of(b)) for b in range(len(blocks)) if share.has(b))
    total = sum(len(blocks.jobs_of(b)) for b in mine)
    note(f"share       {share}: {every} images of {job.plan.total}")
    if total < every:
        note(f"continuing after {every - total} of {every} images")
    wanted = [blocks.jobs_of(b) for b in mine]
    with bar(every, start=every - total, hidden=quiet) as advance:
        results = make_images(
            job.plan,
            _jobs(job, wanted),
            batch_size=batch_size,
            devices=devices,
            readers=workers(),
        )
        drain(
            results,
            sink,
            _Log(blocks, mine),
            order=(number for block in wanted for number in block),
            writers=workers(),
            on_commit=lambda: advance(1),
        )
    seconds = time.perf_counter() - started
    return {
        "share": str(share),
        "images": every,
        "seconds": round(seconds, 2),
        "images_per_second": total / seconds,
    }


def _jobs(job: Prepared, wanted: Sequence[range]) -> Iterator[Job]:
    """The jobs of these numbers, which are in order."""
    for block in wanted:
        for each in job.plan.jobs(block.start):
            if each.index >= block.stop:
                break
            yield each


def begin(job: Prepared, run: Path, sink: Sink, share: Share) -> None:
    """Write what every share needs to be there; each may do it, for all write the same."""
    hidden = make_folder(run / HIDDEN)
    # Under a name of its own first: others may be doing the same at this moment.
    mine = hidden / f"config-{share.number}-of-{share.of}.yaml"
    atomic_write(mine, to_yaml(job.resolved))
    os.replace(mine, run / CONFIG)
    sink.make_folders()


def gather(folders: Sequence[Path], run: Path) -> None:
    """Bring the files of shares that were made in folders of their own into one."""
    for folder in folders:
        if folder.resolve() == run.resolve():
            continue
        with locked(folder):
            for path in _files(folder):
                _copy(path, run / path.relative_to(folder))


def _files(folder: Path) -> Iterator[Path]:
    for here, below, names in os.walk(folder):
        if Path(here) == folder / HIDDEN:
            below[:] = [name for name in below if name == BLOCKS]
            continue
        for name in sorted(names):
            path = Path(here) / name
            if not name.endswith(".tmp") and not path.is_symlink():
                yield path


def _copy(source: Path, target: Path) -> None:
    make_folder(target.parent)
    temporary = temporary_name(target)
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)
