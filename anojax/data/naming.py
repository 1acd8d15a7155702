"""Names of files that are written, made from the names of a user's images."""

import hashlib
import unicodedata

MOST_BYTES = 180
"""File systems allow 255; endings, numbers and the marks of unfinished files come on
top."""


def file_name(name: str, most: int = MOST_BYTES) -> str:
    r"""The name, or what is left of it when it cannot be that of a file everywhere.

    Line breaks, other control characters and ``\`` become ``_``. A long name is cut, and ends
    with a hash of the whole, so that two of them stay two.

    Args:
      name: without folders.
      most: bytes in UTF-8.

    >>> file_name("part #3")
    'part #3'
    >>> len(file_name("board-" * 40))
    180
    """
    plain = "".join("_" if _breaks(letter) else letter for letter in name)
    data = plain.encode(errors="replace")
    if len(data) <= most:
        return data.decode()
    mark = "-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return data[: most - len(mark)].decode(errors="ignore") + mark


def _breaks(letter: str) -> bool:
    """Whether a character ends a line, steers a terminal, or parts folders elsewhere."""
    return letter == "\\" or unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs")
