"""Names that a run's own files mention: they lead to regular files inside of it.

A manifest is data, and may have been written by anybody: a name in it must not lead
out of the run, through a link, or to something that is no file.
"""

import os
import stat
from pathlib import Path, PurePosixPath

from anojax.errors import RunError


def inside(root: Path, name: str) -> Path:
    """The path of a name below a folder.

    Args:
      root: the folder; it may itself be reached through links.
      name: relative, with ``/`` between its parts.

    Raises:
      RunError: the name is empty or absolute, goes up, or passes through a link.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise RunError(f"{name!r} is no name of a file in {root}")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ".." in parts or not parts:
        raise RunError(f"'{name}' leads out of {root}")
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise RunError(f"{path} is a link; a run holds none")
    return path


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; pipes and devices are not waited for.

    Raises:
      RunError: it is missing, cannot be read, or is no regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise RunError(f"{path} is missing") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RunError(f"{path} is no regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from error
    finally:
        os.close(handle)
