"""The protocol: what every synthesis method is, and what it says about itself."""

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import jax
from jaxtyping import Array, Float, Key

from anojax.arrays import as_inputs, as_key
from anojax.component import Component
from anojax.errors import (
    MissingInput,
    UnknownName,
    UnsupportedControl,
    UnsupportedInput,
    did_you_mean,
)
from anojax.fields import check_fields, check_names, hp
from anojax.types import Controls, Inputs, PyTree, Synthesis

__all__ = [
    "CONTROLS",
    "FIDELITY",
    "NEEDS",
    "Card",
    "Component",
    "Layered",
    "Synthesizer",
    "add_finder",
    "hp",
    "method_of",
    "settings",
    "with_settings",
]

Paradigm = Literal["handcrafted", "distribution", "generative", "vlm"]
Level = Literal["image", "feature", "full_image"]
Fidelity = Literal["vectors", "statistics", "formulas", "adapted"]
CONTROLS = tuple(f.name for f in dataclasses.fields(Controls))

NEEDS = {
    "texture": "a texture as `source` (a texture bank)",
    "normal": "another normal image as `source` (a bank of normal images)",
    "exemplar": "a real defect with its mask as `exemplar`",
    "label": "a class as `label`: a defect or a category",
    "text": "an encoded prompt as `text`",
    "features": "features of the image as `features`",
}
_FIELD_OF_NEED = {"texture": "source", "normal": "source"}

