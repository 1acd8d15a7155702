"""What a check of a folder finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LEVELS = ("error", "warning", "note", "ok")


@dataclass(frozen=True)
class Finding:
    """One thing found, and what to do about it."""

    level: str
    """One of `LEVELS`: "error" stops a run, a "warning" spoils it."""
    what: str
    where: str
    """The file or folder concerned; several are counted and the first is named."""
    fix: str = ""
    """What to do; empty when there is nothing to do."""


def named(paths: Sequence[Path]) -> str:
    """The first of several files, and how many more there are."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0]}{more}"


@dataclass(frozen=True)
class Seen:
    """What stays of an image after looking at it."""

    path: Path
    shape: tuple[int, int] = (0, 0)
    channels: int = 0
    bits: int = 8
    stored: str = ""
    equal: bool = False
    clear: float = 0.0
    digest: str = ""
    problem: str = ""
