"""Folders of a user's own: which of their images are normal.

Nothing is taken for normal on a guess. Folders named as good or bad parts decide, or
masks of which every image has one; a folder of nothing but images is normal as a whole.
Where anything hints at more, the answer is a sentence that says what was found and
which flag decides.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zlib import crc32

from anojax.data.decode import decode
from anojax.data.layouts import GOOD, Source, TestImage, tested
from anojax.data.masks import Classes, is_binary, mask_of
from anojax.data.pairing import Pairs, pair
from anojax.data.roles import (
    LABEL_FILES,
    Role,
    ends_as_mask,
    is_container,
    is_label_table,
    mask_stems,
    role_of,
    says_anomalous,
)
from anojax.data.walk import Listing, below, folders_in
from anojax.errors import DataError

DECIDE = (
    "say which are with --normal GLOB (e.g. --normal 'good/*'), or take all with "
    "--layout plain"
)
_SAMPLE = 8
_UNNAMED = "defect"


@dataclass(frozen=True)
class Survey:
    """A folder, and what the names in it say."""

    root: Path
    found: Listing

    @cached_property
    def roles(self) -> dict[Path, tuple[Role | None, ...]]:
        """For each image the roles of the folders it lies in, from the root down."""
        known: dict[Path, tuple[Role | None, ...]] = {self.root: ()}

        def of(folder: Path) -> tuple[Role | None, ...]:
            if folder not in known:
                known[folder] = (*of(folder.parent), role_of(folder.name))
            return known[folder]

        return {path: of(path.parent) for path in self.found.images}

    @cached_property
    def masks(self) -> tuple[Path, ...]:
        """Files that are masks by their folder, their ending, or as the lossless twin
        of an image."""
        inside = {p for p, roles in self.roles.items() if "mask" in roles}
        outside = [p for p in self.found.images if p not in inside]
        stems = {(p.parent, p.stem.casefold()) for p in outside}
        beside = {
            p
            for p in outside
            if any((p.parent, s.casefold()) in stems for s in mask_stems(p.stem))
        }
        twins = self._twins([p for p in outside if p not in beside])
        chosen = inside | beside | twins
        return tuple(p for p in self.found.images if p in chosen)

    def _twins(self, paths: Sequence[Path]) -> set[Path]:
        """PNG, BMP or TIFF files beside a JPEG of the same name that are binary."""
        groups = defaultdict(list)
        for path in paths:
            groups[path.parent, path.stem.casefold()].append(path)
        twins = []
        for group in groups.values():
            lossless = [p for p in group if p.suffix.lower() not in (".jpg", ".jpeg")]
            if len(group) == 2 and len(lossless) == 1:
                twins += lossless
        with ThreadPoolExecutor() as pool:
            binary = list(pool.map(_binary, twins))
        if any(binary) and not all(binary):
            no = twins[binary.index(False)]
            raise self.unsure(
                f"{sum(binary)} of {len(twins)} files beside a JPEG of the same name "
                f"look like masks, but {no} does not"
            )
        return set(twins) if any(binary) else set()

    @cached_property
    def images(self) -> tuple[Path, ...]:
        """All that are no masks."""
        masks = set(self.masks)
        return tuple(p for p in self.found.images if p not in masks)

    def unsure(self, what: str) -> DataError:
        """The answer where it is not certain."""
        return DataError(
            f"which images of {self.root} are normal is not certain: {what}; {DECIDE}"
        )

    def source(self, layout: str, paths, test=(), left_out=None) -> Source:
        """The answer where it is."""
        extra = {} if left_out is None else {k: n for k, n in left_out.items() if n}
        return Source(
            category=self.root.name,
            paths=tuple(paths),
            layout=layout,
            root=self.root,
            test=tuple(test),
            masks=self.masks if layout != "plain" else (),
            left_out=self.found.left_out | extra,
        )


def survey(root: Path) -> Survey:
    """Look at a folder."""
    return Survey(root, below(root))


def _binary(path: Path) -> bool:
    try:
        return is_binary(path)
    except DataError:
        return False


def tree(seen: Survey) -> Source | None:
    """Folders named as good parts (good, OK, normal, ...) at any depth, in any case,
    beside others; only what lies in them is normal. ``train`` and ``test`` above or
    below them divide."""
    split_of = {p: _kind(seen, p) for p in seen.images}
    if not any(kind == "normal" for kind, _ in split_of.values()):
        return None
    # Where good images lie under test alone, they are all there is.
    trained = any(k == "normal" and s is None for k, s in split_of.values())
    trained |= any(k == "normal" and s == "train" for k, s in split_of.values())
    tests = any(k not in (None, "normal") and s == "test" for k, s in split_of.values())
    normal, test, left_out = [], [], Counter()
    for path, (kind, split) in split_of.items():
        if kind is None:
            left_out["images in no folder of good or bad parts"] += 1
        elif split == "validation" and trained:
            left_out["images for validation"] += 1
        elif kind == "normal" and trained and split == "test":
            test.append((path, GOOD))
        elif kind == "normal":
            normal.append(path)
        elif tests and split != "test":
            left_out["anomalous images that are not of the test split"] += 1
        else:
            test.append((path, kind))
    found, _ = tested(test, seen.root, seen.masks, seen.root)
    return seen.source("tree", normal, found, left_out)


def _kind(seen: Survey, path: Path) -> tuple[str | None, str | None]:
    """ "normal", the type of a defect, or ``None``; and the split, if there is one."""
    names = path.relative_to(seen.root).parts[:-1]
    roles = seen.roles[path]
    split = next((r for r in roles if r in ("train", "test", "validation")), None)
    for place in reversed(range(len(roles))):
        if roles[place] == "normal":
            return "normal", split
        if roles[place] == "anomalous":
            # NG/scratch is of type scratch, NG alone of type NG.
            inner = [n for n in names[place + 1 :] if not is_container(n)]
            return (inner[0] if inner else names[place]), split
    for place, name in enumerate(names):
        above = seen.root.joinpath(*names[:place])
        beside = roles[place] is None and _holds_good(above)
        if beside or (place and roles[place - 1] == "test" and roles[place] is None):
            return name, split
    return None, split


def _holds_good(folder: Path) -> bool:
    return any(role_of(inner.name) == "normal" for inner in folders_in(folder))


def masked(
    seen: Survey, *, requested: bool = False, classes: Classes | None = None
) -> Source | None:
    """Masks beside the images, or in folders of their own: images whose mask is empty
    are normal. With ``train`` and ``test``, as in KolektorSDD2, these divide.

    Args:
      seen: the folder.
      requested: the user named this layout: images without a mask are normal, too.
      classes: see `masks.parse_classes`.
    """
    if not seen.masks:
        return None
    pairs = pair(seen.images, seen.root, seen.masks, seen.root, several=True)
    if not pairs.of:
        return None
    with ThreadPoolExecutor() as pool:
        marks = pool.map(
            lambda image: any(_marks(m, classes) for m in pairs.of[image]), pairs.of
        )
        marked = dict(zip(pairs.of, marks, strict=True))
    _check_masks(seen, pairs, marked, requested)
    normal = [p for p in seen.images if not marked.get(p, False)]
    split = {p: "test" in seen.roles[p] for p in seen.images}
    divided = any(split.values()) and any(not split[p] for p in normal)
    test, left_out = [], Counter()
    for path in seen.images:
        if divided and not split[path]:
            if marked.get(path, False):
                left_out["images with a defect that are not of the test split"] += 1
            continue
        if marked.get(path, False):
            mine = pairs.of[path]
            test.append(TestImage(path, _UNNAMED, mine[0], mine[1:]))
        elif divided:
            test.append(TestImage(path, GOOD, None))
    train = [p for p in normal if not (divided and split[p])]
    return seen.source("masks", train, test, left_out)


def _check_masks(seen: Survey, pairs: Pairs, marked: dict, requested: bool) -> None:
    bare = [p for p in seen.images if p not in marked]
    full = sum(marked.values())
    what = f"{len(marked)} of {len(seen.images)} images have masks"
    if pairs.orphans and not requested:
        raise seen.unsure(
            f"{what}, and {len(pairs.orphans)} masks have no image, the first is "
            f"{pairs.orphans[0]}"
        )
    if full == len(seen.images):
        raise DataError(
            f"{seen.root} holds no normal image: each of its {full} images has a mask "
            "that marks something; give a folder of normal images, or say with "
            "--normal GLOB which of these are"
        )
    if bare and not requested:
        raise seen.unsure(
            f"{what}, {full} of which mark something, and {len(bare)} images have "
            f"none, the first is {bare[0]} (--layout masks takes these as normal)"
        )


def _marks(mask: Path, classes: Classes | None) -> bool:
    """Whether a mask marks anything; one that cannot be read might."""
    try:
        return bool(mask_of(mask, classes=classes).any())
    except DataError:
        pass  # not binary: any value counts here, for the image is not surely normal
    try:
        return bool(decode(mask).array.any())
    except DataError:
        return True


def plain(seen: Survey) -> Source:
    """Any folder of images, with subfolders: all of them are normal."""
    return seen.source("plain", seen.found.images)


def check_plain(seen: Survey) -> None:
    """Raise where something hints that not all images of a folder are normal."""
    if len(seen.found.images) == 0:
        return
    for hint in (_by_place, _by_folders, _by_names, _by_tables, _by_pixels):
        if what := hint(seen):
            raise seen.unsure(what)


def _by_place(seen: Survey) -> str | None:
    own = role_of(seen.root.name, whole=True)
    if own in ("anomalous", "mask", "test"):
        return f"the folder is called '{seen.root.name}'"
    above = seen.root.parent
    if is_container(seen.root.name) and (
        beside := next(
            (p for p in folders_in(above) if role_of(p.name) == "mask"), None
        )
    ):
        return f"masks lie beside it, in {beside}"
    outer = role_of(above.name, whole=True)
    if outer == "mask" or (outer == "anomalous" and _holds_good(above.parent)):
        return f"it lies in a folder called '{above.name}'"
    if own is None and outer in ("train", "test", "validation") and _holds_good(above):
        return f"it lies beside a folder of good parts in {above}"
    return None


def _by_folders(seen: Survey) -> str | None:
    counts: Counter[str] = Counter()
    for path, roles in seen.roles.items():
        names = path.relative_to(seen.root).parts
        place = next(
            (i for i, r in enumerate(roles) if r in ("mask", "anomalous", "test")), None
        )
        if place is not None:
            counts["/".join(names[: place + 1])] += 1
    listed = ", ".join(f"{n} in '{name}'" for name, n in counts.most_common(4))
    return f"of {len(seen.found.images)} images, {listed}" if counts else None


def _by_names(seen: Survey) -> str | None:
    images = seen.found.images
    if masks := [p for p in images if ends_as_mask(p.stem)]:
        return f"{len(masks)} of {len(images)} are named as masks ({masks[0].name})"
    if bad := [p for p in images if says_anomalous(p.stem)]:
        return f"{len(bad)} of {len(images)} are named as bad parts ({bad[0].name})"
    return None


def _by_tables(seen: Survey) -> str | None:
    stems = {p.with_suffix("") for p in seen.found.images}
    for path in seen.found.others:
        inner = path.relative_to(seen.root)
        if is_label_table(path) or any(
            path.suffix.lower() in LABEL_FILES and role_of(name) == "mask"
            for name in inner.parts[:-1]
        ):
            return f"{inner} may say which"
        if path.suffix.lower() in (".txt", ".xml", ".json") and (
            path.with_suffix("") in stems
        ):
            return f"{inner} may mark a defect in its image"
    return None


def _by_pixels(seen: Survey) -> str | None:
    """Images of two values among others are masks, however they are called."""
    images = [p for p in seen.found.images if p.suffix.lower() not in (".jpg", ".jpeg")]
    # Masks are the smallest files; the hash is for formats that do not compress.
    images.sort(key=lambda p: (p.stat().st_size, crc32(p.name.encode())))
    picked = images if len(images) <= _SAMPLE else images[:_SAMPLE] + images[-4:]
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(_values, picked))
    others = len(images) < len(seen.found.images) or any(n > 2 for n in counts)
    two = [p for p, n in zip(picked, counts, strict=True) if n == 2]
    one = [p for p, n in zip(picked, counts, strict=True) if n == 1]
    if others and (two or 4 * len(one) >= len(picked)) and (two or one):
        found = [*two, *one]
        return (
            f"{len(found)} of {len(picked)} images looked at hold at most two values, "
            f"as masks do (the first is {found[0]})"
        )
    return None


def _values(path: Path) -> int:
    """1 for an image of one value, 2 for one that is a mask, else more; 0: broken."""
    try:
        found = decode(path)
    except DataError:
        return 0
    if bool((found.array == found.array[:1, :1]).all()):
        return 1
    return 2 if _binary(path) else 3
