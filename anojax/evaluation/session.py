"""A trained detector measured on real defects: from a run's folder to a report."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anojax.data.exemplars import digest
from anojax.data.files import make_folder
from anojax.data.layouts import GOOD, TestImage
from anojax.data.masks import parse_classes
from anojax.data.reading import Reading, depth
from anojax.data.testfolder import find_test_images, read_in_parts
from anojax.environment import start_devices
from anojax.errors import DataError, SettingError
from anojax.evaluation.detection import Result
from anojax.evaluation.scoring import BATCH, Scored, scored
from anojax.progress import bar
from anojax.report import detection as report
from anojax.report.detection import Sample
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

    def __getitem__(self, measure: str) -> float:
        """A measure over everything: ``evaluation["image_auroc"]``."""
        return self.result[measure]


def evaluate_run(
    trained: Trained | str | Path,
    input: str | Path,
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
      input: a category in a known layout, or its test folder.
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
    shape, data = _shape(size, trained), trained.config.data
    classes = parse_classes(mask_classes or data.mask_classes)
    images, notes = _unseen(find_test_images(input, classes), trained.folder)
    deep = depth([one.path for one in images], bits or data.bits, data.frames)
    notes += (deep.sentence,) if deep.sentence else ()
    gray = True if gray or data.gray else None
    how = Reading(gray, deep.bits, data.frames, classes)
    first = next(read_in_parts(images, shape, reading=how, size=1))
    trained.check_fits(first.images.shape[1:])
    if output is not None:
        make_folder(Path(output))
    batch_size = min(batch_size, len(images))
    with bar(len(images), word="scoring", hidden=quiet) as advance:
        with scored(
            trained.detector,
            trained.variables,
            read_in_parts(images, shape, reading=how, size=batch_size),
            [one.defect for one in images],
            shape,
            batch_size=batch_size,
            advance=advance,
        ) as found:
            result = found.result()
            samples = _samples(images, found, shape, how) if output else []
    about = (
        f"detector of {trained.task.name} trained in {trained.folder}, on the "
        f"{len(images)} test images of {input} at {shape[0]} x {shape[1]}"
    )
    result = dataclasses.replace(result, notes=(about, *notes, *result.notes))
    files = {}
    if output is not None:
        files = {path.name: path for path in report.write(result, samples, output)}
    return Evaluation(trained.task.name, shape, result, files)


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


def _samples(images, found: Scored, shape, how: Reading) -> list[Sample]:
    """Of every type the images with the lowest, the middle and the highest score."""
    picked = {}
    for kind in sorted(set(found.defects)):
        mine = [i for i, defect in enumerate(found.defects) if defect == kind]
        mine.sort(key=found.scores.__getitem__)
        for word, place in zip(SHOWN, (0, len(mine) // 2, -1), strict=True):
            picked.setdefault(mine[place], word)
    read = read_in_parts([images[i] for i in picked], shape, reading=how, size=1)
    return [
        Sample(
            f"{images[i].defect}/{images[i].path.name}: score {found.scores[i]:.3g}, "
            f"the {word} of its type",
            one.images[0],
            one.masks[0],
            np.array(found.maps[i]),
        )
        for (i, word), one in zip(picked.items(), read, strict=True)
    ]
