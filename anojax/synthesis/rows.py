"""The manifest of a finished run beside its plan: which line is about which job."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anojax.data.manifest import MANIFEST, parse_row
from anojax.data.plan import Job, Plan
from anojax.errors import SettingError

Key = tuple[str, int]
"""Method and example id: what a line is about."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as the run wrote it."""

    line: int | None
    """Of the manifest; ``None`` where it is about no line."""
    file: str
    """By its name in the run."""
    problem: str

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line} "
        return f"{where}{self.file}: {self.problem}"


class Rows:
    """The lines of a manifest; broken and doubled ones are findings, not errors."""

    def __init__(self, run: Path):
        self.problems: list[Finding] = []
        self.path = run / MANIFEST
        self.there = self.path.is_file() and not self.path.is_symlink()
        self._places: dict[Key, tuple[int, int]] = {}
        self._used: set[Key] = set()
        self._count = 0
        if not self.there:
            return
        self._lock, self._file = threading.Lock(), self.path.open("rb")
        place = 0
        for number, line in enumerate(self._file, 1):
            self._note(number, place, line)
            place += len(line)
            self._count = number

    def _note(self, number: int, place: int, line: bytes) -> None:
        try:
            row = parse_row(line)
            if not line.endswith(b"\n"):
                raise ValueError("does not end")
        except ValueError as error:
            self.problems.append(Finding(number, MANIFEST, str(error)))
            return
        key = row["method"], row["example_id"]
        if key in self._places:
            what = f"is about the same image as line {self._places[key][0]}"
            self.problems.append(Finding(number, MANIFEST, what))
            return
        self._places[key] = number, place

    def take(self, key: Key) -> tuple[int, dict[str, Any]] | None:
        """The line about an image and its values; ``None`` if there is none."""
        if key not in self._places:
            return None
        number, place = self._places[key]
        with self._lock:
            self._used.add(key)
            self._file.seek(place)
            return number, parse_row(self._file.readline())

    def left_over(self) -> list[Finding]:
        """The lines that nobody took."""
        what = "is about an image that is not in the plan"
        return [
            Finding(number, MANIFEST, what)
            for key, (number, _) in self._places.items()
            if key not in self._used
        ]

    def job_of(self, number: int, plan: Plan) -> Job:
        """The job of a line.

        Raises:
          SettingError: there is no such line, or it is about no job.
        """
        if not 1 <= number <= self._count:
            raise SettingError(
                f"--row is {number}; the manifest has lines 1 to {self._count}"
            )
        names = [synth.name for synth in plan.methods]
        key = next((k for k, (n, _) in self._places.items() if n == number), None)
        for job in plan.jobs():
            if (names[job.method], job.example_id) == key:
                return job
        raise SettingError(
            f"line {number} of {self.path} is about no image of the plan; verify the "
            "whole run"
        )
