"""The categories that one network tells apart, and the number that each of them has.

A run that learns several categories keeps their names in its folder; whoever goes on
from it, or synthesizes with it, looks the number up by the name.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from anojax.data.opening import read_json
from anojax.errors import DataError

FILE = "categories.json"


@dataclass(frozen=True)
class Categories:
    """Names in the order of their numbers; the first has number 0."""

    names: tuple[str, ...]
    channels: int
    """Of the images that the network takes: where it is 3, gray ones are read as
    color."""

    def __post_init__(self):
        if len(set(self.names)) != len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise DataError(
                f"two categories are called '{twice}'; rename the folder of one"
            )

    def label(self, name: str) -> int:
        """The number of a category.

        Raises:
          DataError: the network does not know it.
        """
        if name not in self.names:
            raise DataError(
                f"the network does not know the category '{name}'; it knows "
                f"{', '.join(self.names)}; name one of them with --category, or by the "
                "name of the folder"
            )
        return self.names.index(name)

    def listed(self) -> str:
        """JSON, for the run's folder."""
        values = {"categories": list(self.names), "channels": self.channels}
        return json.dumps(values, indent=1)


def listed_in(run: Path) -> Categories | None:
    """What the network of a run tells apart; ``None``: nothing."""
    if not (run / FILE).is_file():
        return None
    values = read_json(run / FILE, "categories", "channels")
    return Categories(tuple(values["categories"]), values["channels"])
