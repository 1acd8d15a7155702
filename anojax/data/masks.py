"""Reading one mask: which of its values mark something, by one rule for all files.

A mask is **binary** when it holds 0 and one other value (0/1, 0/255, 0/65535, of any
number of bits), one value alone, or values that lie close to black and close to white
as JPEG leaves them. Everything else, such as class numbers or soft edges, has more than
one reading: it is refused until the user says with `--mask-classes` which values count.

Transparency counts where the colors say nothing: a mask of one color is set where it is
not clear. Elsewhere clear pixels are not set.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from anojax.data.decode import Decoded, decode, upright
from anojax.errors import AnojaxError, DataError, SettingError

KINDS = ("region", "foreground", "defect")
NONZERO = "nonzero"
# Of the largest value: what JPEG leaves of black and of white lies beyond these.
_DARK, _BRIGHT = 0.25, 0.75
# Share of the image that JPEG may leave between black and white: edges.
_BLURRED = 0.02
_LISTED = 8


@dataclass(frozen=True)
class Classes:
    """The values that mark something; made by `parse_classes`."""

    ranges: tuple[tuple[float, float], ...]
    """Lowest and highest value of each range, both included."""

    def __call__(self, values: np.ndarray) -> Bool[np.ndarray, "..."]:
        marked = np.zeros(values.shape, bool)
        for low, high in self.ranges:
            marked |= (values >= low) & (values <= high)
        return marked


def parse_classes(text: str | int | None) -> Classes | None:
    """What `--mask-classes` says: ``"1,2"``, ``"128-255"`` or ``"nonzero"``.

    Raises:
      SettingError: it is written otherwise.
    """
    if text is None:
        return None
    if str(text).strip().lower() == NONZERO:
        return Classes(((np.nextafter(0, 1), np.inf),))
    ranges = []
    for part in str(text).split(","):
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else not high)):
            raise SettingError(
                f"--mask-classes is '{text}'; give values (1,2), ranges (128-255) or "
                f"{NONZERO}"
            )
        ranges.append((int(low), int(high or low)))
    return Classes(tuple(ranges))


def read_mask(
    path: str | Path,
    shape: tuple[int, int],
    *,
    kind: str = "region",
    classes: Classes | None = None,
    image: Path | None = None,
) -> UInt8[np.ndarray, "h w 1"]:
    """Read a mask: 0 or 1.

    Args:
      path: the file.
      shape: height and width of its image, which the mask must have.
      kind: "region" (where a defect may go) and "foreground" (the object) must not be
        empty; "defect" must not cover more than half of the image, which would mean
        that its polarity is inverted.
      classes: the values that mark something; the rule of this module when absent.
      image: file of its image; a mask that fits it as it is stored, and not as EXIF
        turns it, is turned as well.

    Raises:
      DataError: unreadable, of another size, neither binary nor decided by `classes`,
        empty, or inverted.
      AnojaxError: an unknown kind of mask.
    """
    if kind not in KINDS:
        raise AnojaxError(f"mask kind '{kind}'; choose {', '.join(KINDS)}")
    mask = mask_of(Path(path), shape, classes=classes, image=image)
    if kind == "defect" and mask.mean() > 0.5:
        raise DataError(
            f"mask {path} marks {mask.mean():.0%} of the image as defect, so it looks "
            "inverted; save it white on the defect and black elsewhere"
        )
    if kind != "defect" and not mask.any():
        raise DataError(
            f"{kind} mask {path} is empty; set at least one pixel to white or remove it"
        )
    return mask[..., None].astype(np.uint8)


def mask_of(
    path: Path,
    shape: tuple[int, int] | None = None,
    *,
    classes: Classes | None = None,
    image: Path | None = None,
) -> Bool[np.ndarray, "h w"]:
    """Where a mask is set, also where it is nowhere or nearly everywhere.

    Raises:
      DataError: as for `read_mask`.
    """
    found = decode(path)
    mask = marked(path, found, classes)
    if shape is None or mask.shape == tuple(shape):
        return mask
    if image is not None and found.orientation == 1 and mask.shape == shape[::-1]:
        # Drawn on the pixels as they are stored, which EXIF turns.
        mask = upright(mask, decode(image).orientation)
    if mask.shape != tuple(shape):
        raise DataError(
            f"mask {path} has another size than its image: it is {mask.shape[1]} x "
            f"{mask.shape[0]} pixels but its image is {shape[1]} x {shape[0]}; export "
            "the mask at the size of the image"
        )
    return mask


def is_binary(path: Path) -> bool:
    """Whether a file looks like a mask: two values at most, or nearly so."""
    found = decode(path)
    return found.frames == 1 and _rule(found) is not None


def marked(
    path: Path, found: Decoded, classes: Classes | None
) -> Bool[np.ndarray, "h w"]:
    """Where a decoded mask is set.

    Raises:
      DataError: several frames, or neither black nor white.
    """
    if found.frames > 1:
        raise DataError(
            f"mask {path} holds {found.frames} frames; save one mask for each image"
        )
    if classes is not None:
        return classes(_values(found))
    mask = _rule(found)
    if mask is None:
        raise DataError(f"mask {path} is not binary: {not_binary(found)}")
    return mask


def not_binary(found: Decoded) -> str:
    """What a mask holds instead, and the flag that decides."""
    return (
        f"it holds {_listed(found)}; say which values mark something with "
        f"--mask-classes, e.g. --mask-classes {_suggestion(found)}"
    )


def _values(found: Decoded) -> np.ndarray:
    """One number per pixel ``[H, W]``: of the palette's color, or the brightness."""
    return found.array.max(axis=2) if found.indices is None else found.indices


