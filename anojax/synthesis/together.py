"""A run made by several processes, from the request to the report."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import jax

from anojax.data.lock import HIDDEN, locked
from anojax.data.manifest import FINISHED
from anojax.environment import connect, start_devices
from anojax.errors import RunError, SettingError
from anojax.synthesis.clean import check_clean
from anojax.synthesis.config import SynthConfig, from_request
from anojax.synthesis.describe import describe
from anojax.synthesis.folder import read_resolved, state_of
from anojax.synthesis.learned import load_parameters
from anojax.synthesis.prepare import prepare
from anojax.synthesis.room import check_ids
from anojax.synthesis.run import Outcome, complete, default_batch, sink_of
from anojax.synthesis.shares import Blocks, Share, begin, gather, make_share
from anojax.synthesis.whole import check_whole
from anojax.training.parallel import wait_for_all


def write_together(
    config: SynthConfig,
    folder: Path,
    *,
    share: Share | None = None,
    distributed: bool = False,
    batch_size: int | None = None,
    devices: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Do this process's share of a run.

    With `distributed` the processes know of each other; when all are done, the first
    one finishes the run. Without, `merge_shares` does.

    Args:
      config: what to make.
      folder: of the run; with `distributed` one that all processes see.
      share: which part of the work, where the processes do not know of each other.
      distributed: this is one of several processes, which the environment names.
      batch_size: images at a time; the pixels do not depend on it.
      devices: how many to use; all by default.
      strict: read every image first, and fail on one that cannot be used.
      overwrite: not to be had together with the others.
      quiet: draw no progress bar.
      note: told what is about to happen.

    Raises:
      AnojaxError: the request cannot be met, or the folder is taken.
    """
    if overwrite:
        raise SettingError(
            "several processes cannot replace a run; choose another --output"
        )
    if (share is None) != distributed:
        raise SettingError("give either --share or --distributed")
    if distributed:
        if devices is not None:
            raise SettingError("--devices has no meaning with --distributed")
        connect()
    found = start_devices(devices)
    if share is None:
        share = Share(jax.process_index() + 1, jax.process_count())
    first = distributed and share.number == 1
    if distributed and not first:
        quiet, note = True, lambda text: None
    job = prepare(*load_parameters(config, devices))
    check_ids(job)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--output {folder} is a file; give a folder")
    run = folder.resolve()
    state = state_of(run, job.resolved, False)
    _meet(distributed, "anojax: looked")
    if state == "finished":
        facts = {"images": job.plan.total} if not first else check_whole(run, job)
        return Outcome(folder, f"already finished, see {FINISHED}", facts)
    note(describe(job))
    note(f"output      {folder} ({job.config.format})")
    job = job.with_banks()
    check_clean(job)
    if strict:
        job.data.check_all()
    batch_size = batch_size or default_batch(job, found)
    with _lock(run, share, distributed):
        if first or not distributed:
            begin(job, run, sink_of(job, run), share)
        _meet(distributed, "anojax: begun")
        facts = make_share(
            job,
            run,
            sink_of(job, run),
            share,
            batch_size=batch_size,
            devices=found,
            quiet=quiet,
            note=note,
        )
        _meet(distributed, "anojax: made")
        if first:
            facts = complete(job, run, found, batch_size, quiet, note)
        _meet(distributed, "anojax: finished")
    state = "finished" if first else f"share {share} is made"
    return Outcome(folder, state, facts)


def merge_shares(
    folders: Sequence[Path],
    output: Path | None = None,
    *,
    batch_size: int | None = None,
    devices: int | None = None,
    quiet: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Join shares into the run that one process would have made.

    Args:
      folders: of the shares.
      output: of the run; may be left out where all shares are in one folder.
      batch_size: images at a time, should one have to be made again.
      devices: how many to use; all by default.
      quiet: draw no progress bar.
      note: told what is about to happen.

    Raises:
      RunError: a share is of another run, or is not whole.
      SettingError: several folders and no output.
    """
    if output is None:
        if len(folders) != 1:
            raise SettingError("several folders become one run; add --output DIR")
        output = folders[0]
    config = from_request(read_resolved(folders[0])["request"])
    job = prepare(*load_parameters(config, devices)).with_banks()
    for folder in folders:
        if state_of(folder.resolve(), job.resolved, False) == "new":
            raise RunError(f"{folder} holds no share of a run")
    run = output.resolve()
    state = state_of(run, job.resolved, False)
    if state == "finished":
        facts = check_whole(run, job)
        return Outcome(output, f"already finished, see {FINISHED}", facts)
    found = start_devices(devices)
    with locked(run):
        sink = sink_of(job, run)
        begin(job, run, sink, Share(1, 1))
        note(f"joining     {len(folders)} folders into {output}")
        gather(folders, run)
        blocks = Blocks(run, sink.ends)
        if missing := blocks.missing():
            raise RunError(
                f"{len(missing)} of {len(blocks)} parts of the run are not made yet, "
                f"the first is number {missing[0] + 1}; give the commands of the shares "
                "again, and name all their folders"
            )
        batch_size = batch_size or default_batch(job, found)
        facts = complete(job, run, found, batch_size, quiet, note)
    return Outcome(output, "finished", facts)


def _meet(distributed: bool, name: str) -> None:
    if distributed:
        wait_for_all(name)


def _lock(run: Path, share: Share, distributed: bool) -> AbstractContextManager[None]:
    """The first process holds the run; a share alone holds itself."""
    if not distributed:
        return locked(run / HIDDEN / f"share-{share.number}-of-{share.of}")
    return locked(run) if share.number == 1 else nullcontext()
