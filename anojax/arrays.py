"""What people hand over, as the methods want it: any array of an image, an integer
seed. What cannot be meant is one sentence, before anything is computed.
"""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from anojax.errors import DataError
from anojax.pixels import in_unit_range
from anojax.random import example_key, method_key
from anojax.types import Inputs

SLACK = 1e-3
"""How far a float may lie outside [0, 1]: resampling leaves that much behind."""

_IMAGES = ("image", "source")
_MASKS = ("foreground", "region", "source_foreground")


def as_key(key: Any, method: str) -> Any:
    """A key as it is; an integer seed as the key of example 0 of a run with that seed.

    Raises:
      DataError: neither a key nor an integer.
    """
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        return example_key(method_key(int(key), method), 0)
    if not hasattr(key, "dtype"):
        raise DataError(
            f"key is {key!r}; give an integer seed, or a key as jax.random.key(0)"
        )
    return key


def as_inputs(inputs: Any, *, lead: int = 0) -> Inputs:
    """Inputs with float32 images in [0, 1] and masks of 0 and 1, all H x W x C.

    Args:
      inputs: an `Inputs`, or an image alone.
      lead: how many axes come before the image's own: 1 for a batch. A batch keeps its
        uint8, which is smaller on the way to the device.

    Raises:
      DataError: a dtype, a range, a rank or an order of axes that no image has.

    >>> as_inputs(np.full((4, 6), 255, np.uint8)).image.shape
    (4, 6, 1)
    """
    if not isinstance(inputs, Inputs):
        inputs = Inputs(image=inputs)
    changes = {}
    for name in (*_IMAGES, *_MASKS):
        if (value := getattr(inputs, name)) is not None:
            changes[name] = as_plane(value, name, lead=lead, mask=name in _MASKS)
    return inputs.replace(**changes)


def as_plane(value: Any, what: str, *, lead: int = 0, mask: bool = False) -> Any:
    """One image, or one mask, or with `lead` an array of them; see `as_inputs`.

    Raises:
      DataError: numbers of another type, or outside their range.
    """
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    value = _shaped(value, what, lead, mask)
    kind, keep = value.dtype, lead > 0
    if mask:
        if kind == np.uint8 and keep:
            return value
        if not (
            np.issubdtype(kind, np.bool_)
            or np.issubdtype(kind, np.number)
            or _float(kind)
        ):
            raise DataError(f"{what} is {kind}; give bool, uint8 or float, 0 elsewhere")
        return value if kind == np.float32 else (value > 0).astype(np.float32)
    if kind == np.uint8:
        return value if keep else in_unit_range(jnp.asarray(value))
    if not _float(kind):
        raise DataError(f"{what} is {kind}; give uint8, or floats from 0 to 1")
    _check_range(value, what)
    return value if keep and kind == np.float32 else jnp.asarray(value, jnp.float32)


def _float(kind: Any) -> bool:
    return jnp.issubdtype(kind, jnp.floating)


def _shaped(value: Any, what: str, lead: int, mask: bool) -> Any:
    shape = tuple(value.shape)
    wanted = "B x H x W x C" if lead else "H x W x C"
    if len(shape) == lead + 2:
        return value[..., None]
    if len(shape) != lead + 3:
        more = len(shape) == 4 and not lead
        hint = "; anojax.batch and jax.vmap take many at once" if more else ""
        raise DataError(f"{what} has the shape {shape}; expected {wanted}{hint}")
    first, last = shape[lead], shape[-1]
    if last not in (1, 3, 4) and first in (1, 3, 4):
        raise DataError(
            f"{what} has the shape {shape}, channels first; expected {wanted}: "
            f"numpy.moveaxis({what}, {lead - 3}, -1)"
        )
    if mask and last != 1:
        raise DataError(f"{what} has the shape {shape}; a mask has one channel")
    return value


def _check_range(value: Any, what: str) -> None:
    if isinstance(value, jax.core.Tracer):
        return  # its values are not known yet
    low, high = float(value.min()), float(value.max())
    if low < -SLACK or high > 1 + SLACK or low != low or high != high:
        hint = "; divide by 255, or give uint8" if 1 < high <= 255 and low >= 0 else ""
        raise DataError(
            f"{what} holds floats from {low:g} to {high:g}; expected 0 to 1{hint}"
        )
