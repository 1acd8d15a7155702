"""Folder layouts of inspection data sets, recognized by their shape.

Each recognizer looks at one folder and answers with a `Source`, or ``None`` when the
folder is laid out otherwise. Adding a layout is adding a function to `LAYOUTS`.
"""

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anojax.data.records import EXTENSIONS
from anojax.errors import DataError

GOOD = "good"


@dataclass(frozen=True)
class TestImage:
    """An image of the test split."""

    # Not a test class, whatever its name says to pytest.
    __test__ = False

    path: Path
    defect: str
    """Type of the defect; ``"good"`` for none."""
    mask: Path | None
    """Where the defect is; ``None`` for good images and for lost masks."""


@dataclass(frozen=True)
class Source:
    """The normal images of one category, and what else its data set holds."""

    category: str
    paths: tuple[Path, ...]
    """Normal images for training, in natural order of their names."""
    layout: str
    """One of `LAYOUTS`."""
    root: Path
    """The folder of the category."""
    test: tuple[TestImage, ...] = ()
    masks: tuple[Path, ...] = ()
    """Every mask of the data set, those without an image too."""
    foreground: Path | None = None
    """Folder of foreground masks that comes with the images."""


def natural(path: Path) -> tuple:
    """Sort key by which ``2.png`` comes before ``10.png``."""
    pieces = re.split(r"(\d+)", path.as_posix())
    numbers = tuple(
        (0, int(p), "") if p.isdigit() else (1, 0, p.lower()) for p in pieces
    )
    return (numbers, path.as_posix())


def listing(folder: Path, *, deep: bool = True) -> list[Path]:
    """Image files by extension, in natural order; hidden files and folders skipped."""
    if not folder.is_dir():
        return []
    found = folder.rglob("*") if deep else folder.glob("*")
    return sorted(
        (
            p
            for p in found
            if p.suffix.lower() in EXTENSIONS
            and not any(part.startswith(".") for part in p.relative_to(folder).parts)
            and p.is_file()
        ),
        key=lambda p: natural(p.relative_to(folder)),
    )


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    inside = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return sorted(inside, key=natural)


def _category(folder: Path, *inner: str) -> Path | None:
    """The category's folder if `folder` is it, or lies on the way to root/inner."""
    for depth in range(len(inner) + 1):
        root = folder.parents[depth - 1] if depth else folder
        if folder == root.joinpath(*inner[:depth]) and root.joinpath(*inner).is_dir():
            return root
    return None


def tested_in(
    root: Path, normal: str, suffixes: tuple[str, ...]
) -> tuple[tuple[TestImage, ...], tuple[Path, ...]]:
    """The images under ``test/<defect>`` with masks ``ground_truth/<defect>``."""
    found, masks = [], []
    for folder in _folders(root / "test"):
        truth = root / "ground_truth" / folder.name
        by_stem = {p.stem: p for p in listing(truth)}
        for path in listing(folder):
            names = (path.stem + suffix for suffix in suffixes)
            mask = next((by_stem[n] for n in names if n in by_stem), None)
            if folder.name == normal:
                found.append(TestImage(path, GOOD, None))
            else:
                found.append(TestImage(path, folder.name, mask))
    for folder in _folders(root / "ground_truth"):
        masks += listing(folder)
    return tuple(found), tuple(masks)


def _trained(folder: Path, normal: str, layout: str) -> Source | None:
    root = _category(folder, "train", normal)
    if root is None:
        return None
    test, masks = tested_in(root, normal, ("_mask", "", "_gt"))
    foreground = root / "foreground"
    return Source(
        category=root.name,
        paths=tuple(listing(root / "train" / normal)),
        layout=layout,
        root=root,
        test=test,
        masks=masks,
        foreground=foreground if foreground.is_dir() else None,
    )


def mvtec(folder: Path) -> Source | None:
    """MVTec AD, and MPDD, which has the same: ``<category>/train/good``,
    ``test/<defect>/x.png``, ``ground_truth/<defect>/x_mask.png``."""
    return _trained(folder, "good", "mvtec")


def btad(folder: Path) -> Source | None:
    """BTAD: ``<category>/train/ok``, ``test/{ok,ko}``, ``ground_truth/ko``."""
    return _trained(folder, "ok", "btad")


def visa(folder: Path) -> Source | None:
    """VisA: ``<category>/Data/Images/{Normal,Anomaly}``, ``Data/Masks/Anomaly``.

    With the data set's ``split_csv/1cls.csv`` beside the category, its split holds;
    without it every normal image is for training.
    """
    root = _category(folder, "Data", "Images", "Normal")
    if root is None:
        return None
    images = root / "Data" / "Images"
    normal = listing(images / "Normal")
    masks = listing(root / "Data" / "Masks")
    by_stem = {p.stem: p for p in masks}
    test = [
        TestImage(p, "anomaly", by_stem.get(p.stem))
        for p in listing(images / "Anomaly")
    ]
    split = root.parent / "split_csv" / "1cls.csv"
    if split.is_file():
        chosen = _visa_split(split, root.name)
        held = [p for p in normal if p not in chosen["train"] and p in chosen["test"]]
        normal = [p for p in normal if p in chosen["train"]]
        test = [TestImage(p, GOOD, None) for p in held] + [
            t for t in test if t.path in chosen["test"]
        ]
    return Source(root.name, tuple(normal), "visa", root, tuple(test), tuple(masks))


def _visa_split(table: Path, category: str) -> dict[str, set[Path]]:
    chosen = {"train": set(), "test": set()}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                if row["object"] == category:
                    chosen[row["split"]].add(table.parents[1] / row["image"])
            except KeyError as missing:
                raise DataError(
                    f"{table} lacks {missing}; VisA's table has the columns object, "
                    "split (train or test), label, image and mask"
                ) from None
    return chosen


def magnetic_tile(folder: Path) -> Source | None:
    """The magnetic-tile data set as published: ``MT_Free/Imgs/x.jpg`` are good,
    ``MT_<defect>/Imgs`` hold pairs of ``x.jpg`` and the mask ``x.png``."""
    root = _category(folder, "MT_Free", "Imgs")
    if root is None:
        return None
    test, masks = [], []
    for part in _folders(root):
        if not part.name.startswith("MT_") or part.name == "MT_Free":
            continue
        files = listing(part)
        by_stem = {p.stem: p for p in files if p.suffix.lower() == ".png"}
        defect = part.name.removeprefix("MT_").lower()
        test += [
            TestImage(p, defect, by_stem.get(p.stem))
            for p in files
            if p.suffix.lower() != ".png"
        ]
        masks += by_stem.values()
    good = [p for p in listing(root / "MT_Free") if p.suffix.lower() != ".png"]
    return Source(
        "magnetic_tile", tuple(good), "magnetic_tile", root, tuple(test), tuple(masks)
    )


def plain(folder: Path) -> Source | None:
    """Any folder of images, with subfolders: all of them are normal."""
    return Source(folder.name, tuple(listing(folder)), "plain", folder)


# In the order in which they are tried.
LAYOUTS: dict[str, Callable[[Path], Source | None]] = {
    "mvtec": mvtec,
    "btad": btad,
    "visa": visa,
    "magnetic_tile": magnetic_tile,
    "plain": plain,
}
