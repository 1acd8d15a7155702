"""Finding images in folders, and the layout of the data set they belong to."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from anojax.data.layouts import LAYOUTS, PUBLISHED, Source, TestImage
from anojax.data.masks import Classes
from anojax.data.roles import EXTENSIONS, role_of
from anojax.data.survey import Survey, check_plain, masked, plain, survey, tree
from anojax.data.walk import below, folders_in, listing, natural
from anojax.errors import DataError, did_you_mean

__all__ = [
    "Source",
    "TestImage",
    "discover",
    "discover_all",
    "find_images",
]


def find_images(folder: str | Path) -> list[Path]:
    """All images below a folder, by extension, in natural order of their names.

    Hidden files and folders, thumbnails and runs of anojax are skipped; names that
    differ only in their numbers come in the order of the numbers. A missing or empty
    folder is a `DataError`.

    Raises:
      DataError: the folder is missing or holds no images.
    """
    folder = _existing(folder)
    found = listing(folder)
    if not found:
        raise DataError(_nothing_in(folder))
    return found


def discover(
    folder: str | Path,
    layout: str = "auto",
    *,
    normal: Sequence[str] = (),
    classes: Classes | None = None,
) -> Source:
    """The normal images of the category that `folder` points at.

    Args:
      folder: the folder of a category, or the folder of its training images, or any
        folder of images.
      layout: one of `LAYOUTS`, or "auto" for the first that fits.
      normal: patterns such as ``"OK/*"`` of the paths below `folder` that are normal,
        instead of a layout; ``*`` matches across folders.
      classes: which values of masks count; see `masks.parse_classes`.

    Raises:
      DataError: no such folder, no image in it, another layout, a data set of several
        categories, of which one must be chosen, or a folder of which it is not certain
        what is normal.
    """
    found = discover_all(folder, layout, normal=normal, classes=classes)
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {len(found)} categories "
            f"({', '.join(s.category for s in found[:20])}); point at one of them, e.g. "
            f"{found[0].root}, or say with --normal which images are one category"
        )
    return found[0]


def discover_all(
    folder: str | Path,
    layout: str = "auto",
    *,
    normal: Sequence[str] = (),
    classes: Classes | None = None,
) -> tuple[Source, ...]:
    """The normal images of every category, in natural order of their folders.

    Args:
      folder: as for `discover`, or the folder in which the categories lie.
      layout: of all of them; see `discover`.
      normal: see `discover`.
      classes: see `discover`.

    Raises:
      DataError: no such folder, no image in it or in a category, another layout, or it
        is not certain what is normal.
    """
    folder = _existing(folder)
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"there is no layout '{layout}'{did_you_mean(layout, LAYOUTS)}")
    if normal:
        if layout not in ("auto", "plain"):
            raise DataError(
                f"--normal says which images are normal, and so does --layout {layout}; "
                "give one of them"
            )
        return (_matching(folder, normal),)
    names = [n for n in PUBLISHED if layout in ("auto", n)]
    if source := _published(folder, names):
        return (source,)
    if found := _categories(folder, names):
        return _only_these(folder, found, layout)
    if layout in PUBLISHED:
        raise DataError(
            f"{folder} is not laid out as '{layout}'; leave the layout at auto"
        )
    return _own(folder, layout, classes)


def _published(folder: Path, names: Sequence[str]) -> Source | None:
    for name in names:
        if (source := PUBLISHED[name](folder)) is not None:
            if not source.paths:
                raise DataError(_nothing_in(folder))
            return source
    return None


def _categories(folder: Path, names: Sequence[str]) -> tuple[Source, ...]:
    """The published data sets that lie directly below a folder."""
    found = []
    for inner in folders_in(folder):
        # A folder such as train/ is part of a category, not one of several.
        every = (PUBLISHED[name](inner) for name in names)
        source = next((s for s in every if s is not None and s.root == inner), None)
        if source is not None and not source.paths:
            raise DataError(_nothing_in(inner))
        if source is not None:
            found.append(source)
    return tuple(found)


def _only_these(
    folder: Path, found: tuple[Source, ...], layout: str
) -> tuple[Source, ...]:
    """The categories, unless other images lie beside them."""
    beside = listing(folder, deep=False)
    if layout == "auto" and beside:
        raise Survey(folder, below(folder)).unsure(
            f"{len(beside)} images lie in it beside the folder of a data set, "
            f"{found[0].root}"
        )
    return found


def _own(folder: Path, layout: str, classes: Classes | None) -> tuple[Source, ...]:
    """A user's own folders; see `data.survey`."""
    seen = survey(folder)
    if not seen.found.images:
        raise DataError(_nothing_in(folder, seen))
    if layout == "plain":
        return (plain(seen),)
    source = None
    if layout in ("auto", "tree"):
        if several := _trees(seen):
            return several
        source = tree(seen)
    if source is None and layout in ("auto", "masks"):
        source = masked(seen, requested=layout == "masks", classes=classes)
    if source is None and layout != "auto":
        raise DataError(
            f"{folder} is not laid out as '{layout}'; leave the layout at auto"
        )
    if source is None:
        check_plain(seen)
        source = plain(seen)
    return (source,)


def _trees(seen: Survey) -> tuple[Source, ...]:
    """Several categories, each with folders of good parts; or nothing."""
    first = {path.relative_to(seen.root).parts[:-1][:1] for path in seen.found.images}
    if () in first or any(role_of(name) for (name,) in first):
        return ()
    trees = [tree(survey(seen.root / name)) for (name,) in first]
    if len(trees) < 2 or any(one is None or not one.paths for one in trees):
        return ()
    return tuple(sorted(trees, key=lambda one: natural(one.root)))


def _matching(folder: Path, patterns: Sequence[str]) -> Source:
    """The images that are said to be normal."""
    seen = survey(folder)
    every = {path.relative_to(folder).as_posix(): path for path in seen.found.images}
    kept = [p for n, p in every.items() if any(fnmatchcase(n, g) for g in patterns)]
    if not kept:
        if not every:
            raise DataError(_nothing_in(folder, seen))
        raise DataError(
            f"--normal {' '.join(patterns)} matches none of the {len(every)} images in "
            f"{folder}, the first of which is {next(iter(every))}"
        )
    rest = {"images that --normal does not name": len(every) - len(kept)}
    return seen.source("plain", kept, left_out=rest)


def _existing(folder: str | Path) -> Path:
    # Not resolved: a category is called as its link is.
    folder = Path(os.path.abspath(Path(folder).expanduser()))
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"the name of the folder {str(folder)!a} is not UTF-8; rename it"
        ) from None
    if folder.is_dir():
        return folder
    if folder.exists():
        raise DataError(f"{folder} is a file; give the folder that holds it")
    raise DataError(f"there is no folder {folder}; check the path")


def _nothing_in(folder: Path, seen: Survey | None = None) -> str:
    kinds = ", ".join(e[1:] for e in EXTENSIONS)
    words = seen.found.sentence if seen else ""
    left_out = f" (left out: {words})" if words else ""
    return f"there is no image in {folder}{left_out}; anojax reads {kinds}"
