"""One pass over a run: every image made again, and every file and value compared."""

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anojax.config import digest, read_yaml
from anojax.data.files import decode_png, encode_png, sha256
from anojax.data.manifest import (
    CONFIG,
    FINISHED,
    INPUTS,
    MANIFEST,
    REPORT,
    SHEET,
    Row,
    finished,
)
from anojax.data.pipeline import synthesize as make_images
from anojax.data.plan import Final, Job, Made
from anojax.data.readback import file_of, stored, stored_normal
from anojax.data.write import Encoded, Paths, Pngs, encode_pair
from anojax.environment import workers
from anojax.errors import AnojaxError, RunError
from anojax.synthesis.clean import clean_problems
from anojax.synthesis.config import renamed_settings
from anojax.synthesis.prepare import Prepared
from anojax.synthesis.rows import Finding, Rows
from anojax.synthesis.run import count_reasons, shared_files, sink_of
from anojax.synthesis.whole import extra_files, shared_problems


@dataclass
class Checked:
    """What a job gives, and what is wrong with the files that it left."""

    job: Job
    draw: int
    encoded: Encoded
    """As the plan has it, with the hashes of the files that are there."""
    line: int | None
    row: dict[str, Any] | None
    """What the manifest says."""
    problems: list[str] = field(default_factory=list)
    damaged: bool = False
    """Whether its files are to be made again."""


@dataclass
class Tally:
    """What `finished.json` should say."""

    images: int = 0
    redrawn: int = 0
    empty: int = 0
    reasons: Counter = field(default_factory=Counter)

    def expected(self) -> dict[str, Any]:
        counts = {name: getattr(self, name) for name in ("images", "redrawn", "empty")}
        return counts | {
            "left_out": self.reasons.total(),
            "left_out_reasons": count_reasons(self.reasons.elements()),
        }


