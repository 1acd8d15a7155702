"""What a method generates while it is being trained, on a sheet of images."""

from pathlib import Path

import jax
import numpy as np

from anojax.batching import batch
from anojax.data.files import make_folder
from anojax.data.stream import Source
from anojax.errors import SettingError
from anojax.report import sheet
from anojax.task import Task
from anojax.training.loop import Sample
from anojax.training.run import first_example, synthesizer_params
from anojax.types import Bank, Inputs

FOLDER = "samples"
TILE_PX = 128


def sample_sheets(
    task: Task,
    source: Source,
    *,
    folder: Path,
    seed: int,
    count: int,
    bank: Bank | None,
) -> Sample:
    """What writes ``samples/step_000500.png`` into the folder of a run.

    The Synthesizer works with the averaged parameters on the first images of the
    source (again from the first where there are too few), as examples 0 to count - 1:
    with the same randomness every time, so that sheets differ by what was learned. It
    runs on one device. Where not all masks are full, each stands to the right of its
    image.

    Args:
      task: what is trained.
      source: its images.
      folder: of the run.
      seed: of the run.
      count: images on a sheet.
      bank: for methods that need a texture or another image.

    Raises:
      SettingError: training does not change what the method synthesizes.
      UnsupportedInput: the method changes features that are decoded to no image.
    """
    task.synth.check_shown()
    _check_learns(task, source, bank)

    def sample(state):
        inputs = _first_inputs(source, count)
        run = batch(task.synth, bank=bank, uint8=True, devices=jax.local_devices()[:1])
        ids = np.arange(count)
        made = jax.device_get(run(synthesizer_params(task, state), seed, ids, inputs))
        masks = None if (made.mask > 0).all() else list(made.mask)
        drawn = sheet.grid(list(made.image), masks, tile=_tile(made.image))
        name = f"step_{int(state.step):06d}.png"
        sheet.save(drawn, make_folder(folder / FOLDER) / name)

    return sample


def _check_learns(task: Task, source: Source, bank: Bank | None) -> None:
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(task.init, key, first_example(source, bank))
    if not jax.tree.leaves(task.params(state)):
        raise SettingError(
            f"sample_every shows what a synthesizer learns, and {task.name}'s does not "
            "learn in this training; leave it out, and see 'anojax preview' for the "
            "anomalies"
        )


def _first_inputs(source: Source, count: int) -> Inputs:
    found = [source[i % len(source)] for i in range(count)]
    return jax.tree.map(lambda *x: np.stack(x), *found)


def _tile(images: np.ndarray) -> int:
    """The longest side, times a whole number where that makes small images visible:
    no pixel is mixed with others."""
    side = max(images.shape[1:3])
    return side * max(1, TILE_PX // side)
