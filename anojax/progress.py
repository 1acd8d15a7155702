"""A bar on the screen while long work goes on; always on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

SETTLED_S = 5.0
"""Seconds after the first result from which on a remaining time is shown."""


class Remaining(ProgressColumn):
    """The remaining time, from what was done since the first result: compiling comes
    before it, and would be taken for the pace."""

    def __init__(self):
        super().__init__()
        self._begin: float | None = None
        self._first: tuple[float, float] | None = None

    def render(self, task: Task) -> Text:
        seconds = self.seconds(task)
        words = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
        return Text(words, style="progress.remaining")

    def seconds(self, task: Task) -> float | None:
        """Seconds to go; ``None`` while the pace is not known."""
        now, done = task.elapsed, task.completed
        if now is None or task.total is None:
            return None
        if done >= task.total:
            return 0.0
        if self._begin is None:
            # What an earlier process did says nothing about the pace.
            self._begin = done
        if self._first is None and done > self._begin:
            self._first = now, done
        if self._first is None or now - self._first[0] < SETTLED_S:
            return None
        since, before = self._first
        if done == before:
            return None
        return (task.total - done) * (now - since) / (done - before)


@contextmanager
def bar(
    total: int, *, start: int = 0, word: str = "making", hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """A progress bar; gives the function that counts images.

    Args:
      total: images in all.
      start: how many were there already.
      word: what happens to them.
      hidden: draw nothing.

    >>> with bar(2, hidden=True) as advance:
    ...     advance(1)
    """
    if hidden:
        yield lambda count=1: None
        return

    class Speed(TextColumn):
        # Of the whole run: images come in bursts, one batch at a time.
        def render(self, task):
            rate = (task.completed - start) / (task.elapsed or 1.0)
            return f"{rate:.0f} images/s"

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, Speed(""), Remaining(), console=Console(stderr=True)
    ) as shown:
        task = shown.add_task("compiling", total=total, completed=start)
        yield lambda count=1: shown.update(task, advance=count, description=word)
