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

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'anojax' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"anojax.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
