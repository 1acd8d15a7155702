"""``anojax eval RUN``: how well a trained detector finds the defects of a test folder."""

import argparse
import dataclasses
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from anojax.cli.arguments import Parser, add_common, parse_size, start_devices
from anojax.errors import SettingError

SHOWN = ("lowest", "middle", "highest")
# The table on the screen keeps to 80 columns; the files have every measure.
LEFT_OUT = ("pixel_aupr",)


def register(subparsers) -> None:
    parser: Parser = subparsers.add_parser(
        "eval",
        help="score a trained detector on real defects",
        description="Score the detector of a training run on images with ground "
        "truth: a table per defect type, curves, a sheet of maps and a report.",
    )
    add = parser.add_argument
    add("trained", metavar="RUN", help="folder of the training run")
    add(
        "--input",
        metavar="DIR",
        required=True,
        help="category in MVTec layout (test/good, test/<defect>, "
        "ground_truth/<defect>) or another known one, or its test folder",
    )
    add("--output", metavar="DIR", required=True, help="folder of the report")
    add("--size", metavar="N|HxW", help="side or height x width (default: the run's)")
    add(
        "--gray",
        action="store_true",
        help="treat all images as single-channel, also if the run did not",
    )
    add(
        "--mask-classes",
        metavar="V[,V...]",
        help="which values of masks mark a defect, where they are not binary",
    )
    add("--bits", type=int, metavar="N", help="depth of the sensor (8 to 16)")
    add("--batch-size", type=int, default=16, metavar="N", help="default 16")
    add("--quiet", action="store_true", help="print errors only")
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.bits is not None and not 8 <= args.bits <= 16:
        raise SettingError(f"--bits is {args.bits}; give 8 to 16")
    if args.batch_size < 1:
        raise SettingError(f"--batch-size is {args.batch_size}; give at least 1")
    start_devices()

    from anojax.cli.trained import load_trained
    from anojax.data.files import make_folder
    from anojax.data.masks import parse_classes
    from anojax.data.reading import Reading, depth
    from anojax.data.testfolder import find_test_images, read_in_parts
    from anojax.report import detection as report

    trained = load_trained(args.trained)
    shape, gray = _shape(args, trained.config), args.gray or trained.config.data.gray
    classes = parse_classes(args.mask_classes or trained.config.data.mask_classes)
    images, notes = _unseen(find_test_images(args.input, classes), trained.folder)
    data = trained.config.data
    found = depth([one.path for one in images], args.bits or data.bits, data.frames)
    notes += (found.sentence,) if found.sentence else ()
    how = Reading(True if gray else None, found.bits, data.frames, classes)
    first = next(read_in_parts(images, shape, reading=how, size=1))
    trained.check_fits(first.images.shape[1:])
    make_folder(Path(args.output))
    quiet = args.quiet or args.json
    result, samples = _measure(
        trained, images, shape, how, batch_size=args.batch_size, quiet=quiet
    )
    about = (
        f"detector of {trained.task.name} trained in {args.trained}, on the "
        f"{len(images)} test images of {args.input} at {shape[0]} x {shape[1]}"
    )
    result = dataclasses.replace(result, notes=(about, *notes, *result.notes))
    files = {
        path.name: str(path) for path in report.write(result, samples, args.output)
    }
    if args.json:
        facts = {"run": args.trained, "method": trained.task.name, "size": list(shape)}
        print(json.dumps(facts | result.to_dict() | {"files": files}, indent=1))
    elif not args.quiet:
        _print(result)
        print(f"report      {files['report.html']}")
    return 0


def _unseen(images, folder: Path) -> tuple[tuple, tuple[str, ...]]:
    """The images that the run has not learned from, and what to say about it.

    Raises:
      DataError: it has learned from every defect there is.
    """
    from anojax.data.exemplars import digest
    from anojax.data.layouts import GOOD
    from anojax.errors import DataError

    seen, notes = _seen(folder)
    left = images
    if seen:
        left = tuple(one for one in images if digest(one.path) not in seen)
    if all(one.defect == GOOD for one in left):
        raise DataError(
            f"{folder} has learned from every anomalous image of this folder; give "
            "another --input, or train with fewer data.exemplars_per_defect"
        )
    if count := len(images) - len(left):
        notes.append(f"{count} images left out, which the run has learned from")
    return left, tuple(notes)


