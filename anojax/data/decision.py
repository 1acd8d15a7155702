"""What each folder of the input is taken for, as a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anojax.data.folders import discover_all
from anojax.data.layouts import GOOD, Source
from anojax.data.masks import Classes
from anojax.data.survey import Survey, survey
from anojax.data.walk import is_run
from anojax.errors import DataError

_MOST_ROWS = 40


@dataclass(frozen=True)
class Place:
    """A folder's images of one role."""

    folder: str
    """Relative to the input; ``.`` for itself."""
    images: int
    taken: str
    """What they are taken for."""


def places(
    folder: str | Path,
    layout: str = "auto",
    *,
    normal: Sequence[str] = (),
    classes: Classes | None = None,
) -> list[Place]:
    """What `folders.discover` takes the images of each folder for, in natural order.

    Where it is not certain, what their names say. Long tables are shortened to the
    upper folders. A folder that is not there has no rows.
    """
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        return []
    seen = survey(root)
    try:
        sources = discover_all(folder, layout, normal=normal, classes=classes)
        roles = _decided(sources)
        rest = "left out"
    except DataError:
        roles, rest = _hinted(seen), "not certain"
    for depth in (None, 3, 2, 1):
        rows = _rows(seen, roles, rest, depth)
        if len(rows) <= _MOST_ROWS:
            break
    return rows[:_MOST_ROWS] + [
        Place("...", sum(row.images for row in rows[_MOST_ROWS:]), "further folders")
    ] * (len(rows) > _MOST_ROWS)


def _decided(sources: Sequence[Source]) -> dict[Path, str]:
    roles = {}
    for source in sources:
        name = f" of {source.category}" if len(sources) > 1 else ""
        roles |= {path: "mask" for path in source.masks}
        for one in source.test:
            what = "normal" if one.defect == GOOD else one.defect
            roles[one.path] = f"test: {what}{name}"
        roles |= {path: f"normal{name}" for path in source.paths}
    return roles


def _hinted(seen: Survey) -> dict[Path, str]:
    """What the names of folders and files say."""
    try:
        masks = set(seen.masks)
    except DataError:
        masks = set()
    roles = {}
    for path, named in seen.roles.items():
        said = [role for role in named if role is not None]
        if path in masks:
            roles[path] = "mask, by its name"
        elif said:
            roles[path] = f"{said[-1]}, by its folder"
    return roles


def _rows(seen: Survey, roles, rest: str, depth: int | None) -> list[Place]:
    counts: Counter[tuple[str, str]] = Counter()
    for path in seen.found.images:
        parts = path.relative_to(seen.root).parts[:-1][:depth]
        counts["/".join(parts) or ".", roles.get(path, rest)] += 1
    rows = [Place(folder, n, taken) for (folder, taken), n in counts.items()]
    if is_run(seen.root):
        rows.insert(0, Place(".", 0, "a run of anojax"))
    return rows
