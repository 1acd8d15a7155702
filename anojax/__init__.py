"""anojax: industrial anomaly synthesis in JAX.

>>> import anojax
>>> synth = anojax.get("destseg")(texture_weight=(0.5, 1.0))
>>> run = anojax.batch(synth)

Names are loaded when they are first used, so that importing anojax costs little.
"""

import importlib

__version__ = "0.1.0"

_EXPORTS = {
    "Bank": "types",
    "Controls": "types",
    "Exemplar": "types",
    "Inputs": "types",
    "Synthesis": "types",
    "Card": "core",
    "Synthesizer": "core",
    "hp": "core",
    "AnojaxError": "errors",
    "batch": "batching",
    "configs": "shipped",
    "evaluate": "api.evaluate",
    "load": "api.load",
    "merge": "api.synthesize",
    "preview": "api.synthesize",
    "show": "api.example",
    "synthesize": "api.synthesize",
    "train": "api.train",
    "verify": "api.synthesize",
    "keep_programs": "compile_cache",
    "cards": "registry",
    "find": "registry",
    "get": "registry",
    "names": "registry",
    "planned": "registry",
    "stream": "random",
}

# For type checkers and editors, which do not run `__getattr__`.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from anojax.api.evaluate import evaluate as evaluate
    from anojax.api.example import show as show
    from anojax.api.load import load as load
    from anojax.api.synthesize import merge as merge
    from anojax.api.synthesize import preview as preview
    from anojax.api.synthesize import synthesize as synthesize
    from anojax.api.synthesize import verify as verify
    from anojax.api.train import train as train
    from anojax.batching import batch as batch
    from anojax.compile_cache import keep_programs as keep_programs
    from anojax.core import Card as Card
    from anojax.core import Synthesizer as Synthesizer
    from anojax.core import hp as hp
    from anojax.errors import AnojaxError as AnojaxError
    from anojax.random import stream as stream
    from anojax.registry import cards as cards
    from anojax.registry import find as find
    from anojax.registry import get as get
    from anojax.registry import names as names
    from anojax.registry import planned as planned
    from anojax.shipped import configs as configs
    from anojax.types import Bank as Bank
    from anojax.types import Controls as Controls
    from anojax.types import Exemplar as Exemplar
    from anojax.types import Inputs as Inputs
    from anojax.types import Synthesis as Synthesis

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'anojax' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"anojax.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
