"""One process at a time writes to a folder; the lock dies with its process."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anojax.data.files import cannot_write, make_folder
from anojax.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has none; there two processes are not kept apart
    fcntl = None  # type: ignore[assignment]

HIDDEN = ".anojax"
FILE = "lock"
# File systems without locks, for instance some network ones.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is missing, and removed if it stays empty.

    The system gives the lock back when the process ends, however it ends. Where the
    file system has no locks, nothing keeps two processes apart.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder) / "run"):
    ...     pass

    Raises:
      RunError: another process holds it, or it cannot be written.
    """
    folder = make_folder(run / HIDDEN)
    path = folder / FILE
    handle = _acquire(run, path)
    try:
        yield
    finally:
        # First the name, then the lock: whoever waits for the name gets a new file. The
        # folder may have been replaced meanwhile, with a lock of somebody else in it.
        if _is_at(handle, path):
            path.unlink(missing_ok=True)
        os.close(handle)
        for empty in (folder, run):
            with suppress(OSError):  # it holds something, or is gone
                empty.rmdir()


def _acquire(run: Path, path: Path) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            make_folder(path.parent)  # the one before has just tidied up
            continue
        except OSError as error:
            raise cannot_write(path, error) from error
        if _lock(run, handle) and _is_at(handle, path):
            return handle
        os.close(handle)


def _lock(run: Path, handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(
            f"another process is at work in {run}; wait for it, or choose another "
            "--output"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(handle)
            raise cannot_write(run, error) from error
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        here, there = os.fstat(handle), path.stat()
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
