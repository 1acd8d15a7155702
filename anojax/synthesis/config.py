"""The request of a run of synthesis; the schema of its `config.yaml`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from anojax.config import from_dict, nest
from anojax.data.config import DataConfig
from anojax.data.fit import FITS
from anojax.errors import SettingError, UnknownName, did_you_mean
from anojax.fields import check_fields, hp

Range = tuple[float, float]
"""From, to: drawn anew for every image."""
ANNOTATIONS = ("coco", "yolo")
RANGED = ("severity", "area", "defects", "aspect", "angle_deg")

REQUESTED = {"count": "defects", "angle": "angle_deg"}
"""Controls whose names in a request are others than in `anojax.Controls`."""


@dataclasses.dataclass(frozen=True)
class SynthConfig:
    """Everything that decides the pixels of a run."""

    data: DataConfig = DataConfig()
    methods: tuple[str, ...] = hp((), "methods to use")
    seed: int = hp(0, "seed of the run", low=0, high=2**63 - 1)
    mix: dict[str, Any] | str = dataclasses.field(default_factory=dict)
    """Methods by weight: each image is made by one of them, and not by all. Text is
    read as on the command line, ``draem=2,nsa=1``."""
    per_image: int = hp(
        1, "images per normal image, for each method; in all with --mix", low=1
    )
    count: int | None = hp(
        None,
        "images per method, going round the normal images; in all with --mix",
        low=1,
    )
    severity: float | Range | None = hp(
        None, "opacity of the defect; 0 changes nothing", low=0.0, high=1.0
    )
    area: float | Range | None = hp(
        None, "size of the defect, as a fraction of the foreground", low=1e-6, high=1.0
    )
    defects: int | tuple[int, int] | None = hp(
        None, "number of defects per image", low=1
    )
    aspect: float | Range | None = hp(
        None, "width of a defect divided by its height", low=0.01, high=100.0
    )
    angle_deg: float | Range | None = hp(
        None,
        "rotation of the defect in degrees, counter-clockwise",
        low=-360.0,
        high=360.0,
    )
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Hyper-parameters by method, those that differ from the defaults."""
    checkpoint: str | None = hp(
        None,
        "training run whose method synthesizes with what it has learned; several stages "
        "with commas between them",
    )
    components: dict[str, str] = dataclasses.field(default_factory=dict)
    """Pretrained networks: a file for each, or ``random``."""
    fit: str = hp(
        "stretch",
        "how images of other proportions come to the size: stretched; padded, edges "
        "repeated; or cropped in the middle",
        choices=FITS,
    )
    mm_per_pixel: float | None = hp(
        None,
        "side of a pixel of the files in mm, for areas and boxes in mm beside those in "
        "pixels",
        low=1e-9,
        high=1e6,
    )
    native: bool = hp(False, "write at each image's own resolution and bit depth")
    min_contrast: float = hp(
        1.0,
        "least mean change under a mask, in gray levels of 255; fainter images are "
        "drawn again, and left out in the end",
        low=0.0,
        high=255.0,
    )
    train_share: float = hp(
        0.0,
        "share of the normal images that is for training: in train/good, and no defect "
        "is made from them; the seed and the order of names decide",
        low=0.0,
        high=1.0,
    )
    normal_share: float = hp(
        0.0,
        "share of the normal images outside that part that stays clean, in test/good; "
        "no defect is made from them",
        low=0.0,
        high=1.0,
    )
    keep_empty: bool = hp(False, "keep draws without a defect instead of redrawing")
    format: str = hp("mvtec", "layout of the output", choices=("mvtec", "tfds"))
    annotations: tuple[str, ...] = hp(
        (), "further files about the masks, in MVTec AD layout: coco, yolo"
    )

    def __post_init__(self):
        check_fields("synth", self, but=("data", "mix", "settings", "components"))
        self._check_mix()
        if self.data.precomputed is not None:
            raise SettingError(
                "data.precomputed is for training, and synthesis makes new anomalies; leave "
                "it out"
            )
        if self.fit != "stretch" and self.data.exemplars is not None:
            raise SettingError(
                f"real defects (data.exemplars) are stretched to the size, and fit is "
                f"{self.fit}; leave one of them out"
            )
        for name in self.annotations:
            if name not in ANNOTATIONS:
                known = (*ANNOTATIONS, "mvtec", "tfds")
                raise UnknownName(f"no format '{name}'{did_you_mean(name, known)}")
        if self.annotations and self.format != "mvtec":
            names = " and ".join(self.annotations)
            raise SettingError(
                f"format {names} goes with the images of mvtec; leave tfds out"
            )
        if self.split and self.format != "mvtec":
            raise SettingError(
                "train_share and normal_share are about the folders of format mvtec; "
                "leave tfds out"
            )
        for name in RANGED:
            value = getattr(self, name)
            if isinstance(value, tuple) and value[0] > value[1]:
                raise SettingError(
                    f"{name} is {value[0]:g}:{value[1]:g}; the first number must not "
                    "exceed the second"
                )

    @property
    def split(self) -> bool:
        """Whether some normal images are in parts that no defect is made from."""
        return self.train_share > 0 or self.normal_share > 0

    @property
    def weights(self) -> dict[str, float]:
        """Of the methods, in their order; empty where each makes all images."""
        return dict(self.mix) if isinstance(self.mix, Mapping) else parse_mix(self.mix)

    def _check_mix(self) -> None:
        """Weights are numbers above 0, of the methods that are used and of all."""
        if not isinstance(self.mix, Mapping | str):
            raise SettingError(f"mix is {self.mix!r}; give method: weight")
        given = self.weights
        for name, weight in given.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not (number and 0 < weight < math.inf):
                raise SettingError(
                    f"mix gives {name} the weight {weight!r}; give a number above 0"
                )
        mix = {str(name): float(weight) for name, weight in given.items()}
        if mix and not self.methods:
            object.__setattr__(self, "methods", tuple(mix))
        if mix and set(mix) != set(self.methods):
            raise SettingError(
                f"mix is about {', '.join(mix)}, and the methods are "
                f"{', '.join(self.methods)}; give a weight to each of them"
            )
        # In the order of the methods, so that equal requests are equal.
        ordered = {name: mix[name] for name in self.methods} if mix else {}
        object.__setattr__(self, "mix", ordered)

    def controls(self) -> dict[str, float | Range]:
        """The controls that are requested, by their names in `anojax.Controls`: a value,
        or a range to draw from."""
        requested = {
            "severity": self.severity,
            "area": self.area,
            "count": self.defects,
            "aspect": self.aspect,
            "angle": self.angle_deg,
        }
        unit = {"angle": math.radians}

        def plain(name, value):
            if isinstance(value, tuple):
                return tuple(plain(name, each) for each in value)
            return float(unit.get(name, float)(value))

        return {k: plain(k, v) for k, v in requested.items() if v is not None}


