"""A method without networks and images of 16 pixels, for tasks that need no more."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from anojax.core import Card, Synthesizer
from anojax.data.stream import InMemory
from anojax.ops.blend import local_synthesis
from anojax.types import Inputs

CARD = {
    "title": "-",
    "authors": "-",
    "venue": "-",
    "year": 2026,
    "url": "-",
    "paradigm": "generative",
    "family": "full_image",
    "level": "image",
}


@dataclass(frozen=True)
class Dot(Synthesizer):
    """Inverts one pixel."""

    card: ClassVar[Card] = Card(**CARD)

    def synthesize(self, params, key, inputs):
        mask = jnp.zeros((*inputs.image.shape[:2], 1)).at[0, 0].set(1.0)
        return local_synthesis(inputs, 1 - inputs.image, mask)


DOT = Dot()


def source(count: int) -> InMemory:
    """Images ``[count, 4, 4, 1]``."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1), np.uint8)
    return InMemory(Inputs(image=pixels))
