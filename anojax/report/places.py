"""Absolute paths in short, for pages that are handed on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Places:
    """The folders and files that a configuration names by absolute paths.

    >>> places = Places({"input": "/home/me/parts"})
    >>> places.shorten("images in /home/me/parts")
    'images in parts'
    >>> places.shorten_file(Path("/home/me/parts/left/1.png"))
    'parts/left/1.png'
    """

    def __init__(self, config: dict[str, Any]):
        found = {name for name in _words(config) if os.path.isabs(name)}
        # One inside another goes first, or its beginning would be taken from it.
        self._known = sorted((n for n in found if Path(n).name), key=len, reverse=True)

    def shorten(self, text: str) -> str:
        """A text that mentions them, each by its own name alone."""
        for known in self._known:
            text = text.replace(known, Path(known).name)
        return text

    def shorten_file(self, path: Path) -> str:
        """A file below one of them from that one's name on; any other by its name."""
        for known in self._known:
            if path.is_relative_to(known):
                return path.relative_to(Path(known).parent).as_posix()
        return path.name

    def shorten_all(self, values: Any) -> Any:
        """A configuration with every text in short."""
        if isinstance(values, dict):
            return {key: self.shorten_all(value) for key, value in values.items()}
        if isinstance(values, list | tuple):
            return [self.shorten_all(value) for value in values]
        return self.shorten(values) if isinstance(values, str) else values


def _words(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        for value in values.values():
            yield from _words(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _words(value)
    elif isinstance(values, str):
        # Runs of several stages are named one after the other.
        yield from values.split(",")
