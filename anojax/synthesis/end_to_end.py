"""A whole run, timed by its stages: from image files to a data set on disk."""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anojax.data import samples, timings
from anojax.device_memory import peak_bytes
from anojax.environment import cores, start_devices
from anojax.synthesis.config import SynthConfig
from anojax.synthesis.run import write_run

STAGES = {
    "decode": "images are read and resized (threads)",
    "hash": "their files are hashed, for the manifest (threads)",
    "compile": "the run waits for programs",
    "feed": "batches go to the device",
    "device": "the run waits for results",
    "judge": "masks and labels follow from the pixels",
    "encode": "PNG files and records are packed (threads)",
    "manifest": "lines are made and logged (threads)",
    "write": "files are written (threads)",
}


@dataclass(frozen=True)
class StageTime:
    """One stage of a run."""

    seconds: float
    """On the clock, added up over threads."""
    cpu: float
    """On a core, in the stage's own threads."""
    us_per_image: float
    """The seconds, for each image that was made."""
    share: float
    """Of the seconds of all stages."""


@dataclass(frozen=True)
class EndToEnd:
    """What a run took."""

    images: int
    seconds: float
    """From the request to the report."""
    images_per_s: float
    cpu_seconds: float
    """Of the whole process: the stages, programs on a CPU, compiling."""
    stages: dict[str, StageTime]
    host_peak_bytes: int
    """Most memory that the process held since it began."""
    device_peak_bytes: int | None
    """Most memory that was in use on one device; None where it does not say, as CPUs,
    whose memory is the host's."""
    device: str
    cores: int


def time_run(
    config: SynthConfig,
    *,
    images: int = 200,
    batch_size: int | None = None,
    devices: int | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> EndToEnd:
    """Make a data set in a temporary folder, and say what each stage took.

    Programs that are in the persistent cache are not compiled again, as in any run.

    Args:
      config: the run; without an input, procedural tiles are drawn first.
      images: procedural ones, if there is no input.
      batch_size: as in `write_run`.
      devices: as in `write_run`.
      note: told what is about to happen.

    Raises:
      AnojaxError: as `write_run`.
    """
    found = start_devices(devices)
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not config.data.input:
            note(f"drawing {images} tiles")
            samples.write_samples(temporary, ("tile",), images, config.data.shape)
            folder = str(temporary / "tile")
            data = replace(config.data, input=folder, foreground="none")
            config = replace(config, data=data)
        spent = stack.enter_context(timings.record())
        started, on_cores = time.perf_counter(), time.process_time()
        outcome = write_run(
            config,
            temporary / "run",
            batch_size=batch_size,
            devices=devices,
            quiet=True,
            note=note,
        )
        seconds = time.perf_counter() - started
        cpu_seconds = time.process_time() - on_cores
    made = outcome.facts["images"]
    return EndToEnd(
        images=made,
        seconds=seconds,
        images_per_s=made / seconds,
        cpu_seconds=cpu_seconds,
        stages=_stages(spent, made),
        host_peak_bytes=_host_peak(),
        device_peak_bytes=peak_bytes(found),
        device=f"{len(found)} x {found[0].device_kind}",
        cores=cores(),
    )


def _stages(recorded: timings.Timings, images: int) -> dict[str, StageTime]:
    spent: dict[str, Any] = recorded.spent
    total = sum(each.seconds for each in spent.values())
    return {
        name: StageTime(
            seconds=spent[name].seconds,
            cpu=spent[name].cpu,
            us_per_image=1e6 * spent[name].seconds / images,
            share=spent[name].seconds / total,
        )
        for name in STAGES
        if name in spent
    }


def _host_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
