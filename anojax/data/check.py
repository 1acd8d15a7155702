"""What is wrong, or merely worth knowing, about a folder before any device works."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from anojax.data.check_masks import check_masks, check_truth
from anojax.data.findings import LEVELS, Finding, Seen, named
from anojax.data.folders import Source, discover, find_images
from anojax.data.foregrounds import foregrounds
from anojax.data.masks import parse_classes
from anojax.data.reading import Depth, Reading, depth
from anojax.data.records import Size, extent, read_image
from anojax.data.textures import FOLDER_LIMIT, PROCEDURAL_COUNT
from anojax.errors import DataError

FEW_IMAGES = 20
# Float32 planes per channel and pixel taken to live at once in a compiled batch: an
# assumption on the safe side, not a measurement.
PLANES = 20


def check(
    folder: str | Path,
    *,
    layout: str = "auto",
    normal: Sequence[str] = (),
    bits: int | None = None,
    frames: str = "one",
    mask_classes: str | int | None = None,
    gray: bool = False,
    textures: str | Path | None = None,
    foreground: str | Path = "auto",
    region: str | Path | None = None,
    size: Size = 256,
    batch: int = 64,
) -> list[Finding]:
    """Look at everything a run would read, and list the findings, worst first.

    The arguments are those of a run. Nothing is written and nothing raises: a folder
    that cannot be used at all is the one finding of level "error".
    """
    classes = parse_classes(mask_classes)
    try:
        source = discover(folder, layout, normal=normal, classes=classes)
    except DataError as error:
        return [Finding("error", str(error), str(folder), "give another --input")]
    deep = depth(source.paths, bits, frames)
    how = Reading(bits=deep.bits, frames=frames, classes=classes)
    with ThreadPoolExecutor() as pool:
        train = list(pool.map(lambda path: _look(path, how), source.paths))
        test = list(pool.map(lambda one: _look(one.path, how), source.test))
    found = [
        *_layout(source),
        *_unreadable(train + test, source),
        *_kinds(train, gray),
        *_depth(train, deep),
        *_leaks(train, test),
        *check_truth(source, test, classes),
        *check_masks("region", region, source, train, classes),
        *_foreground(foreground, source, train, how),
        *_textures(textures),
        *_memory(train, gray, extent(size), batch),
    ]
    return sorted(found, key=lambda f: LEVELS.index(f.level))


def _look(path: Path, how: Reading) -> Seen:
    try:
        image = read_image(path, frames=how.frames)
        how.small(path, image.array, image.array.shape[:2])
    except DataError as error:
        return Seen(path, problem=str(error))
    array = image.array
    h, w, channels = array.shape
    digest = hashlib.blake2b(array.tobytes(), digest_size=16)
    digest.update(repr((array.shape, array.dtype.str)).encode())
    equal = channels == 3 and bool(
        (array[..., 0] == array[..., 1]).all()
        and (array[..., 1] == array[..., 2]).all()
    )
    return Seen(
        path, (h, w), channels, image.bits, image.stored, equal, image.clear,
        digest.hexdigest(),
    )  # fmt: skip


def _layout(source: Source) -> Iterator[Finding]:
    defects = Counter(t.defect for t in source.test)
    tests = ", ".join(f"{n} {name}" for name, n in sorted(defects.items()))
    what = f"{len(source.paths)} normal images of '{source.category}', {source.layout}"
    what += f" layout; test: {tests}" if tests else " layout; no test images"
    yield Finding("ok", what, str(source.root))
    for note in source.notes:
        yield Finding("note", note, str(source.root))
    if len(source.paths) < FEW_IMAGES:
        yield Finding(
            "warning",
            f"only {len(source.paths)} normal images",
            str(source.root),
            f"take at least {FEW_IMAGES}; methods that copy from other normal images "
            "(nsa, cutpaste) repeat themselves with few",
        )


def _unreadable(seen: list[Seen], source: Source) -> Iterator[Finding]:
    broken = [s for s in seen if s.problem]
    train = set(source.paths)
    if broken and not any(not s.problem for s in seen if s.path in train):
        yield Finding(
            "error",
            f"none of the {len(train)} normal images can be read: {broken[0].problem}",
            str(source.root),
            "give another --input",
        )
        return
    for one in broken:
        yield Finding(
            "warning", one.problem, str(one.path), "it will be skipped (--strict stops)"
        )


def _kinds(train: list[Seen], gray: bool) -> Iterator[Finding]:
    good = [s for s in train if not s.problem]
    sizes = Counter(s.shape for s in good)
    if len(sizes) > 1:
        heights, widths = zip(*sizes, strict=True)
        yield Finding(
            "note",
            f"{len(sizes)} image sizes, {min(heights)}-{max(heights)} high and "
            f"{min(widths)}-{max(widths)} wide",
            named([s.path for s in good]),
            "all are resized to --size; --native brings results back to their own size",
        )
    channels = Counter(s.channels for s in good)
    if len(channels) > 1 and not gray:
        rare = min(channels, key=channels.get)
        yield Finding(
            "warning",
            f"{channels[1]} gray and {channels[3]} color images are mixed",
            named([s.path for s in good if s.channels == rare]),
            "use --gray to treat all of them as gray",
        )
    fake = [s.path for s in good if s.equal]
    if fake and not gray:
        yield Finding(
            "note",
            f"{len(fake)} of {len(good)} images are gray but stored with three channels",
            named(fake),
            "use --gray: gray textures, a third of the memory",
        )
    clear = [s.path for s in good if s.clear]
    if clear:
        share = sum(s.clear for s in good) / len(clear)
        yield Finding(
            "warning",
            f"{len(clear)} images are partly transparent, {share:.0%} of their pixels",
            named(clear),
            "the colors below are used as they are in the file; export without "
            "transparency, or exclude them with --foreground DIR",
        )
    opaque = {s.path for s in good if s.stored in ("RGBA", "LA", "PA")} - set(clear)
    if opaque:
        yield Finding(
            "note",
            f"{len(opaque)} images have an alpha channel",
            named(sorted(opaque)),
            "it is opaque everywhere and left out",
        )


def _depth(train: list[Seen], found: Depth) -> Iterator[Finding]:
    deep = [s.path for s in train if s.bits == 16]
    if not deep:
        return
    level = "note" if found.bits in (8, 16) else "warning"
    yield Finding(
        level,
        f"{len(deep)} images have 16 bits per channel; {found.sentence}",
        named(deep),
        "they are synthesized at 8 bits; --native keeps all bits outside the defects",
    )


def _leaks(train: list[Seen], test: list[Seen]) -> Iterator[Finding]:
    known = {s.digest: s.path for s in train if not s.problem}
    leaked = [s for s in test if s.digest in known]
    if leaked:
        yield Finding(
            "warning",
            f"{len(leaked)} test images are also training images, pixel by pixel "
            f"(the first is {known[leaked[0].digest]})",
            named([s.path for s in leaked]),
            "remove them from one of the two: scores on them mean nothing",
        )
    copies = len(train) - sum(bool(s.problem) for s in train) - len(known)
    if copies:
        count = Counter(s.digest for s in train if not s.problem)
        again = [s.path for s in train if count.get(s.digest, 0) > 1]
        yield Finding(
            "note", f"{copies} normal images repeat another one", named(again),
            "remove the copies",
        )  # fmt: skip


def _foreground(
    mode, source: Source, train: list[Seen], how: Reading
) -> Iterator[Finding]:
    if str(mode) not in ("auto", "none"):
        yield from check_masks("foreground", mode, source, train, how.classes)
        return
    good = [s.path for s in train if not s.problem]
    if not good:
        return
    fix = ""
    if str(mode) == "auto" and source.foreground is not None:
        fix = f"exact masks lie beside the images: --foreground {source.foreground}"
    yield Finding(
        "note" if fix else "ok",
        f"foreground: {foregrounds(good, mode, reading=how).sentence}",
        str(source.root),
        fix,
    )


def _textures(folder) -> Iterator[Finding]:
    if folder is None:
        yield Finding("ok", f"{PROCEDURAL_COUNT} procedural textures", "built in")
        return
    try:
        count = len(find_images(folder))
    except DataError as error:
        yield Finding(
            "error", str(error), str(folder),
            "give another --textures, or none for procedural ones",
        )  # fmt: skip
        return
    kept = f", of which {FOLDER_LIMIT} are used" if count > FOLDER_LIMIT else ""
    yield Finding("ok", f"{count} textures{kept}", str(folder))


def _memory(
    train: list[Seen], gray: bool, shape: tuple[int, int], batch: int
) -> Iterator[Finding]:
    """A rough upper bound of what a batch and the banks take, and what there is."""
    color = not gray and any(s.channels == 3 for s in train)
    per_image = shape[0] * shape[1] * (3 if color else 1)
    needed = batch * per_image * 4 * PLANES + 2 * FOLDER_LIMIT * per_image
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        room = (device.memory_stats() or {}).get("bytes_limit", 0)
    what = (
        f"a batch of {batch} at {shape[0]} x {shape[1]} and the banks take at most about "
        f"{needed / 2**30:.1f} GiB of {room / 2**30:.0f} GiB"
    )
    where = f"{device.platform} ({device.device_kind})"
    if room and needed > 0.8 * room:
        fits = max(1, int(batch * 0.5 * room / needed))
        yield Finding(
            "warning", what, where, f"use --batch-size {fits} or a smaller --size"
        )
    else:
        yield Finding("ok", what, where)