FIDELITY = {
    "vectors": "equals stored reference vectors",
    "statistics": "same distribution as the public code",
    "formulas": "follows the paper's formulas",
    "adapted": "adapted; details of the paper are unknown or changed",
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a method says about itself. Everything shown to users derives from it."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    paradigm: Paradigm
    family: str
    level: Level
    """What the method changes: an image in places, features, or a whole image."""
    decodes: bool = False
    """Of level "feature": whether its anomalies are also decoded to images."""
    needs: tuple[str, ...] = ()
    """Keys of `NEEDS`, beyond the normal image itself."""
    controls: tuple[str, ...] = ("severity",)
    """Names of the `Controls` that the method supports."""
    mask: Literal["changed", "area"] = "changed"
    """What the mask of a written image holds: exactly the pixels that changed, or the
    area in which the method worked, where pixels may have kept their value."""
    purpose: Literal["defect", "probe"] = "defect"
    """What the anomalies are: defects, or a disturbance that a detector takes back and
    that nobody would believe as a defect: faint noise, removed parts."""
    code_url: str | None = None
    """The public code whose behavior was studied; none of it is used here."""
    code_license: str | None = None
    fidelity: Fidelity = "formulas"
    differences: tuple[str, ...] = ()
    """Known departures from the paper or its code, one sentence each."""
    unverified: tuple[str, ...] = ()
    """Values that could not be checked against the source, one sentence each."""


def method_of(module: str) -> str:
    """The name of the method that a module belongs to.

    That of its file, or of its folder if the method has one:

    >>> method_of("anojax.methods.handcrafted.draem")
    'draem'
    >>> method_of("anojax.methods.generative.realnet.classifier")
    'realnet'
    """
    parts = module.split(".")
    below = parts[3:] if parts[:2] == ["anojax", "methods"] else []
    return below[0] if below else parts[-1]


@dataclass(frozen=True)
class Synthesizer(abc.ABC):
    """A method that turns a normal image into an anomalous one.

    Concrete classes are final frozen dataclasses whose fields are `hp`; being equal by
    value, equal settings share one compilation. They implement `synthesize`; callers
    use `init` and `apply`.
    """

    card: ClassVar[Card]

    def __new__(cls, *args, **settings):
        check_names(method_of(cls.__module__), cls, settings)
        return super().__new__(cls)

    def __post_init__(self):
        check_fields(self.name, self)

    @property
    def name(self) -> str:
        """The name in the registry, from which the keys derive: that of the method's
        file or folder."""
        return method_of(type(self).__module__)

    @property
    def needs(self) -> tuple[str, ...]:
        """What these settings need; a method may need less than its card."""
        return self.card.needs

    def components(self) -> dict[str, Component]:
        """Where the entries of the parameters come from, by name, as these settings
        need them. Without any, all of what `init` makes comes from one training run.
        """
        return {}

    @property
    def learns(self) -> bool:
        """Whether these settings synthesize with parameters that a training run must
        give: those of a method with an `init` of its own, unless it says otherwise, or
        has components and none of them comes from a run."""
        if found := self.components():
            return any(one.kind == "run" for one in found.values())
        return type(self).init is not Synthesizer.init

    @property
    def pretrained(self) -> dict[str, Component]:
        """The components that come from elsewhere than a training run."""
        return {n: one for n, one in self.components().items() if one.kind != "run"}

    @property
    def shows(self) -> bool:
        """Whether there is an image to look at and to write."""
        return self.card.level != "feature" or self.card.decodes

    def init(self, key: Key[Array, ""], inputs: Inputs) -> PyTree:
        """Parameters of the method; ``{}`` unless it learns."""
        del key, inputs
        return {}

    def extract(self, params: PyTree, image: Float[Array, "h w c"]) -> PyTree:
        """Features of an image, for a method that needs ``"features"`` and has networks
        to find them; then `Inputs.image` will do in their place.

        Args:
          params: of the method.
          image: in [0, 1].

        Returns:
          What `Inputs.features` is to be: an array ``[h, w, D]`` or a tree of arrays.

        Raises:
          MissingInput: the method has no such networks.
        """
        del params, image
        raise MissingInput(f"{self.name} needs {NEEDS['features']}")

    def encode_text(
        self, params: PyTree, prompts: tuple[str, ...]
    ) -> Float[Array, "p t d"]:
        """Prompts as `Inputs.text` wants them, all of one length. Runs on the host, once
        for each distinct prompt, outside the batch.

        Args:
          params: of the method.
          prompts: different from each other.

        Raises:
          UnsupportedInput: the method takes no prompts.
        """
        del params, prompts
        raise UnsupportedInput(
            f"{self.name} takes no prompts{_able('do', needs='text')}"
        )

    @final
    def apply(self, params: PyTree, key: Any, inputs: Any) -> Synthesis:
        """Synthesize one anomaly: pure, one example, static shapes.

        Args:
          params: what `init` gives; nothing for hand-crafted methods.
          key: a key, or an integer seed: then the result is example 0 of a run with it.
          inputs: `Inputs`, or the normal image alone. Images are uint8 or floats in
            [0, 1], H x W or H x W x C, of NumPy or JAX.

        >>> import anojax, numpy as np
        >>> image = np.full((32, 32, 3), 128, np.uint8)
        >>> out = anojax.get("cutpaste")().apply({}, 0, image)
        >>> out.image.shape, out.mask.shape
        ((32, 32, 3), (32, 32, 1))

        Raises:
          DataError: an array that is no image.
          MissingInput: the method needs something that `inputs` lacks.
          UnsupportedControl: a control is given that the method cannot support.
          UnsupportedInput: a region is given to a method that makes whole images.
        """
        inputs = as_inputs(inputs)
        self.check(inputs)
        key = as_key(key, self.name)
        with jax.named_scope(self.name):
            if "features" in self.needs and inputs.features is None:
                found = self.extract(params, inputs.image)
                inputs = inputs.replace(features=found)
            return self.synthesize(params, key, inputs)

    @abc.abstractmethod
    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        """The method itself; `inputs` has what the card needs."""

    @property
    def _extracts(self) -> bool:
        return type(self).extract is not Synthesizer.extract

    @final
    def check_shown(self) -> None:
        """Refuse to show or to write what is no image.

        Raises:
          UnsupportedInput: the method changes features and nothing decodes them.
        """
        if not self.shows:
            raise UnsupportedInput(
                f"{self.name} changes features, which are no image to show or to write; "
                f"train its detector (anojax train)"
                f"{_able('make images', shows=True)}"
            )

    @final
    def check(self, inputs: Inputs) -> None:
        """Raise unless the method can work on inputs of this structure.

        Raises:
          MissingInput: an input that the method needs is absent.
          UnsupportedInput: a region that the method cannot keep.
          UnsupportedControl: a control that the method does not have.
        """
        if inputs.image is None and self.card.level != "feature":
            raise MissingInput(f"{self.name} needs a normal image as `image`")
        finds = inputs.image is not None and self._extracts
        for need in self.needs:
            if need == "features" and finds:
                continue
            if getattr(inputs, _FIELD_OF_NEED.get(need, need)) is None:
                able = _able("do without", lacks=need)
                raise MissingInput(f"{self.name} needs {NEEDS[need]}{able}")
        if self.card.level == "full_image" and inputs.region is not None:
            raise UnsupportedInput(
                f"{self.name} makes whole images and cannot keep a defect within a "
                f"region{_able('can', level='image')}"
            )
        for control in CONTROLS:
            requested = getattr(inputs.controls, control) is not None
            if requested and control not in self.card.controls:
                able = _able("have", controls=control)
                raise UnsupportedControl(
                    f"{self.name} has no control over '{control}'{able}"
                )


_finders: list[Callable[..., tuple[str, ...]]] = []


def add_finder(find: Callable[..., tuple[str, ...]]) -> None:
    """Take what looks up methods by what they can do, for the messages about what one
    of them cannot. The registry, which is above this module, brings it when it is
    imported.
    """
    _finders[:] = [find]


def _able(words: str, **wanted: Any) -> str:
    """Which methods can; nothing where no registry is in use."""
    if not _finders:
        return ""
    return f"; methods that {words}: {', '.join(_finders[0](**wanted)) or 'none'}"


@dataclass(frozen=True)
class Layered(Synthesizer):
    """A local method whose shape and source are drawn apart from each other.

    Concrete classes implement `shape` and `generate`; then either can be exchanged for
    another method's (`anojax.compose`), and the other keeps its draws.
    """

    @abc.abstractmethod
    def shape(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Float[Array, "h w 1"]:
        """Where the defect is: 0 or 1. Draws from the stream ``"shape"``."""

    @abc.abstractmethod
    def generate(
        self,
        params: PyTree,
        key: Key[Array, ""],
        inputs: Inputs,
        mask: Float[Array, "h w 1"],
    ) -> Synthesis:
        """The anomaly in a given shape. Draws from any stream but ``"shape"``.

        Args:
          params: of the method; `{}` if it learns nothing.
          key: of this example.
          inputs: what the method needs.
          mask: where the defect is, ``[H, W, 1]``, 0 or 1, of `shape`.
        """

    @final
    def synthesize(
        self, params: PyTree, key: Key[Array, ""], inputs: Inputs
    ) -> Synthesis:
        return self.generate(params, key, inputs, self.shape(params, key, inputs))


def settings(synth: Synthesizer) -> dict[str, Any]:
    """The hyper-parameters of a synthesizer as a plain dictionary.

    Example:
      >>> import anojax
      >>> settings(anojax.get("destseg")())["texture_weight"]
      (0.2, 1.0)
    """
    return {f.name: getattr(synth, f.name) for f in dataclasses.fields(synth)}


def with_settings(synth: Synthesizer, **changes: Any) -> Synthesizer:
    """A copy with other hyper-parameters; unknown names raise `UnknownName`.

    Raises:
      UnknownName: the method has no such setting.

    Example:
      >>> import anojax
      >>> synth = anojax.get("destseg")()
      >>> with_settings(synth, texture_weight=(0.5, 1.0)).texture_weight
      (0.5, 1.0)
    """
    known = {f.name for f in dataclasses.fields(synth)}
    for name in changes:
        if name not in known:
            raise UnknownName(
                f"{synth.name} has no setting '{name}'{did_you_mean(name, known)}"
            )
    return dataclasses.replace(synth, **changes)
