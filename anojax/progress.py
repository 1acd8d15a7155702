"""A bar on the screen while long work goes on; always on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)


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
        *columns, Speed(""), TimeRemainingColumn(), console=Console(stderr=True)
    ) as shown:
        task = shown.add_task("compiling", total=total, completed=start)
        yield lambda count=1: shown.update(task, advance=count, description=word)
