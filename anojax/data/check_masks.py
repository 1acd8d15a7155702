"""What is wrong with masks: of the test images, of regions, of foregrounds."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from anojax.data.decode import decode
from anojax.data.findings import Finding, Seen, named
from anojax.data.folders import Source
from anojax.data.mask_files import mask_files
from anojax.data.masks import Classes, marked, mask_of, not_binary, parse_classes
from anojax.data.testfolder import expected_pairs
from anojax.errors import DataError


def check_truth(
    source: Source, test: list[Seen], classes: Classes | None
) -> Iterator[Finding]:
    """Masks of the test images."""
    lost = [t.path for t in source.test if t.defect != "good" and t.mask is None]
    if lost:
        yield Finding(
            "warning", f"{len(lost)} defect images have no mask", named(lost),
            f"add it below {source.root / 'ground_truth'}",
        )  # fmt: skip
    used = {mask for t in source.test for mask in t.masks}
    orphans = [m for m in expected_pairs(source) if m not in used]
    if orphans:
        yield Finding(
            "warning", f"{len(orphans)} masks have no image", named(orphans),
            "rename them as their images, or remove them",
        )  # fmt: skip
    shapes = {s.path: s.shape for s in test}
    requests = [
        _Request(mask, shapes[t.path], t.path, classes or parse_classes(t.mask_classes))
        for t in source.test
        for mask in t.masks
    ]
    yield from _masks(requests, "defect")


@dataclass(frozen=True)
class _Request:
    """A mask to look at."""

    mask: Path
    shape: tuple[int, int]
    """Of its image; (0, 0) where that cannot be read."""
    image: Path | None = None
    classes: Classes | None = None


def check_masks(
    kind: str, where, source: Source, train: list[Seen], classes: Classes | None
) -> Iterator[Finding]:
    """Masks given for the normal images: one file, or a folder of one each."""
    if where is None:
        return
    good = [s for s in train if not s.problem]
    try:
        files = mask_files(where, source.paths, source.root, kind, classes)
    except DataError as error:
        yield Finding("error", str(error), str(where), f"give another --{kind}")
        return
    if files.box is not None:
        return  # there is no file that could be odd
    if files.pairs is None:
        shapes = {s.shape for s in good}
        requests = [_Request(files.where, shape, classes=classes) for shape in shapes]
        yield from _masks(requests, kind)
        return
    requests, lost = [], []
    for one in good:
        try:
            requests.append(_Request(files.of(one.path), one.shape, one.path, classes))
        except DataError:
            lost.append(one.path)
    if lost:
        yield Finding(
            "error", f"{len(lost)} images have no {kind} mask", named(lost),
            f"add a mask of the same name to {where}",
        )  # fmt: skip
    if files.pairs.orphans:
        orphans = files.pairs.orphans
        yield Finding(
            "warning", f"{len(orphans)} {kind} masks have no image", named(orphans),
            "name them as their images, in the same subfolders",
        )  # fmt: skip
    yield from _masks(requests, kind)


def _masks(requests: list[_Request], kind: str) -> Iterator[Finding]:
    with ThreadPoolExecutor() as pool:
        flaws = list(pool.map(lambda one: _flaws(one, kind), requests))
    by_flaw: dict[tuple[str, str, str], list[Path]] = {}
    for one, several in zip(requests, flaws, strict=True):
        for flaw in several:
            by_flaw.setdefault(flaw, []).append(one.mask)
    for (level, what, fix), paths in by_flaw.items():
        yield Finding(level, f"{len(paths)} {kind} masks {what}", named(paths), fix)


def _flaws(request: _Request, kind: str) -> list[tuple[str, str, str]]:
    try:
        found = decode(request.mask)
    except DataError:
        return [("error", "cannot be read", "export them again as PNG")]
    flaws = []
    if found.lossy:
        flaws.append(
            ("warning", "are JPEG, which blurs their edges", "save them as PNG")
        )
    try:
        share = marked(request.mask, found, request.classes).mean()
    except DataError:
        return [*flaws, ("error", "are not binary", not_binary(found))]
    if request.shape != (0, 0):
        try:
            mask_of(
                request.mask,
                request.shape,
                classes=request.classes,
                image=request.image,
            )
        except DataError:
            flaws.append(
                (
                    "error",
                    "have another size than their image",
                    "export them at its size",
                )
            )
    if share == 0:
        level = "warning" if kind == "defect" else "error"
        flaws.append((level, "are empty", "set what they should mark to white"))
    if kind == "defect" and share > 0.5:
        flaws.append(
            (
                "warning",
                "mark more than half of the image, so they look inverted",
                "save them white on the defect, black elsewhere",
            )
        )
    return flaws