def _rule(found: Decoded) -> Bool[np.ndarray, "h w"] | None:
    """Where a binary mask is set; ``None``: it is not binary."""
    array, alpha = found.array, found.alpha
    if found.indices is not None:
        # A palette with colors numbers classes; its brightness means nothing.
        array = found.indices[..., None]
    flat = bool((array == array[:1, :1]).all())
    if alpha is not None and alpha.min() < alpha.max():
        visible = _binary(alpha, found.lossy)
        if flat or visible is None:
            return visible
        # Colors under clear pixels are leftovers of the program that wrote them.
        array = np.where(visible[..., None], array, 0)
        flat = bool((array == array[:1, :1]).all())
    values = array.max(axis=2)
    if array.shape[2] == 3 and not flat and values.min() == values.max():
        return None  # colors of equal brightness: which one marks?
    if array.shape[2] == 3 and values.min() > 0 and np.ptp(array, axis=2).any():
        return None  # a colored ground
    return _binary(values, found.lossy)


def _binary(values: np.ndarray, lossy: bool) -> Bool[np.ndarray, "h w"] | None:
    """See the module: ``[H, W]`` of any type."""
    if not np.isfinite(values).all() or values.min() < 0:
        return None
    low, top = values.min(), values.max()
    if low == top:
        return values > 0
    dark, bright = values < _DARK * top, values >= _BRIGHT * top
    if not dark.any() or (low > 0 and top < 128):
        return None  # 1 and 6 are two classes; 16 and 235 are black and white of video
    two = dark & (values == low) | (values == top)
    if two.all():
        return values == top
    if lossy:
        between = 1 - (dark | bright).mean()
        return values >= top / 2 if between <= _BLURRED and top >= 64 else None
    # Lossless, with the traces of JPEG: white is a range of values. One bright value
    # alone beside several dark ones would be class numbers and "ignore".
    if not (dark | bright).all() or top < 128:
        return None
    several_dark = values[dark].max() > low
    if several_dark and len(np.unique(values[bright])) < 3:
        return None
    return bright


def _listed(found: Decoded) -> str:
    """Its values and how often they occur, for a message."""
    values, counts = np.unique(_values(found), return_counts=True)
    share = counts / counts.sum()
    words = [
        f"{value:g} ({part:.1%})"
        for value, part in zip(values[:_LISTED], share, strict=False)
    ]
    more = f" and {len(values) - _LISTED} more values" if len(values) > _LISTED else ""
    what = "the values" if found.indices is None else "the palette's numbers"
    return f"{what} {', '.join(words)}{more}"


def _suggestion(found: Decoded) -> str:
    """An example that fits: the classes, or the upper half of the range."""
    values = np.unique(_values(found))
    if len(values) <= _LISTED and values.dtype.kind in "iu":
        return ",".join(str(v) for v in values if v not in (0, 255)) or NONZERO
    top = int(values.max())
    return f"{(top + 1) // 2}-{top}" if top > 1 else NONZERO
