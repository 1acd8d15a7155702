"""`anojax.load`: a run of either kind, by its folder."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from anojax.api.example import Example
from anojax.config import read_yaml
from anojax.data.manifest import CONFIG, FINISHED, finished, read_rows
from anojax.data.readback import example
from anojax.errors import RunError
from anojax.synthesis.config import SynthConfig, from_request
from anojax.synthesis.folder import read_resolved
from anojax.training.trained import Trained, load_trained


class SynthRun:
    """A finished run of synthesis: a sequence of examples."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        self.folder = folder
        self.facts = facts
        """Numbers of images made, redrawn, empty and left out."""

    @cached_property
    def config(self) -> SynthConfig:
        return from_request(read_resolved(self.folder)["request"])

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of the manifest."""
        return list(read_rows(self.folder))

    def __repr__(self) -> str:
        return f"SynthRun({str(self.folder)!r}, {self.facts.get('images', 0)} images)"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        found = example(self.folder, row)
        return Example(
            row["method"],
            found.normal,
            found.image,
            found.mask,
            row["source"],
            row["example_id"],
        )

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))


def load(run: str | Path) -> SynthRun | Trained:
    """Open the folder of a finished run.

    Args:
      run: what `anojax synth` or `anojax train` wrote.

    Returns:
      A `SynthRun` (a sequence of examples), or what was trained.

    Raises:
      RunError: there is no finished run.

    >>> import anojax, numpy as np, tempfile
    >>> parts = [np.full((32, 32, 3), 40 * i, np.uint8) for i in (1, 2)]
    >>> parts[0][8:] = parts[1][:8] = 200
    >>> folder = tempfile.mkdtemp()
    >>> run = anojax.synthesize(parts, "cutpaste", folder, size=32, quiet=True)
    >>> len(anojax.load(folder)), anojax.load(folder)[0].method
    (2, 'cutpaste')
    """
    folder = Path(run).expanduser()
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is no run of anojax: it has no {CONFIG}")
    request = read_yaml(folder / CONFIG).get("request") or {}
    if "methods" not in request:
        return load_trained(folder)
    if not (folder / FINISHED).is_file():
        raise RunError(
            f"the run in {folder} is not finished; give its command again to finish it"
        )
    return SynthRun(folder, finished(folder) or {})
