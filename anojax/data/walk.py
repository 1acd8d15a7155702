"""Which files lie below a folder, and which are left out and why.

Links to folders are followed once. Left out are what is hidden, the thumbnails of file
servers, runs of anojax, and whatever cannot be an image; all but hidden files are
counted, so that nothing is dropped without a word.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from anojax.data.roles import EXTENSIONS

# Folders in which servers and systems keep copies of images, in lower case.
THUMBNAILS = frozenset(
    "@eadir @tmp #recycle #snapshot __macosx thumbs thumbnails thumbnail thumb _thumbs "
    "_thumbnails $recycle.bin lost+found cachedimages".split()
) | {"system volume information"}
# What anojax leaves in its folders: all the files of one group.
_RUN_MARKS = (
    (".anojax",),
    ("config.yaml", "manifest.jsonl"),
    ("config.yaml", "finished.json"),
    ("config.yaml", "checkpoints"),
    ("config.yaml", "model"),
    ("scores.json", "report.html"),
)
# Images in formats that are not read: worth a word, as they look like input.
_OTHER_FORMATS = frozenset(
    ".gif .jp2 .j2k .jpx .heic .heif .avif .jxl .raw .dng .cr2 .nef .arw .pgm .ppm .pbm "
    ".pnm .tga .exr .hdr .dcm .npy .npz .mat .eps .svg .pdf .jfif .ico .psd".split()
)


@dataclass(frozen=True)
class Listing:
    """What was found below a folder."""

    images: tuple[Path, ...]
    """By extension, in natural order of their paths below the folder."""
    others: tuple[Path, ...] = ()
    """Files that are no images: tables, texts."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of files or folders that were not looked at."""

    @property
    def sentence(self) -> str:
        """What was left out, in words; empty when nothing was."""
        return "; ".join(f"{n} {reason}" for reason, n in self.left_out.items())


def natural(path: Path) -> tuple:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    # Decimal digits only: "²" is a digit of which int() knows no value.
    pieces = re.split(r"([0-9]+)", path.as_posix())
    numbers = tuple(
        (0, int(p), "") if number % 2 else (1, 0, p.lower())
        for number, p in enumerate(pieces)
    )
    return (numbers, path.as_posix())


def below(folder: Path, *, deep: bool = True) -> Listing:
    """List a folder; an absent one is empty."""
    images, others, left_out = [], [], Counter()
    seen: set[tuple[int, int]] = set()
    # Links last: what lies in the folder itself comes under its own name.
    ahead, links = [folder], []
    while ahead or links:
        here = ahead.pop() if ahead else links.pop(0)
        try:
            found = os.stat(here)
            if not stat.S_ISDIR(found.st_mode):
                break  # the folder itself is none
            known = (found.st_dev, found.st_ino)
            if known in seen:
                left_out["links to folders that are read already"] += 1
                continue
            seen.add(known)
            with os.scandir(here) as inside:
                entries = sorted(inside, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError:
            left_out["folders that may not be read"] += 1
            continue
        for entry in entries:
            _sort_in(entry, here, images, others, left_out, ahead, links, deep)
    images.sort(key=lambda path: natural(path.relative_to(folder)))
    return Listing(tuple(images), tuple(others), dict(left_out))


def _sort_in(entry, here, images, others, left_out, ahead, links, deep) -> None:
    name, path = entry.name, here / entry.name
    if name.startswith("."):
        return
    if not _is_text(name):
        left_out["names that are not UTF-8"] += 1
        return
    try:
        mode = entry.stat().st_mode
    except OSError:
        left_out["links that lead nowhere"] += 1
        return
    ending = path.suffix.lower()
    if stat.S_ISDIR(mode):
        if not deep:
            return
        if name.lower() in THUMBNAILS:
            left_out["folders of thumbnails or of the system"] += 1
        elif is_run(path):
            left_out["runs of anojax"] += 1
        else:
            (links if entry.is_symlink() else ahead).append(path)
    elif not stat.S_ISREG(mode):
        if ending in EXTENSIONS:
            left_out["pipes or devices"] += 1
    elif ending in EXTENSIONS:
        images.append(path)
    elif ending in _OTHER_FORMATS:
        left_out[f"{ending} files, which are not read"] += 1
    else:
        others.append(path)


def listing(folder: Path, *, deep: bool = True) -> list[Path]:
    """The images of `below`."""
    return list(below(folder, deep=deep).images)


def folders_in(folder: Path) -> list[Path]:
    """Folders directly below one that may hold images, in natural order."""
    try:
        inside = [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []
    kept = (p for p in inside if not p.name.startswith(".") and _is_text(p.name))
    wanted = (p for p in kept if p.name.lower() not in THUMBNAILS and not is_run(p))
    return sorted(wanted, key=natural)


def is_run(folder: Path) -> bool:
    """Whether anojax wrote this folder: a run, a training, an evaluation."""
    return any(
        all(os.path.lexists(folder / mark) for mark in group) for group in _RUN_MARKS
    )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def merged(listings: Iterable[Listing]) -> dict[str, int]:
    """What several listings left out, together."""
    total: Counter[str] = Counter()
    for one in listings:
        total.update(one.left_out)
    return dict(total)
