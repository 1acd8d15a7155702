"""Durations in steps, epochs, examples or percent of the run."""

import math
import re

from anojax.errors import SettingError

Duration = int | float | str
"""``500`` or ``"500 steps"``, ``"3 epochs"``, ``"10_000 examples"``, ``"10 %"``."""

_UNITS = {
    "": "steps",
    "step": "steps",
    "steps": "steps",
    "epoch": "epochs",
    "epochs": "epochs",
    "example": "examples",
    "examples": "examples",
    "%": "percent",
    "percent": "percent",
}


def to_steps(
    duration: Duration,
    *,
    batch_size: int,
    images: int,
    total: int | None = None,
    what: str = "duration",
) -> int:
    """A duration in steps, rounded up.

    Args:
      duration: a number with its unit; a bare whole number counts steps.
      batch_size: examples per step, of all devices together.
      images: examples per epoch.
      total: steps of the whole run, for percent.
      what: name of the setting, for the message.

    Raises:
      SettingError: it cannot be understood, or is not positive.
    """
    match = re.fullmatch(
        r"\s*(\d[\d_]*(?:\.\d+)?(?:e\d+)?)\s*([a-z%]*)\s*", str(duration)
    )
    unit = _UNITS.get(match[2]) if match else None
    if unit is None or (unit == "percent" and total is None):
        raise SettingError(
            f"{what} is {duration!r}; write for instance 500, '3 epochs', "
            f"'10000 examples'{' or 10 %' if total else ''}"
        )
    number = float(match[1])
    each = {
        "steps": 1.0,
        "epochs": images / batch_size,
        "examples": 1 / batch_size,
        "percent": (total or 0) / 100,
    }[unit]
    # A hair less, so that 10 % of 1000 is 100 and not 101.
    steps = math.ceil(number * each - 1e-9)
    if steps < 1:
        raise SettingError(f"{what} is {duration!r}, no step at all; give at least 1")
    return steps
