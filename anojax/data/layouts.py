"""Folder layouts of published data sets, recognized by their shape.

Each recognizer looks at one folder and answers with a `Source`, or ``None`` when the
folder is laid out otherwise. Adding a layout is adding a function to `PUBLISHED`. For
folders of a user's own see `data.survey`.
"""

import csv
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anojax.data.opening import read_text
from anojax.data.pairing import pair
from anojax.data.walk import below, folders_in, listing, merged, natural
from anojax.errors import DataError

__all__ = ["GOOD", "LAYOUTS", "PUBLISHED", "Source", "TestImage", "listing", "natural"]

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
    more_masks: tuple[Path, ...] = ()
    """Further masks of the image, which are united with the first."""
    mask_classes: str | None = None
    """Which values of its masks mark a defect, where the layout says so; see
    `masks.parse_classes`."""

    @property
    def masks(self) -> tuple[Path, ...]:
        """All masks of the image."""
        return () if self.mask is None else (self.mask, *self.more_masks)


@dataclass(frozen=True)
class Source:
    """The normal images of one category, and what else its data set holds."""

    category: str
    paths: tuple[Path, ...]
    """Normal images for training, in natural order of their names."""
    layout: str
    """Name of the layout, as `SynthConfig.layout` takes it."""
    root: Path
    """The folder of the category."""
    test: tuple[TestImage, ...] = ()
    masks: tuple[Path, ...] = ()
    """Every mask of the data set, those without an image too."""
    foreground: Path | None = None
    """Folder of foreground masks that comes with the images."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of files or folders below `root` that are not used."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, one sentence for each reason."""
        return tuple(f"left out: {n} {reason}" for reason, n in self.left_out.items())


def _category(folder: Path, *inner: str) -> Path | None:
    """The category's folder if `folder` is it, or lies on the way to root/inner."""
    for depth in range(len(inner) + 1):
        root = folder.parents[depth - 1] if depth else folder
        if folder == root.joinpath(*inner[:depth]) and root.joinpath(*inner).is_dir():
            return root
    return None


def tested(
    images: Sequence[tuple[Path, str]],
    root: Path,
    masks: Iterable[Path],
    masks_root: Path,
) -> tuple[tuple[TestImage, ...], tuple[Path, ...]]:
    """Test images (file, type of defect) with their masks; and the other masks.

    Raises:
      DataError: an image may have two masks, or a mask two images.
    """
    anomalous = [path for path, defect in images if defect != GOOD]
    pairs = pair(anomalous, root, masks, masks_root, several=True)
    found = []
    for path, defect in images:
        mine = pairs.of.get(path, ())
        found.append(TestImage(path, defect, mine[0] if mine else None, mine[1:]))
    return tuple(found), pairs.orphans


def tested_in(
    test: Path, truth: Path, normal: str
) -> tuple[tuple[TestImage, ...], tuple[Path, ...]]:
    """The images under ``<test>/<defect>`` with masks ``<truth>/<defect>``, and every
    mask."""
    images = [
        (path, GOOD if folder.name == normal else folder.name)
        for folder in folders_in(test)
        if folder != truth
        for path in listing(folder)
    ]
    masks = tuple(m for folder in folders_in(truth) for m in listing(folder))
    return tested(images, test, masks, truth)[0], masks


def _trained(
    folder: Path, normal: str, layout: str, *, test: str = "test", truth: str = ""
) -> Source | None:
    root = _category(folder, "train", normal)
    if root is None:
        return None
    found = below(root / "train" / normal)
    images, masks = tested_in(root / test, root / (truth or "ground_truth"), normal)
    foreground = root / "foreground"
    left_out = merged([found, below(root / test)])
    used = {*found.images, *masks, *listing(foreground), *(one.path for one in images)}
    if others := sum(path not in used for path in listing(root)):
        left_out["images in other folders, such as validation"] = others
    return Source(
        category=root.name,
        paths=found.images,
        layout=layout,
        root=root,
        test=images,
        masks=masks,
        foreground=foreground if foreground.is_dir() else None,
        left_out=left_out,
    )


def mvtec(folder: Path) -> Source | None:
    """MVTec AD, and MPDD, which has the same: ``<category>/train/good``,
    ``test/<defect>/x.png``, ``ground_truth/<defect>/x_mask.png``."""
    return _trained(folder, "good", "mvtec")


def mvtec2(folder: Path) -> Source | None:
    """MVTec AD 2: as MVTec AD, with ``test_public/{good,bad}``,
    ``test_public/ground_truth/bad`` and images under ``validation`` and
    ``test_private``, which are left alone."""
    root = _category(folder, "train", "good")
    if root is None or not (root / "test_public").is_dir():
        return None
    truth = "test_public/ground_truth"
    return _trained(folder, "good", "mvtec2", test="test_public", truth=truth)


def loco(folder: Path) -> Source | None:
    """MVTec LOCO AD: as MVTec AD, with several masks of an image in a folder of its
    name, which are united; every value but 0 marks a type of defect."""
    root = _category(folder, "train", "good")
    kinds = ("logical_anomalies", "structural_anomalies")
    if root is None or not any((root / "test" / kind).is_dir() for kind in kinds):
        return None
    found = _trained(folder, "good", "loco")
    return dataclasses.replace(found, test=_all_classes(found.test))


def _all_classes(test: Sequence[TestImage]) -> tuple[TestImage, ...]:
    """For masks with numbers of types, all of which are defects."""
    return tuple(dataclasses.replace(one, mask_classes="nonzero") for one in test)


