"""Finding images in folders, and the layout of the data set they belong to."""

from pathlib import Path

from anojax.data.layouts import LAYOUTS, Source, TestImage, listing, natural
from anojax.data.records import EXTENSIONS
from anojax.errors import DataError, did_you_mean

__all__ = ["Source", "TestImage", "discover", "discover_all", "find_images"]


def find_images(folder: str | Path) -> list[Path]:
    """All images below a folder, by extension, in natural order of their names.

    Hidden files and folders are skipped; names that differ only in their numbers come
    in the order of the numbers. A missing or empty folder is a `DataError`.
    """
    folder = _existing(folder)
    found = listing(folder)
    if not found:
        raise DataError(_nothing_in(folder))
    return found


def discover(folder: str | Path, layout: str = "auto") -> Source:
    """The normal images of the category that `folder` points at.

    Args:
      folder: the folder of a category, or the folder of its training images, or any
        folder of images.
      layout: one of `layouts.LAYOUTS`, or "auto" for the first that fits.

    Raises:
      DataError: no such folder, no image in it, another layout, or a data set of
        several categories, of which one must be chosen.
    """
    found = discover_all(folder, layout)
    if len(found) > 1:
        raise DataError(
            f"{folder} holds {len(found)} categories "
            f"({', '.join(s.category for s in found[:20])}); point at one of them, e.g. "
            f"{found[0].root}"
        )
    return found[0]


def discover_all(folder: str | Path, layout: str = "auto") -> tuple[Source, ...]:
    """The normal images of every category, in natural order of their folders.

    Args:
      folder: as for `discover`, or the folder in which the categories lie.
      layout: of all of them; see `discover`.

    Raises:
      DataError: no such folder, no image in it or in a category, another layout.
    """
    folder = _existing(folder)
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"there is no layout '{layout}'{did_you_mean(layout, LAYOUTS)}")
    names = [layout] if layout != "auto" else list(LAYOUTS)
    for name in names:
        if name == "plain" and layout == "auto":
            if inner := _categories(folder, names):
                return inner
        source = LAYOUTS[name](folder)
        if source is not None and source.paths:
            return (source,)
        if source is not None:
            raise DataError(_nothing_in(folder))
    if inner := _categories(folder, names):
        return inner
    raise DataError(f"{folder} is not laid out as '{layout}'; leave the layout at auto")


def _categories(folder: Path, layouts: list[str]) -> tuple[Source, ...]:
    """The data sets that lie directly below a folder."""
    found = []
    for inner in sorted((p for p in folder.iterdir() if p.is_dir()), key=natural):
        every = (LAYOUTS[name](inner) for name in layouts if name != "plain")
        # A folder such as train/ is part of a category, not one of several.
        source = next((s for s in every if s is not None and s.root == inner), None)
        if source is not None and not source.paths:
            raise DataError(_nothing_in(inner))
        if source is not None:
            found.append(source)
    return tuple(found)


def _existing(folder: str | Path) -> Path:
    folder = Path(folder).expanduser().resolve()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise DataError(f"{folder} is a file; give the folder that holds it")
    raise DataError(f"there is no folder {folder}; check the path")


def _nothing_in(folder: Path) -> str:
    kinds = ", ".join(e[1:] for e in EXTENSIONS)
    return f"there is no image in {folder}; anojax reads {kinds}"
