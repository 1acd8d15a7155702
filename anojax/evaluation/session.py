"""A trained detector measured on real defects: from a run's folder to a report."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from anojax.config import to_dict
from anojax.data.exemplars import digest
from anojax.data.files import make_folder
from anojax.data.layouts import GOOD, TestImage
from anojax.data.masks import parse_classes
from anojax.data.reading import Reading, depth
from anojax.data.testfolder import find_test_images, read_in_parts
from anojax.data.testset import TestSet
from anojax.environment import start_devices
from anojax.errors import DataError, SettingError
from anojax.evaluation.detection import MEASURES, Result
from anojax.evaluation.scoring import BATCH, Scored, in_parts, scored
from anojax.progress import bar
from anojax.report import detection as report
from anojax.report.detection import Sample
from anojax.report.places import Places
from anojax.training.trained import Trained, load_trained, seen

SHOWN = ("lowest", "middle", "highest")


@dataclass(frozen=True)
class Evaluation:
    """What a detector was found to be worth."""

    method: str
    size: tuple[int, int]
    """Height and width of the images, in pixels."""
    result: Result
    files: dict[str, Path]
    """Of the report, by name; none where no report was wanted."""
    samples: list[Sample] = field(repr=False)
    """Of every type the images with the lowest, the middle and the highest score."""

    def __getitem__(self, measure: str) -> float:
        """A measure over everything: ``evaluation["image_auroc"]``."""
        return self.result[measure]

    def sheet(self) -> Image.Image:
        """The samples: image, true defect, anomaly map; all maps share one scale."""
        return report.draw_sheet(self.samples)

    def _repr_html_(self) -> str:
        shown = {k: words for k, words in MEASURES.items() if k != "pixel_aupr"}
        rows = [("defect", "anomalous", *shown.values())]
        for row in self.result.rows:
            numbers = (f"{100 * row.measures[name]:.1f}" for name in shown)
            rows.append((row.name, str(row.anomalous), *numbers))
        lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def evaluate_run(
    trained: Trained | str | Path,
    input: str | Path | TestSet,
    output: str | Path | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    gray: bool = False,
    mask_classes: str | int | None = None,
    bits: int | None = None,
    batch_size: int = BATCH,
    quiet: bool = False,
) -> Evaluation:
    """Score the detector of a training run on images with ground truth.

    Images that the run has learned from are left out, by their content.

    Args:
      trained: a training run, or its folder.
      input: a category in a known layout, or its test folder; or a `TestSet`.
      output: folder of the report; none is written when absent.
      size: side, or height and width, in pixels; that of the training when absent.
      gray: treat all images as single-channel, also if the run did not.
      mask_classes: which values of masks mark a defect, where they are not binary;
        those of the training when absent.
      bits: depth of the sensor, 8 to 16; that of the training when absent.
      batch_size: images at a time.
      quiet: draw no progress bar.

    Raises:
      AnojaxError: the run holds no detector, the images have no truth, or they do not
        fit the networks.
    """
    if bits is not None and not 8 <= bits <= 16:
        raise SettingError(f"--bits is {bits}; give 8 to 16")
    if batch_size < 1:
        raise SettingError(f"--batch-size is {batch_size}; give at least 1")
    start_devices()
    if not isinstance(trained, Trained):
        trained = load_trained(trained)
    trained.check_detects()
    if isinstance(input, TestSet):
        test = _in_memory(input)
    else:
        shape = _shape(size, trained)
        test = _in_files(input, trained, shape, gray, mask_classes, bits)
    trained.check_fits(next(test.read([0], 1)).images.shape[1:])
    if output is not None:
        make_folder(Path(output))
    batch_size = min(batch_size, len(test.defects))
    with bar(len(test.defects), word="scoring", hidden=quiet) as advance:
        with scored(
            trained.detector,
            trained.variables,
            test.read(range(len(test.defects)), batch_size),
            test.defects,
            test.shape,
            batch_size=batch_size,
            advance=advance,
        ) as found:
            result = found.result()
            samples = _samples(test, found)
    height, width = test.shape
    about = (
        f"detector of {trained.task.name} trained in {trained.folder}, on the "
        f"{len(test.defects)} test images{test.where} at {height} x {width}"
    )
    result = dataclasses.replace(result, notes=(about, *test.notes, *result.notes))
    files = {}
    if output is not None:
        places = Places(
            {"run": str(trained.folder), "config": to_dict(trained.config)}
            | ({} if isinstance(input, TestSet) else {"input": str(input)})
        )
        written = report.write(result, samples, output, places)
        files = {path.name: path for path in written}
    return Evaluation(trained.task.name, test.shape, result, files, samples)


@dataclass(frozen=True)
class _Test:
    """Test images, wherever they are."""

    defects: tuple[str, ...]
    names: tuple[str, ...]
    shape: tuple[int, int]
    read: Callable[[Sequence[int], int], Iterator[TestSet]]
    """Numbers of images, and how many at a time."""
    where: str = ""
    notes: tuple[str, ...] = ()


def _in_memory(test: TestSet) -> _Test:
    def read(numbers: Sequence[int], size: int) -> Iterator[TestSet]:
        chosen = np.asarray(numbers)
        part = TestSet(
            test.images[chosen],
            test.masks[chosen],
            tuple(test.defects[i] for i in chosen),
        )
        return in_parts(part, size)

    names = tuple(f"{kind} {i}" for i, kind in enumerate(test.defects))
    return _Test(test.defects, names, test.images.shape[1:3], read)


def _in_files(
    input: str | Path,
    trained: Trained,
    shape: tuple[int, int],
    gray: bool,
    mask_classes: str | int | None,
    bits: int | None,
) -> _Test:
    data = trained.config.data
    classes = parse_classes(mask_classes or data.mask_classes)
    images, notes = _unseen(find_test_images(input, classes), trained.folder)
    deep = depth([one.path for one in images], bits or data.bits, data.frames)
    notes += (deep.sentence,) if deep.sentence else ()
    gray_only = True if gray or data.gray else None
    how = Reading(gray_only, deep.bits, data.frames, classes)

    def read(numbers: Sequence[int], size: int) -> Iterator[TestSet]:
        chosen = [images[i] for i in numbers]
        return read_in_parts(chosen, shape, reading=how, size=size)

    kinds = tuple(one.defect for one in images)
    names = tuple(f"{one.defect}/{one.path.name}" for one in images)
    return _Test(kinds, names, shape, read, f" of {input}", notes)


def _shape(size: int | tuple[int, int] | None, trained: Trained) -> tuple[int, int]:
    if size is not None:
        shape = (size, size) if isinstance(size, int) else tuple(size)
        if len(shape) != 2 or not all(16 <= side <= 4096 for side in shape):
            words = "x".join(map(str, shape))
            raise SettingError(f"--size is {words}; give 16 to 4096 pixels a side")
        return shape
    if trained.config.data.precomputed is not None:
        raise SettingError(
            "the run was trained on precomputed anomalies; give their size with --size"
        )
    return trained.config.data.shape


def _unseen(
    images: tuple[TestImage, ...], folder: Path
) -> tuple[tuple[TestImage, ...], tuple[str, ...]]:
    """The images that the run has not learned from, and what to say about it.

    Raises:
      DataError: it has learned from every defect there is.
    """
    known = seen(folder)
    left, notes = images, [*known.gone]
    if known.files:
        left = tuple(one for one in images if digest(one.path) not in known.files)
    if all(one.defect == GOOD for one in left):
        raise DataError(
            f"{folder} has learned from every anomalous image of this folder; give "
            "another --input, or train with fewer data.exemplars_per_defect"
        )
    if all(one.defect != GOOD for one in left):
        raise DataError(
            f"{folder} has learned from every normal image of this folder; give "
            "another --input"
        )
    if count := len(images) - len(left):
        notes.append(f"{count} images left out, which the run has learned from")
    return left, tuple(notes)


def _samples(test: _Test, found: Scored) -> list[Sample]:
    """Of every type the images with the lowest, the middle and the highest score."""
    picked = {}
    for kind in sorted(set(found.defects)):
        mine = [i for i, defect in enumerate(found.defects) if defect == kind]
        mine.sort(key=found.scores.__getitem__)
        for word, place in zip(SHOWN, (0, len(mine) // 2, -1), strict=True):
            picked.setdefault(mine[place], word)
    return [
        Sample(
            f"{test.names[i]}: score {found.scores[i]:.3g}, the {word} of its type",
            one.images[0],
            one.masks[0],
            np.array(found.maps[i]),
        )
        for (i, word), one in zip(picked.items(), test.read([*picked], 1), strict=True)
    ]