def mvtec3d(folder: Path) -> Source | None:
    """MVTec 3D-AD: ``train/good/rgb`` and ``test/<defect>/{rgb,gt}``; the depth images
    in ``xyz`` are left alone."""
    root = _category(folder, "train", "good", "rgb")
    if root is None:
        return None
    found = below(root / "train" / "good" / "rgb")
    tests = folders_in(root / "test")
    images = [
        (path, GOOD if kind.name == "good" else kind.name)
        for kind in tests
        for path in listing(kind / "rgb")
    ]
    bad = (kind for kind in tests if kind.name != "good")
    masks = tuple(m for kind in bad for m in listing(kind / "gt"))
    test, _ = tested(images, root / "test", masks, root / "test")
    left_out = dict(found.left_out)
    if depths := len(listing(root / "train" / "good" / "xyz")):
        left_out["depth images"] = depths
    return Source(root.name, found.images, "mvtec3d", root, test, masks, None, left_out)


def btad(folder: Path) -> Source | None:
    """BTAD: ``<category>/train/ok``, ``test/{ok,ko}``, ``ground_truth/ko``."""
    return _trained(folder, "ok", "btad")


def visa(folder: Path) -> Source | None:
    """VisA: ``<category>/Data/Images/{Normal,Anomaly}``, ``Data/Masks/Anomaly``, whose
    masks hold numbers of types.

    With the data set's ``split_csv/1cls.csv`` beside the category, its split holds;
    without it every normal image is for training.
    """
    root = _category(folder, "Data", "Images", "Normal")
    if root is None:
        return None
    images = root / "Data" / "Images"
    found = below(images / "Normal")
    normal = list(found.images)
    masks = tuple(listing(root / "Data" / "Masks"))
    bad = [(path, "anomaly") for path in listing(images / "Anomaly")]
    test = list(tested(bad, images, masks, root / "Data" / "Masks")[0])
    split = root.parent / "split_csv" / "1cls.csv"
    if split.is_file():
        chosen = _visa_split(split, root.name)
        held = [p for p in normal if p not in chosen["train"] and p in chosen["test"]]
        normal = [p for p in normal if p in chosen["train"]]
        test = [TestImage(p, GOOD, None) for p in held] + [
            t for t in test if t.path in chosen["test"]
        ]
    return Source(
        root.name, tuple(normal), "visa", root, _all_classes(test), masks,
        left_out=found.left_out,
    )  # fmt: skip


def _visa_split(table: Path, category: str) -> dict[str, set[Path]]:
    """The files of each split.

    Raises:
      DataError: no table of VisA, or a path that leads out of the data set.
    """
    chosen = {"train": set(), "test": set()}
    root = table.parents[1]
    limit = 2**26  # a line for each of a few hundred thousand images
    rows = csv.DictReader(read_text(table, limit=limit).splitlines())
    try:
        for row in rows:
            if row["object"] != category:
                continue
            path = Path(row["image"])
            if path.is_absolute() or ".." in path.parts:
                raise DataError(
                    f"{table} names {row['image']}, which leads out of {root}; a table "
                    "names files below its data set"
                )
            chosen[row["split"]].add(root / path)
    except (KeyError, TypeError, csv.Error) as missing:
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
    images, masks = [], []
    for part in folders_in(root):
        if not part.name.startswith("MT_") or part.name == "MT_Free":
            continue
        defect = part.name.removeprefix("MT_").lower()
        for path in listing(part):
            if path.suffix.lower() == ".png":
                masks.append(path)
            else:
                images.append((path, defect))
    test, _ = tested(images, root, masks, root)
    found = below(root / "MT_Free")
    good = [p for p in found.images if p.suffix.lower() != ".png"]
    return Source(
        "magnetic_tile", tuple(good), "magnetic_tile", root, test, tuple(masks),
        left_out=found.left_out,
    )  # fmt: skip


def dagm(folder: Path) -> Source | None:
    """DAGM 2007: ``<Class>/{Train,Test}/x.PNG``; those with a file
    ``Label/x_label.PNG`` beside them have a defect, the others are good."""
    inside = folder.name.lower() == "train"
    root = folder.parent if inside else folder
    if not _labels(_inner(root, "train"))[0]:
        return None
    train, tests = _inner(root, "train"), _inner(root, "test")
    labels = _labels(train)
    if any(not path.stem.lower().endswith("_label") for path in labels[0]):
        return None
    found = below(train, deep=False)
    marked = pair(found.images, train, *labels).of
    good = tuple(path for path in found.images if path not in marked)
    here = listing(tests, deep=False)
    labels = _labels(tests)
    pairs = pair(here, tests, *labels)
    test = [
        TestImage(p, "defect", pairs.of[p][0])
        if p in pairs.of
        else TestImage(p, GOOD, None)
        for p in here
    ]
    left_out = dict(found.left_out)
    if marked:
        left_out["images of Train with a defect"] = len(marked)
    return Source(
        root.name, good, "dagm", root, tuple(test), tuple(labels[0]), left_out=left_out
    )


def _labels(split: Path) -> tuple[list[Path], Path]:
    folder = _inner(split, "label")
    return listing(folder), folder


def _inner(folder: Path, name: str) -> Path:
    """The folder of that name in any case; as it is written where there is none."""
    every = folders_in(folder)
    return next((p for p in every if p.name.lower() == name), folder / name)


# In the order in which they are tried.
PUBLISHED: dict[str, Callable[[Path], Source | None]] = {
    "mvtec2": mvtec2,
    "mvtec3d": mvtec3d,
    "loco": loco,
    "mvtec": mvtec,
    "btad": btad,
    "visa": visa,
    "magnetic_tile": magnetic_tile,
    "dagm": dagm,
}

LAYOUTS = (*PUBLISHED, "tree", "masks", "plain")
"""Names of all layouts, in the order in which they are tried; see `data.survey` for the
last three."""