class Comparing:
    """Compares a run with what its plan makes.

    Args:
      folder: of the run.
      job: its request, prepared again.
      log: where to write the lines that the run should have; for a repair.
    """

    def __init__(self, folder: Path, job: Prepared, log: Path | None = None):
        self.folder, self.job, self.log = folder, job, log
        self.sink = sink_of(job, folder)
        self.compared = 0
        self.damaged: set[int] = set()
        """Numbers of the jobs whose files are to be made again."""
        self.other_inputs: list[str] = []
        """What images were made from, and holds something else now."""
        self.other_config = False
        """Whether `config.yaml` is not what the run wrote."""
        self._known = {
            CONFIG,
            FINISHED,
            MANIFEST,
            REPORT,
            *shared_files(job, folder, self.sink),
        }

    def problems(self, only: int | None, devices, batch_size: int) -> list[Finding]:
        """Everything that is not as it should be, in the order of the manifest; what is
        about the whole run comes first.

        Args:
          only: this line of the manifest alone.
          devices: to work on.
          batch_size: images at a time.
        """
        rows, tally = Rows(self.folder), Tally()
        plan = self.job.plan
        jobs = plan.jobs() if only is None else [rows.job_of(only, plan)]
        results = make_images(
            plan, jobs, batch_size=batch_size, devices=devices, readers=workers()
        )
        found = [] if only is not None else [*self._of_the_run(), *rows.problems]
        ledger, last = self.sink.ledger(), 0
        log = None if self.log is None else self.log.open("w")
        try:
            for checked in self._in_order(
                results, rows, None if only is None else jobs
            ):
                if only is None:
                    row = ledger.enter(checked.job, checked.encoded)
                else:
                    row = self._alone(checked)
                found += self._of_a_job(checked, row, rows, only is None, last)
                last = max(last, checked.line or 0)
                self._count(tally, checked)
                if log is not None:
                    line = checked.encoded.left_out if row is None else row.line()
                    log.write(f"{line}\n")
        finally:
            if log is not None:
                log.close()
        if only is None:
            found += rows.left_over()
            found += self._of_the_counts(tally)
            found += [Finding(None, *each) for each in self._extra(tally)]
        return sorted(found, key=lambda each: each.line or 0)

    def _of_the_run(self) -> Iterator[Finding]:
        """About the files that hold more than one image."""
        resolved = read_yaml(self.folder / CONFIG)
        rest = {name: value for name, value in resolved.items() if name != "hash"}
        if resolved.get("hash") != digest(rest):
            self.other_config = True
            yield Finding(None, CONFIG, "is not what the run wrote: its hash differs")
        try:
            facts = finished(self.folder)
        except RunError:
            yield Finding(None, FINISHED, "is damaged")
            facts = {}
        if facts is None:
            yield Finding(None, FINISHED, "is missing")
        facts = facts or {}
        damaged = dict(shared_problems(self.folder, facts))
        for name, problem in damaged.items():
            yield Finding(None, name, problem)
            self.damaged |= {*self.sink.jobs_in(name)}
        for name, problem in clean_problems(self.job, self.folder):
            if name not in damaged:
                yield Finding(None, name, problem)
                # A file whose hash is right is not what has changed.
                if name in facts.get("files", {}):
                    self.other_inputs.append(str(self.job.clean[name]))
        missing = self._known - {FINISHED, *facts.get("files", self._known)}
        for name in sorted(missing) if facts else ():
            yield Finding(None, FINISHED, f"says nothing about {name}")
        if facts and facts.get("hash") != resolved.get("hash"):
            self.other_config = True
            yield Finding(None, FINISHED, "belongs to another configuration")

    def _in_order(self, results: Iterable[Made], rows: Rows, jobs) -> Iterator[Checked]:
        """The results, checked in threads, in the order of their jobs."""
        waiting: dict[int, Future] = {}
        following = 0 if jobs is None else jobs[0].index
        with ThreadPoolExecutor(workers()) as pool:
            for made in results:
                waiting[made.job.index] = pool.submit(self._check, made, rows)
                while following in waiting:
                    yield waiting.pop(following).result()
                    following += 1
        assert not waiting, "a job is missing among the results"

    def _check(self, made: Made, rows: Rows) -> Checked:
        """In a thread: the files of a job against what the plan makes."""
        sink, output, job = self.sink, self.sink.output, made.job
        name = output.plan.methods[job.method].name
        line, row = rows.take((name, job.example_id)) or (None, None)
        where = sink.where(job, row)
        if made.normal is None or (made.reason is not None and not job.first_of_image):
            left_out = Encoded(None, output.left_out(made))
            return Checked(job, made.draw, left_out, line, row)
        made, final = output.settled(made)
        checked = Checked(job, made.draw, Encoded(None, None), line, row)
        normal_sha256 = None
        if job.first_of_image:
            normal_sha256 = self._normal(checked, where, made, final)
        if made.reason is not None:
            checked.encoded = Encoded(None, output.left_out(made), normal_sha256)
            return checked
        pngs = self._image(checked, where, made, final)
        paths = where or Paths("", "", "")
        planned = output.row(made, final, paths, pngs)
        checked.encoded = Encoded(planned, None, normal_sha256)
        return checked

    def _normal(self, checked: Checked, where: Paths | None, made, final) -> str:
        """Compare the normal image; its hash as it lies there, or as it should be."""
        if where is None:
            return sha256(encode_png(final.normal))
        try:
            png = stored_normal(self.folder, {"normal": where.normal})
            same = np.array_equal(decode_png(png), final.normal)
            noted = (checked.row or {}).get("normal_sha256")
            if self.job.plan.mask_rule is not None:  # before, there was no hash of it
                same &= _as_written(png, encode_png(final.normal), noted)
            if same and self.sink.normal_fits(where.normal, made, final, png):
                return sha256(png)
            checked.problems.append(f"{where.normal} is not its source")
        except AnojaxError as error:
            checked.problems.append(self._named(error, where.normal))
        checked.damaged = True
        return sha256(encode_png(final.normal))

    def _image(self, checked: Checked, where: Paths | None, made, final) -> Pngs:
        """Compare image and mask; the files as they lie there, or should be."""
        again = encode_pair(final)
        if where is None:
            checked.damaged = True
            return again
        names = {"image": where.image, "mask": again.mask and where.mask}
        try:
            files = stored(self.folder, names)
            problem = _difference(files, final)
            noted = checked.row or {}
            for file, ours, hash_ in zip(
                files, again, ("sha256", "mask_sha256"), strict=True
            ):
                if not _as_written(file, ours, noted.get(hash_)):
                    problem = problem or "the file was changed: its hash differs"
            if problem is None:
                problem = self.sink.record_problem(where.image, made, final)
            if problem is None:
                return Pngs(*files)
        except AnojaxError as error:
            problem = self._named(error, where.image)
        checked.problems.append(problem)
        checked.damaged = True
        return again

    def _alone(self, checked: Checked) -> Row | None:
        """The row of a job whose neighbors are not made again."""
        row, found = checked.encoded.row, checked.encoded.normal_sha256
        if row is None:
            return None
        if found is None:
            try:
                found = sha256(stored_normal(self.folder, {"normal": row.normal}))
            except AnojaxError as error:
                checked.problems.append(self._named(error, row.normal))
        mask = row.mask if row.anomalous else None
        return dataclasses.replace(row, mask=mask, normal_sha256=found or "")

    def _of_a_job(
        self, checked: Checked, row, rows: Rows, in_order: bool, last: int
    ) -> list[Finding]:
        self.compared += row is not None
        if checked.damaged:
            self.damaged.add(checked.job.index)
        planned = None if row is None else row.values()
        if planned is not None:
            self._known |= {file_of(n) for n in self._files(planned)}
        elif checked.encoded.normal_sha256 is not None:
            if where := self.sink.where(checked.job, None):
                self._known.add(where.normal)
        file = planned or checked.row or {"image": MANIFEST}
        found = [Finding(checked.line, file["image"], p) for p in checked.problems]
        if planned is None and checked.row is not None:
            what = f"the plan gives no image: {_reason(checked.encoded.left_out)}"
            found.append(Finding(checked.line, checked.row["image"], what))
        elif planned is not None and checked.row is None:
            if rows.there:
                found.append(
                    Finding(None, file["image"], f"{MANIFEST} has no line of it")
                )
        elif planned is not None:
            if problem := self._values_differ(planned, checked.row):
                found.append(Finding(checked.line, file["image"], problem))
            if in_order and checked.line < last:
                what = f"stands after line {last}, and belongs before it"
                found.append(Finding(checked.line, MANIFEST, what))
        return found

    def _files(self, planned: dict[str, Any]) -> list[str]:
        return [planned[n] for n in ("image", "mask", "normal") if planned[n]]

    def _values_differ(
        self, planned: dict[str, Any], row: dict[str, Any]
    ) -> str | None:
        """Which values of a line are not those of the plan."""
        # As JSON gives them back: tuples are lists there.
        planned = {name: _as_json(value) for name, value in planned.items()}
        if self.job.plan.mask_rule is None:  # an earlier version wrote less
            planned = {k: v for k, v in planned.items() if k in row}
            if isinstance(row.get("settings"), dict):
                named = renamed_settings(planned["method"], row["settings"])
                row = {**row, "settings": named}
        else:
            mine, theirs = (
                [*values.get("inputs_sha256", {}).values()] for values in (planned, row)
            )
            if mine != theirs:
                self.other_inputs.append(planned["source"])
                return f"{planned['source']} or a mask of it has other content now"
            # By content: the files may have been moved.
            planned["inputs_sha256"] = row["inputs_sha256"]
        different = [
            f"{name} is {_short(row.get(name))} and should be {_short(value)}"
            for name, value in planned.items()
            if name not in row
            or row[name] != value
            or type(row[name]) is not type(value)
        ]
        different += [f"{name} is unknown" for name in row if name not in planned]
        return "; ".join(different) or None

    def _of_the_counts(self, tally: Tally) -> Iterator[Finding]:
        try:
            facts = finished(self.folder)
        except RunError:
            return  # said already
        for name, value in (tally.expected() if facts else {}).items():
            if facts.get(name) != value:
                what = f"{name} is {facts.get(name)} and should be {value}"
                yield Finding(None, FINISHED, what)

    def _extra(self, tally: Tally) -> Iterator[tuple[str, str]]:
        sheet = {SHEET} if tally.images > tally.empty else set()
        places = self.job.resolved["request"]["data"].values()
        arrays = any(
            isinstance(p, str) and Path(p).parent.name == INPUTS for p in places
        )
        kept = {INPUTS} if arrays else set()
        known = self._known | sheet
        return extra_files(self.folder, known, self.sink.folders(), kept)

    def _count(self, tally: Tally, checked: Checked) -> None:
        row = checked.encoded.row
        if row is None:
            tally.reasons[_reason(checked.encoded.left_out)] += 1
            return
        tally.images += 1
        tally.redrawn += checked.draw > 0
        tally.empty += not row.anomalous

    def _named(self, error: AnojaxError, name: str) -> str:
        """A refusal, with the name in the run where it names the whole path."""
        return str(error).replace(f"{self.folder}{os.sep}", "") or name


def _as_written(file: bytes | None, again: bytes | None, noted: str | None) -> bool:
    """Whether a file is as it was written: it is what is written now, or has the hash
    that was noted (another version of zlib gives other bytes)."""
    return file == again or (file is not None and sha256(file) == noted)


def _difference(files, final: Final) -> str | None:
    """Where the stored images differ from those made again."""
    image, mask = decode_png(files.image), np.zeros_like(final.mask)
    if files.mask is not None:
        mask = decode_png(files.mask)
    if not np.array_equal(mask, final.mask):
        return "the mask made again differs"
    if image.shape != final.image.shape or image.dtype != final.image.dtype:
        return f"the image made again is {final.image.shape}, the file is {image.shape}"
    change = np.abs(image.astype(np.int32) - final.image.astype(np.int32))
    if not change.any():
        return None
    return (
        f"the image made again differs in {int((change > 0).any(-1).sum())} pixels, "
        f"by up to {int(change.max())}"
    )


def _reason(left_out: str) -> str:
    return json.loads(left_out)["reason"]


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
