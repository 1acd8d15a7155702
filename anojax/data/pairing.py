"""Which mask belongs to which image: masks, regions, foregrounds and ground truth alike.

By the path below the two folders first: ``cam1/0001.png`` belongs to ``cam1/0001.png``.
Where one path has more folders than the other, the last ones count; folders such as
``images`` and ``masks`` do not, where nothing fits with them. Then by the name
alone, if that can mean only one file and its folder is not that of other images. The
name is that of the image, or has one of the endings in `roles`. Two candidates are an
error that names both; masks that carry a number, or lie in a folder that is named as
the image, are the several masks of one image.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anojax.data.roles import is_container, mask_stems
from anojax.errors import DataError


@dataclass(frozen=True)
class Pairs:
    """The masks of every image."""

    of: Mapping[Path, tuple[Path, ...]]
    """Image -> its masks, those that have any: one, or several of one image."""
    orphans: tuple[Path, ...]
    """Masks that belong to no image."""

    def one(self, image: Path, kind: str, where: Path) -> Path:
        """The only mask of an image.

        Raises:
          DataError: it has none, or several.
        """
        found = self.of.get(image, ())
        if not found:
            raise DataError(
                f"{where} holds no {kind} mask for {image}; add {image.stem}.png (or "
                f"{image.stem}_mask.png) in the same subfolder, or give one file for "
                "all images"
            )
        if len(found) > 1:
            raise DataError(
                f"{image} has {len(found)} {kind} masks, {found[0]} and {found[1]}; "
                "unite them in one file"
            )
        return found[0]


@dataclass(frozen=True)
class _Candidate:
    mask: Path
    parents: tuple[str, ...]
    several: bool
    """One of several masks of an image, by its number or its folder."""


def pair(
    images: Sequence[Path],
    root: Path,
    masks: Iterable[Path],
    masks_root: Path,
    *,
    several: bool = False,
) -> Pairs:
    """Pair images below `root` with masks below `masks_root`.

    Args:
      images: the images.
      root: what their paths are compared below.
      masks: files that are masks, not images.
      masks_root: the same for the masks.
      several: masks that carry a number, or lie in a folder named as the image, are
        taken together; else they are no candidates.

    Raises:
      DataError: two masks may belong to an image, or two images to a mask.
    """
    stems = defaultdict(list)
    for image in images:
        stems[image.stem.casefold()].append(image)
    # Compared without case: file systems differ in it.
    homes = {_parents(image, root) for image in images}
    folders = {parents[-1:] for parents in homes}
    by_stem: dict[str, list[_Candidate]] = defaultdict(list)
    every = list(masks)
    for mask in every:
        for stem, candidate in _candidates(mask, masks_root, stems, several):
            by_stem[stem].append(candidate)
    found, used = {}, {}
    for image in images:
        mine = _best(image, root, by_stem, folders, len(stems[image.stem.casefold()]))
        for mask in mine:
            if mask in used:
                raise DataError(
                    f"{mask} may belong to {used[mask]} or to {image}; put masks in "
                    "folders as their images are"
                )
            used[mask] = image
        if mine:
            found[image] = mine
    return Pairs(found, tuple(mask for mask in every if mask not in used))


def _candidates(mask: Path, root: Path, stems: Mapping, several: bool):
    """(stem in lower case, candidate) of all images that a mask may belong to."""
    parents, name = _parents(mask, root), mask.stem
    folder = parents[-1] if parents else ""
    if several and folder in stems and name.casefold() not in stems:
        yield folder, _Candidate(mask, parents[:-1], True)
        return
    if name.casefold() in stems:
        # LOCO: 000/000.png is the first mask of 000.png.
        nested = several and folder == name.casefold()
        if several and folder in stems and not nested:
            yield folder, _Candidate(mask, parents[:-1], True)
            return
        above = parents[:-1] if nested else parents
        yield name.casefold(), _Candidate(mask, above, nested)
        return
    for stem, numbered in mask_stems(name).items():
        if stem.casefold() in stems and (several or not numbered):
            yield stem.casefold(), _Candidate(mask, parents, numbered)


def _best(image: Path, root: Path, by_stem, folders, twins: int) -> tuple[Path, ...]:
    """The masks that fit an image best."""
    parents = _parents(image, root)
    every = by_stem.get(image.stem.casefold(), ())
    best = (
        _nearest(parents, [(one, one.parents) for one in every])
        # train/images/0.png and train/masks/0.png
        or _nearest(_bare(parents), [(one, _bare(one.parents)) for one in every])
        # By the name alone, where it is that of one image and the folder not another's.
        or [
            one
            for one in every
            if twins == 1 and one.parents[-1:] not in folders - {parents[-1:]}
        ]
    )
    if len(best) > 1 and not all(one.several for one in best):
        raise DataError(
            f"{image} has two masks, {best[0].mask} and {best[1].mask}; leave one of "
            "them there"
        )
    return tuple(one.mask for one in best)


def _nearest(parents: tuple[str, ...], every) -> list[_Candidate]:
    """Those whose path fits: the whole of the shorter one, and the most folders."""
    fitting = defaultdict(list)
    for one, others in every:
        shared = _shared(parents, others)
        if shared == min(len(parents), len(others)):
            fitting[shared].append(one)
    return fitting[max(fitting)] if fitting else []


def _bare(parents: tuple[str, ...]) -> tuple[str, ...]:
    """Without folders whose names say only that they hold images or masks."""
    return tuple(name for name in parents if not is_container(name))


def _parents(path: Path, root: Path) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path.relative_to(root).parts[:-1])


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many folders, counted from the file upwards, are the same."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
