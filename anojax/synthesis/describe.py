"""A request in words: for the screen before the work, and for the report after it."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from anojax.core import settings
from anojax.data.fit import VISIBLE, distortion
from anojax.synthesis.config import RANGED
from anojax.synthesis.learned import Parameters
from anojax.synthesis.prepare import Prepared


def describe(job: Prepared) -> str:
    """The plan in a few lines, printed before the work."""
    config, data, plan = job.config, job.data, job.plan
    height, width, channels = data.first.shape
    kind = "gray" if channels == 1 else "color"
    bits = 8 * data.first.dtype.itemsize
    out = "own resolution" if config.native else "{} x {}".format(*data.config.shape)
    lines = [
        f"images      {len(plan.images)} in {data.config.input} "
        f"({data.source.layout} layout, category {data.category}; the first is "
        f"{width} x {height}, {kind}, {bits} bits)",
        f"methods     {_methods_words(job)}",
        f"settings    {_settings_words(job)}",
        f"foreground  {data.foreground}",
        f"region      {data.config.region or 'anywhere'}",
    ]
    if config.split:
        lines.append(f"split       {_split_words(job)}")
    if data.depth:
        lines.append(f"depth       {data.depth}")
    notes = (*data.source.notes, *_distortion(job), *_probes(job))
    lines += [f"note        {note}" for note in notes]
    if any("texture" in synth.needs for synth in plan.methods):
        lines.append(f"textures    {data.config.textures or 'procedural'}")
    if job.parameters is not None:
        if config.checkpoint is not None:
            words = _checkpoint_words(job.parameters, config.checkpoint)
            lines.append(f"checkpoint  {words}")
        lines += [f"{name:11} {origin}" for name, origin in job.parameters.weights]
    lines.append(f"images      {plan.total} ({_each(job)}), {out}, seed {config.seed}")
    return "\n".join(lines)


def _split_words(job: Prepared) -> str:
    """How many normal images are in which part."""
    counts = [
        sum(name.startswith(f"{job.data.category}/{part}/") for name in job.clean)
        for part in ("train", "test")
    ]
    return (
        f"{counts[0]} normal images for training alone, {counts[1]} clean in test/good, "
        f"{len(job.plan.images)} to make defects from ({job.plan.normal_folder})"
    )


def _note(job: Prepared) -> str:
    """What the test images can be used for."""
    if job.config.train_share:
        return "no test image is, or is made from, an image in train/good"
    return (
        "test images are made from the normal images in train/good; to "
        "measure a detector, split the normal images first and make two runs"
    )


def _each(job: Prepared) -> str:
    """How many images are made of what."""
    config, mixed = job.config, bool(job.config.mix)
    if config.count is not None:
        return "in all" if mixed else f"{config.count} per method"
    return f"{config.per_image} per image" + ("" if mixed else " and method")


def _methods_words(job: Prepared) -> str:
    """The methods; where they have weights, how many images each is to make."""
    if not job.config.mix:
        return ", ".join(job.config.methods)
    counts = job.plan.images_of_methods()
    return "by weight: " + ", ".join(
        f"{name}={weight:g} ({counts[name]} images)"
        for name, weight in job.config.weights.items()
    )


def _distortion(job: Prepared) -> list[str]:
    """A sentence where the working size has other proportions than the images."""
    size, shape, fit = job.config.data.shape, job.data.first.shape[:2], job.config.fit
    change = distortion(shape, size)
    if change < VISIBLE:
        return []
    words = {
        "stretch": f"stretches it by {change:.0%}; --fit pad or --fit crop keeps its "
        "proportions",
        "pad": "leaves room beside it, which repeats its edges and gets no defect",
        "crop": "leaves out what protrudes",
    }
    return [
        f"the first image is {shape[1]} x {shape[0]}, and {size[1]} x {size[0]} "
        f"{words[fit]}"
    ]


def _probes(job: Prepared) -> list[str]:
    """A sentence about methods whose images are no defects."""
    probes = [s.name for s in job.methods if s.card.purpose == "probe"]
    if not probes:
        return []
    verb = "makes a probe" if len(probes) == 1 else "make probes"
    return [
        f"{' and '.join(probes)} {verb} for a detector, not defects to look at or to "
        "test an inspection with"
    ]


def _settings_words(job: Prepared) -> str:
    """What differs from the methods' defaults, and the controls."""
    chosen = [
        f"{synth.name}.{name}={value}"
        for synth in job.methods
        for name, value in settings(synth).items()
        if value != getattr(type(synth)(), name)
    ]
    for name in RANGED:
        if (value := getattr(job.config, name)) is None:
            continue
        ends = value if isinstance(value, tuple) else (value,)
        chosen.append(f"{name} {':'.join(f'{end:g}' for end in ends)}")
    return ", ".join(chosen) or "the methods' own"


def _checkpoint_words(parameters: Parameters, folder: str) -> str:
    return f"{folder} ({parameters.method}, step {parameters.step})"


def measured(job: Prepared, rows: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Extents in mm in words, from the lines of the manifest; nothing where no side of
    a pixel was given."""
    if job.config.mm_per_pixel is None:
        return {}
    areas, sides = [], []
    for row in rows:
        if row.get("box_mm") is not None:
            x0, y0, x1, y1 = row["box_mm"]
            areas.append(row["area_mm2"])
            sides.append(max(x1 - x0, y1 - y0))
    facts = {"scale": f"{job.config.mm_per_pixel:g} mm per pixel of the files"}
    if areas:
        facts["areas"] = _span(areas, "mm\u00b2")
        facts["longest sides of boxes"] = _span(sides, "mm")
    return facts


def _span(values: Sequence[float], unit: str) -> str:
    low, middle, high = min(values), median(values), max(values)
    return f"{low:.3g} to {high:.3g} {unit}, median {middle:.3g}"


def summary_facts(
    job: Prepared, written: int, lengths: dict[str, str]
) -> dict[str, str]:
    """Short lines for the top of the report; `lengths` are those of `measured`."""
    learned = {}
    if job.parameters is not None and job.parameters.where is not None:
        folder = job.resolved["request"]["checkpoint"]
        learned = {"checkpoint": _checkpoint_words(job.parameters, folder)}
    return {
        "images made": f"{written} from {len(job.plan.images)} normal images",
        "input": str(job.config.data.absolute().input),
        "methods": _methods_words(job),
        "settings": _settings_words(job),
        "foreground": job.data.foreground,
        **({"depth": job.data.depth} if job.data.depth else {}),
        **({"left out": "; ".join(notes)} if (notes := job.data.source.notes) else {}),
        **lengths,
        "seed": str(job.config.seed),
        **learned,
        **({"probes": "; ".join(words)} if (words := _probes(job)) else {}),
        **({"split": _split_words(job)} if job.config.split else {}),
        "note": _note(job),
    }
