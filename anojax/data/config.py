"""Which images to work on: the one block `data` of every configuration."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from anojax.data.boxes import parse_box
from anojax.data.layouts import LAYOUTS
from anojax.errors import SettingError
from anojax.fields import check_fields, hp

PATHS = ("input", "textures", "foreground", "region", "precomputed", "exemplars")
"""Fields that may name a file or a folder."""


@dataclass(frozen=True)
class DataConfig:
    """Which images, how large, and what belongs to them."""

    input: str = hp("", "folder of normal images, or of a data set")
    layout: str = hp("auto", "layout of the input", choices=("auto", *LAYOUTS))
    normal: str | tuple[str, ...] = hp(
        (), "which images below the input are normal, e.g. 'OK/*', instead of a layout"
    )
    bits: int | None = hp(
        None,
        "depth of the sensor, for files of 16 bits; that of the images when absent",
        low=8,
        high=16,
    )
    frames: str = hp(
        "one",
        "files of several frames: one refuses them, first takes the first",
        choices=("one", "first"),
    )
    mask_classes: str | int | tuple[int, ...] | None = hp(
        None,
        "which values of masks count, where masks are not binary: 1,2 or 128-255 or "
        "nonzero",
    )
    category: str | None = hp(
        None, "what the images show, by name; the name of their folder when absent"
    )
    size: int | tuple[int, int] = hp(
        (256, 256),
        "side, or height and width, to work at, in pixels",
        low=16,
        high=4096,
    )
    gray: bool = hp(False, "treat all images as single-channel")
    textures: str | None = hp(
        None, "folder of texture images; procedural textures when absent"
    )
    foreground: str = hp(
        "auto", "where the object is: auto, none, or a folder of masks"
    )
    region: str | None = hp(
        None,
        "where a defect may go: a folder of masks, one mask for all, or left, top, "
        "right and bottom as fractions of the image, 0.1,0.2,0.9,0.8",
    )
    precomputed: str | None = hp(
        None, "run of 'anojax synth' whose anomalies are used instead of new ones"
    )
    exemplars: str | None = hp(
        None, "folder of real defects with masks, for methods that learn from them"
    )
    exemplars_per_defect: int = hp(
        5, "exemplars of each type, the first by name; the others stay unseen", low=1
    )

    def __post_init__(self):
        check_fields("data", self)
        # One form of each, so that equal requests are equal configurations.
        object.__setattr__(self, "size", self.shape)
        if isinstance(self.normal, str):
            object.__setattr__(self, "normal", (self.normal,) if self.normal else ())
        if self.mask_classes is not None:
            given = self.mask_classes
            given = given if isinstance(given, tuple) else (given,)
            object.__setattr__(self, "mask_classes", ",".join(map(str, given)))
        if self.region is not None and (box := parse_box(self.region)) is not None:
            object.__setattr__(self, "region", ",".join(f"{one:g}" for one in box))
        # It names a folder of the output.
        name = self.category
        if name is not None and (name in ("", ".", "..") or {"/", "\\"} & set(name)):
            raise SettingError(f"category is '{name}'; give a name, not a path")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def absolute(self) -> "DataConfig":
        """The same, to be read again from any working folder."""
        changes = {}
        for name in PATHS:
            value = getattr(self, name)
            if name == "region" and value and parse_box(value) is not None:
                continue
            if value not in (None, "", "auto", "none"):
                # Links stay: a category is called as the link to it is.
                changes[name] = os.path.abspath(Path(value).expanduser())
        return dataclasses.replace(self, **changes)
