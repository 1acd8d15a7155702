"""Sixteen images of a run to come, on one sheet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from anojax.data.files import make_folder
from anojax.data.pipeline import synthesize as make_images
from anojax.environment import start_devices
from anojax.errors import DataError
from anojax.report import sheet
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.describe import describe
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import prepare

EXAMPLES = 16


@dataclass(frozen=True)
class Preview:
    """What is on a sheet."""

    path: Path
    """The sheet."""
    examples: int
    left_out: list[str]
    """Why an example could not be made, one sentence each."""

    def _repr_png_(self) -> bytes:
        image = Image.open(self.path)
        return sheet.as_bytes(image)


def preview_run(
    config: SynthConfig,
    output: Path,
    *,
    batch_size: int | None = None,
    devices: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Preview:
    """Make 16 of the images that a run would make (all, of a smaller run), and show them on one sheet.

    Args:
      config: of the run.
      output: the sheet, .png or .jpg.
      batch_size: images at a time.
      devices: how many to use; all by default.
      note: told what is about to happen.

    Raises:
      DataError: no image by its name, or not one example could be made.
    """
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg") or output.is_dir():
        raise DataError(f"--output {output}: name an image that ends in .png or .jpg")
    job = prepare(*load_parameters(config, devices))
    note(describe(job))
    jobs = list(_spread(job.plan))
    note(f"output      {output} ({len(jobs)} of these images)")
    found = start_devices(devices)
    methods = [synth.name for synth in job.plan.methods]
    made = sorted(
        make_images(
            job.plan,
            jobs,
            batch_size=batch_size or -(-EXAMPLES // len(methods)),
            devices=found,
        ),
        key=lambda each: (each.job.method, each.job.index),
    )
    examples = [
        sheet.Example(methods[m.job.method], m.normal, m.image, m.mask)
        for m in made
        if m.reason is None
    ]
    left_out = [m.reason for m in made if m.reason is not None]
    if not examples:
        raise DataError(f"not one example could be made: {left_out[0]}")
    make_folder(output.parent)
    sheet.save(sheet.contact_sheet(examples), output)
    return Preview(output, len(examples), left_out)


def _spread(plan) -> Iterator:
    """At most sixteen jobs of the run: all methods on images spread evenly over all."""
    used = sum(plan.draws_of(i) > 0 for i in range(len(plan.images)))
    wanted = min(used, -(-EXAMPLES // plan.each))
    places = {round(i * (used - 1) / max(1, wanted - 1)) for i in range(wanted)}
    chosen = (
        job
        for job in plan.jobs()
        if job.image in places and (job.draw_of_image == 0 or used < wanted)
    )
    for number, job in enumerate(chosen):
        if number == EXAMPLES:
            return
        yield job