def _seen(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Exemplars of a run and of all runs it builds on, and which of them are gone."""
    from anojax.cli.train import CONFIG
    from anojax.config import read_yaml
    from anojax.data.exemplars import listed_in

    found, gone, known, ahead = {}, [], set(), [folder]
    while ahead:
        run = ahead.pop().expanduser().resolve()
        if run in known:
            continue
        known.add(run)
        if not (run / CONFIG).is_file():
            gone.append(
                f"{run} is gone, on which the run builds; whether it has learned from "
                "these images is not known"
            )
            continue
        found |= listed_in(run)
        request = read_yaml(run / CONFIG).get("request") or {}
        before = [request.get(name) for name in ("resume", "init_from", "checkpoint")]
        before.append((request.get("data") or {}).get("ready"))
        ahead += [Path(name) for name in before if name]
    return found, gone


def _shape(args, config) -> tuple[int, int]:
    if args.size is not None:
        shape = parse_size(args.size)
        if not all(16 <= side <= 4096 for side in shape):
            raise SettingError(f"--size is {args.size}; give 16 to 4096 pixels a side")
        return shape
    if config.data.ready is not None:
        raise SettingError(
            "the run was trained on ready anomalies; give their size with --size"
        )
    return config.data.shape


def _measure(trained, images, shape, how, *, batch_size, quiet) -> tuple[Any, list]:
    """The result, and the samples of the sheet."""
    import numpy as np

    from anojax.data.layouts import GOOD
    from anojax.evaluation import detection

    # On disk: a test set may be larger than the memory.
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as other:
        size = (len(images), *shape)
        maps = np.memmap(one, np.float32, "w+", shape=size)
        masks = np.memmap(other, np.bool_, "w+", shape=size)
        scores = _score(trained, images, how, batch_size, quiet, maps, masks)
        kinds = [image.defect for image in images]
        labels = [int(kind != GOOD) for kind in kinds]
        result = detection.evaluate(maps, masks, scores, labels, kinds)
        samples = _samples(images, scores, shape, how, maps)
    return result, samples


def _score(trained, images, how, batch_size, quiet, maps, masks) -> Any:
    """Fill maps and masks; the score of every image."""
    import jax
    import numpy as np
    from rich.console import Console
    from rich.progress import track

    from anojax.data.testfolder import read_in_parts
    from anojax.detector import score_batch

    batch_size = min(batch_size, len(images))
    scores, done = np.zeros(len(images)), 0
    variables = jax.device_put(trained.variables)
    parts = track(
        read_in_parts(images, maps.shape[1:], reading=how, size=batch_size),
        "scoring",
        total=math.ceil(len(images) / batch_size),
        console=Console(stderr=True),
        disable=quiet,
    )
    for part in parts:
        count = len(part.images)
        # Repeats fill the last batch, so that one compiled program serves all.
        full = np.resize(part.images, (batch_size, *part.images.shape[1:]))
        found, score = score_batch(trained.detector, variables, full)
        here = slice(done, done + count)
        maps[here], masks[here] = np.asarray(found)[:count], part.masks
        scores[here] = np.asarray(score)[:count]
        done += count
    return scores


def _samples(images, scores, shape, how, maps) -> list:
    """Of every type the images with the lowest, the middle and the highest score."""
    import numpy as np

    from anojax.data.testfolder import read_in_parts
    from anojax.report.detection import Sample

    picked = {}
    for kind in sorted({image.defect for image in images}):
        mine = [i for i, image in enumerate(images) if image.defect == kind]
        mine.sort(key=scores.__getitem__)
        for word, place in zip(SHOWN, (0, len(mine) // 2, -1), strict=True):
            picked.setdefault(mine[place], word)
    read = read_in_parts([images[i] for i in picked], shape, reading=how, size=1)
    return [
        Sample(
            f"{images[i].defect}/{images[i].path.name}: score {scores[i]:.3g}, "
            f"the {word} of its type",
            one.images[0],
            one.masks[0],
            np.array(maps[i]),
        )
        for (i, word), one in zip(picked.items(), read, strict=True)
    ]


def _print(result) -> None:
    from rich.console import Console
    from rich.table import Table

    from anojax.evaluation.detection import MEASURES

    shown = {k: words for k, words in MEASURES.items() if k not in LEFT_OUT}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("defect", no_wrap=True)
    for title in ("anomalous", *shown.values()):
        table.add_column(title.replace(" ", "\n"), justify="right")
    for row in result.rows:
        values = (row.measures[name] for name in shown)
        numbers = ["–" if math.isnan(v) else f"{100 * v:.1f}" for v in values]
        table.add_row(row.name, str(row.anomalous), *numbers)
    console = Console()
    console.print(table)
    normal = f"each type against the same {result.rows[0].normal} normal images"
    for note in (normal, *result.notes):
        console.print(note, style="dim", highlight=False)
