"""Which methods there are. A method is a file, or a folder of its name when it outgrows
one: listing imports none, `get` imports one."""

import importlib
import inspect
from collections.abc import Iterable
from functools import cache
from importlib import resources

from anojax.core import Card, Synthesizer, add_finder
from anojax.errors import AnojaxError, UnknownName, did_you_mean

# The taxonomy of the survey (arXiv 2502.16412): paradigm -> family -> methods.
SURVEY: dict[str, dict[str, tuple[str, ...]]] = {
    "handcrafted": {
        "self_contained": ("cutpaste", "nsa", "reb", "simad"),
        "external": ("draem", "destseg", "memseg"),
        "inpainting": ("intra", "i3ad", "riad", "smai", "aminet", "cdo", "rdpp"),
    },
    "distribution": {
        "prior": ("glass", "pbas", "spr", "manifolds"),
        "data_driven": ("simplenet", "uniad", "supersimplenet", "dsr"),
    },
    "generative": {
        "full_image": ("multistage_gan", "con_gan", "dfmgan", "defect_gen"),
        "translation": ("cyclegan", "pix2pix", "attn_cyclegan", "sdgan", "defect_gan"),
        "local": ("realnet", "mask_guided", "dcdgan"),
    },
    "vlm": {
        "single_stage": ("anomalyany", "anomalyxfusion", "cagen", "anomalycontrol"),
        "multi_stage": ("dualanodiff", "defectdiffu", "seas", "anomalydiffusion"),
    },
}


@cache
def _folders() -> dict[str, str]:
    """Name of every method that exists -> the folder (paradigm) that it is in."""
    found = {}
    for paradigm in SURVEY:
        folder = resources.files("anojax") / "methods" / paradigm
        if not folder.is_dir():
            continue
        for entry in folder.iterdir():
            method = entry.name.removesuffix(".py")
            a_folder = entry.is_dir() and (entry / "__init__.py").is_file()
            if not method.startswith("_") and (a_folder or method != entry.name):
                found[method] = paradigm
    return found


def names() -> tuple[str, ...]:
    """The methods that work, in the order of the survey.

    Example:
      >>> "draem" in names()
      True
    """
    order = [m for families in SURVEY.values() for ms in families.values() for m in ms]
    return tuple(sorted(_folders(), key=lambda n: (n not in order, _index(order, n))))


def _index(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def planned() -> tuple[str, ...]:
    """The methods of the survey that do not work yet.

    Example:
      >>> set(planned()) & set(names())
      set()
    """
    every = (m for fams in SURVEY.values() for ms in fams.values() for m in ms)
    return tuple(m for m in every if m not in _folders())


@cache
def get(name: str) -> type[Synthesizer]:
    """The Synthesizer class of a method.

    Raises:
      UnknownName: there is no such method (with the nearest match), or it is planned.
      AnojaxError: a module does not define exactly one method.

    Example:
      >>> get("destseg").card.needs
      ('texture',)
      >>> get("destseg")(texture_weight=(0.5, 1.0)).texture_weight
      (0.5, 1.0)
    """
    if name not in _folders():
        if name in planned():
            raise UnknownName(
                f"method '{name}' is planned and not implemented yet; "
                f"available: {', '.join(names())}"
            )
        raise UnknownName(f"no method '{name}'{did_you_mean(name, names())}")
    module = importlib.import_module(f"anojax.methods.{_folders()[name]}.{name}")
    own = [
        value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Synthesizer)
        and not inspect.isabstract(value)
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
        and not key.startswith("_")
    ]
    if len(own) != 1:
        raise AnojaxError(
            f"{module.__name__} must define exactly one public Synthesizer, "
            f"it defines {len(own)}"
        )
    return own[0]


def cards() -> dict[str, Card]:
    """The cards of all methods that work.

    Example:
      >>> cards()["draem"].venue, cards()["draem"].year
      ('ICCV', 2021)
    """
    return {name: get(name).card for name in names()}


def untrained() -> tuple[str, ...]:
    """Names of the methods that synthesize images at once, without a training run and
    without weights from elsewhere.

    Example:
      >>> "cutpaste" in untrained(), "realnet" in untrained()
      (True, False)
    """
    found = ((name, get(name)()) for name in names())
    return tuple(n for n, s in found if s.shows and not (s.learns or s.components()))


def find(
    *,
    paradigm: str | None = None,
    family: str | None = None,
    level: str | None = None,
    needs: str | Iterable[str] = (),
    lacks: str | Iterable[str] = (),
    controls: str | Iterable[str] = (),
    license: str | None = None,
    shows: bool | None = None,
) -> tuple[str, ...]:
    """Names of the methods whose cards fit everything that is requested.

    Args:
      paradigm: as in `SURVEY`.
      family: as in `SURVEY`.
      level: what the method changes: ``"image"``, ``"full_image"`` or ``"feature"``.
      needs: inputs that the method must use.
      lacks: inputs that the method must do without.
      controls: controls that the method must support.
      license: license of the public code, for instance ``"MIT"``.
      shows: whether there is an image to look at.

    Example:
      >>> "destseg" in find(needs="texture", controls="severity")
      True
    """
    needs, lacks, controls = map(_as_set, (needs, lacks, controls))
    return tuple(
        name
        for name, card in cards().items()
        if paradigm in (None, card.paradigm)
        and family in (None, card.family)
        and level in (None, card.level)
        and shows in (None, get(name)().shows)
        and license in (None, card.code_license)
        and needs <= set(card.needs)
        and not lacks & set(card.needs)
        and controls <= set(card.controls)
    )


def _as_set(value: str | Iterable[str]) -> set[str]:
    return {value} if isinstance(value, str) else set(value)


add_finder(find)
