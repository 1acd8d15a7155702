"""Making again what is missing of a finished run, or not as it was."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

from anojax.config import read_yaml, to_yaml
from anojax.data.files import atomic_write
from anojax.data.lock import HIDDEN
from anojax.data.manifest import CONFIG, LOG, Progress
from anojax.data.pipeline import synthesize as make_images
from anojax.environment import workers
from anojax.errors import RunError
from anojax.synthesis.comparing import Comparing
from anojax.synthesis.run import finish

REPAIR = "repair.jsonl"
"""In the hidden folder: the lines that the run should have."""


def repair_run(run: Comparing, devices, batch_size: int) -> None:
    """Write damaged files again, and then everything that is told from them.

    Nothing is removed: a file that is not of the run stays.

    Args:
      run: a comparison that has been made, with a log.
      devices: to work on.
      batch_size: images at a time.

    Raises:
      RunError: what the images were made from has changed, so that other ones would
        come out.
    """
    folder, job, sink = run.folder, run.job, run.sink
    if run.other_config:
        raise RunError(
            f"{folder / CONFIG} is not what the run wrote, and the images cannot be "
            "made again from it; put the old one back"
        )
    if run.other_inputs:
        raise RunError(
            f"{run.other_inputs[0]} has other content than when the run was made; put "
            "the old one back first"
        )
    wanted = {index for number in run.damaged for index in sink.together(number)}
    sink.make_folders()
    lines = _again(run, sorted(wanted), devices, batch_size)
    kept = folder / HIDDEN / REPAIR
    with kept.open() as old, (folder / HIDDEN / LOG).open("w") as new:
        for index, line in enumerate(old):
            new.write(f"{lines[index]}\n" if index in lines else line)
    kept.unlink()
    sink.finish()
    # Comments and the order of keys: its values have been compared.
    atomic_write(folder / CONFIG, to_yaml(read_yaml(folder / CONFIG)))
    finish(job, folder, Progress(folder), sink)


def _again(run: Comparing, wanted: list[int], devices, batch_size) -> dict[int, str]:
    """Make these jobs again and write their files; the log's line of each."""
    chosen, sink = set(wanted), run.sink
    jobs = (job for job in run.job.plan.jobs() if job.index in chosen)
    results = make_images(
        run.job.plan, jobs, batch_size=batch_size, devices=devices, readers=workers()
    )
    waiting, lines, order = {}, [], deque(wanted)
    with ThreadPoolExecutor(workers()) as pool:
        for made in results:
            waiting[made.job.index] = made.job, pool.submit(sink.encode, made)
            while order and order[0] in waiting:
                job, encoded = waiting.pop(order.popleft())
                lines += sink.commit(job, encoded.result())
    return dict(zip(wanted, lines, strict=True))
