"""How long each stage of a run takes: decode, encode, write and so on.

Functions say which stage they are (`timed_as`); nothing is measured, and nothing costs
time, until somebody records.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock
from typing import TypeVar

F = TypeVar("F", bound=Callable)

_recording: "Timings | None" = None


@dataclass
class Spent:
    """What one stage took, added up over all threads."""

    seconds: float = 0.0
    """On the clock: work, and waiting for the disk, a core or the interpreter."""
    cpu: float = 0.0
    """On a core, in the stage's own thread."""
    calls: int = 0


@dataclass
class Timings:
    """What all stages took since recording began."""

    spent: dict[str, Spent] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, name: str, seconds: float, cpu: float) -> None:
        with self._lock:
            spent = self.spent.setdefault(name, Spent())
            spent.seconds += seconds
            spent.cpu += cpu
            spent.calls += 1


@contextmanager
def record() -> Iterator[Timings]:
    """Measure all stages while the block runs, in all threads of the process.

    >>> from anojax.data import timings
    >>> with timings.record() as spent, timings.timed("nap"):
    ...     pass
    >>> spent.spent["nap"].calls
    1
    """
    global _recording
    before, _recording = _recording, Timings()
    try:
        yield _recording
    finally:
        _recording = before


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Count the block as work of a stage, if somebody records."""
    stages = _recording
    if stages is None:
        yield
        return
    started, on_core = time.perf_counter(), time.thread_time()
    try:
        yield
    finally:
        stages.add(name, time.perf_counter() - started, time.thread_time() - on_core)


def timed_as(name: str) -> Callable[[F], F]:
    """A decorator: calls of the function are work of a stage."""

    def decorate(function: F) -> F:
        @wraps(function)
        def measured(*args, **options):
            if _recording is None:
                return function(*args, **options)
            with timed(name):
                return function(*args, **options)

        return measured

    return decorate
