"""Which files an image is made from, and what they held.

Whoever opens an image or a mask says so with `note`; `noted` collects what is opened
inside of it. So it is known without knowing how images find their masks.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from anojax.data.files import sha256_of

_active = threading.local()


def note(path: Path) -> None:
    """Say that a file is read."""
    files = getattr(_active, "files", None)
    if files is not None:
        files[Path(path)] = None


@contextmanager
def noted() -> Iterator[dict[Path, None]]:
    """The files that this thread opens meanwhile, in order.

    >>> with noted() as files:
    ...     note(Path("a.png"))
    >>> [path.name for path in files]
    ['a.png']
    """
    before, files = getattr(_active, "files", None), {}
    _active.files = files
    try:
        yield files
    finally:
        _active.files = before
        if before is not None:
            before.update(files)


def hashes(files: dict[Path, None]) -> dict[str, str]:
    """sha256 of each file by its path; those that are gone are left out."""
    found = {}
    for path in files:
        try:
            state = path.stat()
            found[str(path)] = _hash(path, state.st_size, state.st_mtime_ns)
        except OSError:
            continue  # whoever read it has said so
    return found


@lru_cache(maxsize=1024)
def _hash(path: Path, size: int, modified_ns: int) -> str:
    # One mask may belong to all images; the other arguments are there for the cache.
    return sha256_of(path)
