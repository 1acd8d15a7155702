"""`anojax.synthesize`, `anojax.merge`, `anojax.preview`, `anojax.verify`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

from anojax.api.example import Example
from anojax.api.load import SynthRun
from anojax.api.request import Methods, synth_config
from anojax.data.dataset import Dataset
from anojax.data.manifest import INPUTS
from anojax.data.pipeline import synthesize as make_images
from anojax.data.plan import Made
from anojax.environment import start_devices, workers
from anojax.errors import SettingError
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import prepare
from anojax.synthesis.preview import Preview, preview_run
from anojax.synthesis.run import default_batch, output_of, write_run
from anojax.synthesis.shares import parse_share
from anojax.synthesis.together import merge_shares, write_together
from anojax.synthesis.verify import Comparison, verify_run


class Examples:
    """The examples of a request, made while they are read, in the order of a run."""

    def __init__(self, config: SynthConfig, batch_size, devices, files):
        self._job = prepare(*load_parameters(config, devices))
        self._batch_size, self._devices, self._files = batch_size, devices, files
        self.left_out: list[str] = []
        """Why an example could not be made, one sentence each; grows while reading."""

    def __len__(self) -> int:
        """How many there are at most."""
        return self._job.plan.total

    def __iter__(self) -> Iterator[Example]:
        devices = start_devices(self._devices)
        self._job = self._job.with_banks()
        self.left_out.clear()
        plan = self._job.plan
        made = make_images(
            plan,
            plan.jobs(),
            batch_size=self._batch_size or default_batch(self._job, devices),
            devices=devices,
            readers=workers(),
        )
        waiting: dict[int, Made] = {}
        following = 0
        for one in made:
            waiting[one.job.index] = one
            while following in waiting:
                ready = waiting.pop(following)
                following += 1
                found = self._example(ready)
                if isinstance(found, Example):
                    yield found
                else:
                    self.left_out.append(found)

    def _example(self, made: Made) -> Example | str:
        """An example, or why there is none."""
        if made.reason is not None:
            return made.reason
        # A defect may vanish at the image's own resolution.
        made, final = output_of(self._job, Path()).settled(made)
        if made.reason is not None:
            return made.reason
        plan, job = self._job.plan, made.job
        return Example(
            plan.methods[job.method].name,
            final.normal,
            final.image,
            final.mask,
            str(plan.images[job.image]),
            job.example_id,
        )


@overload
def synthesize(
    input: Any, methods: Methods, output: None = None, **options: Any
) -> Examples: ...
@overload
def synthesize(
    input: Any, methods: Methods, output: str | Path, **options: Any
) -> SynthRun: ...
def synthesize(
    input,
    methods,
    output=None,
    *,
    batch_size: int | None = None,
    devices: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    distributed: bool = False,
    share: str | None = None,
    quiet: bool = False,
    **options,
):
    """Make images of defects with exact masks from images of good parts.

    Args:
      input: a folder of normal images or of a data set; or a list of arrays, uint8,
        uint16 or float in [0, 1], H x W or H x W x C; or a `Dataset`.
      methods: one or several names, or synthesizers with their settings.
      output: folder of a run, as `anojax synth` writes it; a run that was interrupted
        goes on. Without it, nothing is written, and examples are made as they are read.
      batch_size: images at a time; the pixels do not depend on it.
      devices: how many to use; all by default.
      strict: with `output`, fail on an image that cannot be used.
      overwrite: with `output`, replace the run that is there.
      distributed: with `output`, this is one of several processes that make the run
        together, which the environment names.
      share: with `output`, do this share of the work, as ``"3/16"``; see `merge`.
      quiet: print nothing.
      options: every other option of `anojax synth`, by its name in `config.yaml`: size,
        seed, per_image, count, severity, area, foreground, gray, settings and so on.
        Foreground, region and textures may be arrays, too.

    Returns:
      With `output` a `SynthRun`, without it `Examples`: both give `Example`.

    Raises:
      AnojaxError: an option that does not exist (with the nearest match), or one that
        cannot be met.

    >>> import anojax, numpy as np
    >>> parts = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    >>> for example in anojax.synthesize(list(parts), "cutpaste", size=32, quiet=True):
    ...     print(example.method, example.image.shape, example.mask.max())
    cutpaste (32, 32, 3) 255
    cutpaste (32, 32, 3) 255
    """
    if output is None:
        if strict or overwrite or distributed or share is not None:
            raise SettingError(
                "strict, overwrite, distributed and share are about a run; give output"
            )
        # Kept by the examples for as long as they may be read.
        files = TemporaryDirectory(prefix="anojax-")
        config = synth_config(input, methods, options, Path(files.name))
        return Examples(config, batch_size, devices, files)
    folder = Path(output)
    how = {
        "batch_size": batch_size,
        "devices": devices,
        "strict": strict,
        "overwrite": overwrite,
        "quiet": quiet,
        "note": _say(quiet),
    }
    together = distributed or share is not None
    if together and not isinstance(input, str | Path | Dataset):
        raise SettingError("several processes need a folder that all see, not arrays")
    config = synth_config(input, methods, options, folder / INPUTS)
    if together:
        part = None if share is None else parse_share(share)
        outcome = write_together(
            config, folder, share=part, distributed=distributed, **how
        )
    else:
        outcome = write_run(config, folder, **how)
    return SynthRun(outcome.folder, outcome.facts)


def merge(
    shares: Sequence[str | Path],
    output: str | Path,
    *,
    devices: int | None = None,
    quiet: bool = False,
) -> SynthRun:
    """Join what `synthesize` made with `share` into the run of one process.

    Args:
      shares: their folders.
      output: folder of the run; it may be the one that all shares are in.
      devices: how many to use; all by default.
      quiet: print nothing.

    Raises:
      RunError: a share is of another run, or is not whole.
    """
    outcome = merge_shares(
        [Path(folder) for folder in shares],
        Path(output),
        devices=devices,
        quiet=quiet,
        note=_say(quiet),
    )
    return SynthRun(outcome.folder, outcome.facts)


def preview(
    input: Any,
    methods: Methods,
    output: str | Path = "sheet.png",
    *,
    batch_size: int | None = None,
    devices: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> Preview:
    """Make 16 of the images that `synthesize` would make, and show them on one sheet.

    Args:
      input: as for `synthesize`.
      methods: as for `synthesize`.
      output: the sheet, .png or .jpg.
      batch_size: images at a time.
      devices: how many to use; all by default.
      quiet: print nothing.
      options: as for `synthesize`.

    Raises:
      AnojaxError: as for `synthesize`.
    """
    with TemporaryDirectory(prefix="anojax-") as files:
        config = synth_config(input, methods, options, Path(files))
        return preview_run(
            config,
            Path(output),
            batch_size=batch_size,
            devices=devices,
            note=_say(quiet),
        )


def verify(run: str | Path | SynthRun, **options: Any) -> Comparison:
    """Make the images of a finished run again and compare them with its files.

    Args:
      run: the run, or its folder.
      options: see `anojax.synthesis.verify.verify_run`: row, input, checkpoint,
        batch_size, devices, repair, note.

    Raises:
      RunError: the folder holds no finished run, or its images are others now.
    """
    return verify_run(run.folder if isinstance(run, SynthRun) else Path(run), **options)


def _say(quiet: bool):
    return (lambda text: None) if quiet else lambda text: print(text, flush=True)
