"""The settings of `nsa`, and their values for kinds of images in its public code."""

from dataclasses import dataclass

from anojax.core import Synthesizer, hp
from anojax.errors import SettingError

# Gray level of the background, and how far from it the object begins.
_DARK, _BRIGHT = (20.0, 20.0), (200.0, 60.0)
# Slope and midpoint of the logistic label.
_WEAK, _MEDIUM, _STRONG = (1 / 3, 7.0), (1 / 6, 15.0), (1 / 12, 24.0)
_NARROW, _WIDE = (0.03, 0.2), (0.05, 0.4)
_GENERAL = dict(
    bounds_y=(0.03, 0.4),
    bounds_x=(0.03, 0.4),
    gamma=(0.05, 0.03),
    resize=(0.7, 1.3),
    max_patches=3,
    background=None,
    min_object_frac=0.7,
    logistic=_MEDIUM,
    clone="normal",
)
_TEXTURE = dict(resize=(0.5, 2.0), max_patches=4, logistic=_WEAK)
# What each preset changes in _GENERAL. Beyond "object" and "texture" they are the
# classes of MVTec AD and the chest radiographs of the public code.
_PRESETS = {
    "object": {},
    "texture": _TEXTURE,
    "carpet": _TEXTURE,
    "grid": _TEXTURE,
    "leather": _TEXTURE,
    "tile": _TEXTURE,
    "wood": _TEXTURE | dict(logistic=_MEDIUM),
    "bottle": dict(background=_BRIGHT, logistic=_STRONG),
    "cable": dict(bounds_y=_WIDE, bounds_x=_WIDE, logistic=_STRONG),
    "capsule": dict(bounds_y=(0.03, 0.15), background=_BRIGHT, logistic=(1 / 2, 4.0)),
    "hazelnut": dict(
        bounds_y=(0.03, 0.35),
        bounds_x=(0.03, 0.35),
        background=_DARK,
        logistic=_STRONG,
    ),
    "metal_nut": dict(background=_DARK, min_object_frac=0.5, logistic=_WEAK),
    "pill": dict(bounds_y=_NARROW, background=_DARK, logistic=_WEAK),
    "screw": dict(
        bounds_y=(0.03, 0.12),
        bounds_x=(0.03, 0.12),
        max_patches=4,
        background=_BRIGHT,
        min_object_frac=0.5,
        logistic=(1.0, 3.0),
    ),
    "toothbrush": dict(bounds_x=_NARROW, background=_DARK, min_object_frac=0.25),
    "transistor": {},
    "zipper": dict(bounds_x=_NARROW, max_patches=4, background=_BRIGHT),
    "chest_xray": dict(
        gamma=(0.03, 0.05),
        background=(0.0, 20.0),
        logistic=(1 / 2, 4.0),
        clone="mixed",
    ),
}
_PRESETTABLE = "; by default the preset's"


@dataclass(frozen=True)
class NsaSettings(Synthesizer):
    """Everything that can be set in `nsa`; ``None`` takes the value of the preset."""

    preset: str = hp(
        "texture",
        "settings for a kind of image or for a class of MVTec AD",
        choices=tuple(_PRESETS),
    )
    bounds_y: tuple[float, float] | None = hp(
        None,
        "smallest and largest half-height of a source patch, and full height of a "
        "pasted one, as fractions of the image's height" + _PRESETTABLE,
        low=0.0,
        high=0.5,
    )
    bounds_x: tuple[float, float] | None = hp(
        None, "the same for widths" + _PRESETTABLE, low=0.0, high=0.5
    )
    gamma: tuple[float, float] | None = hp(
        None,
        "scale and offset of the Gamma distribution, with shape 2, of the half-widths as "
        "fractions of the side" + _PRESETTABLE,
        low=0.0,
        high=1.0,
    )
    resize: tuple[float, float] | None = hp(
        None,
        "range to which the resizing factor, normal around 1, is clipped"
        + _PRESETTABLE,
        low=0.1,
        high=10.0,
    )
    max_patches: int | None = hp(
        None,
        "most patches; each after the first is drawn with probability 1/2"
        + _PRESETTABLE,
        low=1,
        high=16,
    )
    background: tuple[float, float] | None = hp(
        None,
        "gray level of the background and tolerance: other pixels are the object, "
        "unless a foreground is given" + _PRESETTABLE,
        low=0.0,
        high=255.0,
    )
    min_object_frac: float | None = hp(
        None, "least fraction of object in a patch" + _PRESETTABLE, low=0.0, high=1.0
    )
    min_overlap_frac: float = hp(
        0.25,
        "least fraction of the patch's object that must fall on the image's object",
        low=0.0,
        high=1.0,
    )
    tries: int = hp(200, "places tried before a patch is given up", low=1, high=1000)
    clone: str | None = hp(
        None,
        "normal: the patch's gradients; mixed: the stronger ones" + _PRESETTABLE,
        choices=("normal", "mixed"),
    )
    domain: str = hp(
        "box",
        "box: blend in the whole rectangle, as OpenCV does; mask: only on the object, "
        "as in Poisson image editing (slower)",
        choices=("box", "mask"),
    )
    label: str = hp(
        "logistic",
        "what alpha holds: logistic or plain intensity of the change, a binary mask, "
        "or one random factor that also weakens the patch (continuous)",
        choices=("logistic", "intensity", "binary", "continuous"),
    )
    logistic: tuple[float, float] | None = hp(
        None,
        "slope and midpoint, in gray levels, of the logistic label" + _PRESETTABLE,
        low=0.0,
        high=255.0,
    )
    tolerance: float = hp(
        1.0, "gray levels a pixel must change to be labeled", low=0.0, high=255.0
    )
    merge: str = hp(
        "or",
        "labels of overlapping patches: joined, or the later one's",
        choices=("or", "overwrite"),
    )
    exact: bool = hp(
        True,
        "put back changed pixels that are outside the mask; false leaves them, as the "
        "public code does",
    )

    def __post_init__(self):
        super().__post_init__()
        for name in ("bounds_y", "bounds_x", "resize"):
            low, high = getattr(self, name) or (0.0, 0.0)
            if low > high:
                raise SettingError(
                    f"nsa: {name} is {(low, high)}; the first number must not exceed "
                    "the second"
                )

    def setting(self, name: str):
        """The value in force of a setting: the one given, else the preset's."""
        given = getattr(self, name)
        return (_GENERAL | _PRESETS[self.preset])[name] if given is None else given

    def bounds_px(
        self, shape: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Smallest and largest (height, width) in pixels."""
        ranges = zip(
            shape, (self.setting("bounds_y"), self.setting("bounds_x")), strict=True
        )
        pixels = [
            [max(round(frac * side), 1) for frac in pair] for side, pair in ranges
        ]
        return tuple(zip(*pixels, strict=True))
