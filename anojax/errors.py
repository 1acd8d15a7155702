"""What can go wrong, each in one sentence: value given, value expected, next step."""

import difflib
from collections.abc import Iterable


class AnojaxError(ValueError):
    """Any mistake in what was requested of anojax."""


class UnknownName(AnojaxError):
    """A method, field or key that does not exist."""


class SettingError(AnojaxError):
    """A hyper-parameter of the wrong type or out of its range."""


class MissingInput(AnojaxError):
    """A method needs something that the inputs lack."""


class UnsupportedControl(AnojaxError):
    """A control that the method cannot support."""


class UnsupportedInput(AnojaxError):
    """An input that the method cannot support."""


class DataError(AnojaxError):
    """A file or folder that cannot be used."""


class RunError(AnojaxError):
    """A run folder that does not fit what is requested of it."""


class CheckpointError(AnojaxError):
    """A checkpoint that is missing, damaged or made for something else."""


def did_you_mean(name: str, known: Iterable[str], where: str = "") -> str:
    """``"; did you mean 'x'?"``, or a list of what exists when nothing is near.

    Args:
      name: as it was given.
      known: the names that exist.
      where: block of a configuration that they are in; the name is given with it.

    >>> did_you_mean("inptu", ["input", "size"], "data")
    "; did you mean 'data.input'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if near:
        prefix = f"{where}." if where else ""
        return f"; did you mean '{prefix}{near[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
