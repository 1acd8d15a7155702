"""Two small methods that compile at once, and a program that knows only them."""

import sys
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from anojax import registry
from anojax.core import Card, Synthesizer, hp
from anojax.errors import UnknownName, did_you_mean
from anojax.ops.blend import local_synthesis

PAPER = {
    "title": "A paper",
    "authors": "Someone",
    "venue": "Somewhere",
    "year": 2026,
    "url": "https://example.org",
    "paradigm": "handcrafted",
    "level": "image",
}


def square(key, image, side):
    h, w, _ = image.shape
    where = jax.random.uniform(key, (2,))
    y, x = jnp.arange(h), jnp.arange(w)
    room = jnp.array([h - side, w - side], jnp.float32)
    row, column = (where * room).astype(jnp.int32)
    rows, columns = (y >= row) & (y < row + side), (x >= column) & (x < column + side)
    return (rows[:, None] & columns[None]).astype(jnp.float32)[..., None]


@dataclass(frozen=True)
class Spot(Synthesizer):
    """A bright square; a share of the draws is empty."""

    card: ClassVar[Card] = Card(family="self_contained", **PAPER)
    name = "spot"
    side: int = hp(6, "side in pixels", low=1, high=12)
    empty: float = hp(0.0, "share of empty draws", low=0.0, high=1.0)
    level: tuple[float, float] = hp((0.8, 1.0), "brightness", low=0.0, high=1.0)

    def synthesize(self, params, key, inputs):
        shape, level, draw = jax.random.split(key, 3)
        mask = square(shape, inputs.image, self.side)
        mask = mask * (jax.random.uniform(draw) >= self.empty).astype(jnp.float32)
        low, high = self.level
        value = jax.random.uniform(level, minval=low, maxval=high)
        return local_synthesis(inputs, jnp.full_like(inputs.image, value), mask)


@dataclass(frozen=True)
class Weave(Synthesizer):
    """A square of texture."""

    card: ClassVar[Card] = Card(
        family="external", needs=("texture",), controls=("severity", "area"), **PAPER
    )
    name = "weave"
    side: int = hp(5, "side in pixels", low=1, high=12)

    def synthesize(self, params, key, inputs):
        return local_synthesis(
            inputs, inputs.source, square(key, inputs.image, self.side)
        )


METHODS = {"spot": Spot, "weave": Weave}


def get(name):
    if name not in METHODS:
        raise UnknownName(f"no method '{name}'{did_you_mean(name, METHODS)}")
    return METHODS[name]


REPLACED = {
    "get": get,
    "names": lambda: tuple(METHODS),
    "cards": lambda: {name: method.card for name, method in METHODS.items()},
}


def program():
    """`anojax` with these methods, for a process of its own."""
    for name, value in REPLACED.items():
        setattr(registry, name, value)
    from anojax.cli.__main__ import main

    sys.exit(main())
