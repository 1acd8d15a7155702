"""Opening the files of others: regular files only, and never without a limit.

A folder may hold pipes and devices under any name. Waiting for a pipe would hang a run
and reading a device would never end, so both are refused before they are opened.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from anojax.errors import DataError

TEXT_BYTES = 2**20
"""Most bytes of a configuration or a list; those that people write have thousands."""


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; the caller closes it.

    Raises:
      DataError: the file does not exist, may not be read, or is a folder, a pipe, a
        socket or a device.
    """
    try:
        _check_kind(path, os.stat(path).st_mode)
        # Without waiting: between the two calls it may have become a pipe.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        file = os.fdopen(number, "rb")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise cannot_read(path, error) from None
    try:
        _check_kind(path, os.fstat(file.fileno()).st_mode)
    except DataError:
        file.close()
        raise
    return file


_BINARY = getattr(os, "O_BINARY", 0)

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder; give a file")
    kind = next((words for test, words in _KINDS if test(mode)), "no regular file")
    raise DataError(f"{path} is {kind}, which is not read; give a regular file")


def cannot_read(path: Path, error: Exception) -> DataError:
    """The system's refusal as one sentence with the next step."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} does not exist; check the path")
    if isinstance(error, PermissionError):
        return DataError(f"{path} may not be read; check its permissions")
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{path} cannot be read ({reason}); check the path")


def read_json(path: Path, *keys: str, limit: int = 2**26) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
      path: the file.
      *keys: what it must have.
      limit: most bytes that it may have.

    Raises:
      DataError: it cannot be read, is no JSON object, or lacks a key.
    """
    try:
        values = json.loads(read_text(path, limit=limit))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); make it again") from None
    if not isinstance(values, dict) or any(key not in values for key in keys):
        raise DataError(
            f"{path} is damaged (it lacks {', '.join(keys)}); make it again"
        )
    return values


def read_text(path: Path, *, limit: int = TEXT_BYTES) -> str:
    """A text file in UTF-8, with or without a byte-order mark.

    Line ends of Windows become ``\\n``.

    Args:
      path: the file.
      limit: most bytes that it may have.

    Raises:
      DataError: it cannot be opened, is larger than `limit`, or is in another encoding.
    """
    try:
        with open_file(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise cannot_read(path, error) from None
    if len(data) > limit:
        raise DataError(f"{path} is larger than {limit // 2**10} KiB; give a text file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start} does not fit); save it as "
            "UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path} holds bytes that are no text; give a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")