def parse_mix(text: str) -> dict[str, float]:
    """``"draem=2,nsa=1"`` -> methods and their weights.

    Raises:
      SettingError: it is not of that form, or a method stands twice.

    >>> parse_mix("draem=2,nsa=1")
    {'draem': 2.0, 'nsa': 1.0}
    """
    mix = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            number = float(weight)
        except ValueError:
            raise SettingError(
                f"mix is '{text}'; write METHOD=WEIGHT,METHOD=WEIGHT, for instance "
                "draem=2,nsa=1"
            ) from None
        if name.strip() in mix:
            raise SettingError(f"mix is '{text}'; give each method once")
        mix[name.strip()] = number
    return mix


def from_request(request: Mapping[str, Any]) -> SynthConfig:
    """The `request:` of a run's `config.yaml`, also of a run of version 0.1.0: its block
    had no `data`, files had 16 bits, and of several frames the first was taken.

    Raises:
      AnojaxError: a key or value that this version does not know.
    """
    if "data" not in request:
        request = nest(SynthConfig, {"bits": 16, "frames": "first"} | dict(request))
        settings = dict(request.get("settings") or {})
        if "simad" in settings:
            settings["simad"] = renamed_settings("simad", settings["simad"])
        request = {**request, "settings": settings}
    return from_dict(SynthConfig, request)


def renamed_settings(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a method as a run of version 0.1.0 recorded them, by today's names."""
    if method != "simad" or not isinstance(given.get("colour"), list | tuple):
        return dict(given)
    kinds = ["grayscale" if k == "greyscale" else k for k in given["colour"]]
    return {"color" if k == "colour" else k: v for k, v in given.items()} | {
        "color": kinds
    }
