"""What a method needs beyond the normal image: one bank of everything it draws from."""

from collections.abc import Callable, Iterable

import jax

from anojax.core import Synthesizer
from anojax.errors import MissingInput, SettingError
from anojax.types import Bank, PyTree

DRAWN = ("texture", "normal", "exemplar")
"""Needs for which a data set has images that each example draws from."""


def bank_for(
    needs: Iterable[str], of: Callable[[str, int], Bank], channels: int
) -> Bank | None:
    """One bank with all that these needs draw from; ``None`` where nothing is drawn.

    Args:
      needs: of a method.
      of: the bank of one need of `DRAWN`, for images of so many channels.
      channels: of the images.

    Raises:
      SettingError: textures and normal images are needed at once, which are both the
        source of a defect.
      DataError: what is drawn from cannot be read.

    >>> import numpy as np
    >>> bank_for(("label",), lambda need, channels: Bank(np.zeros((1, 8, 8, 1))), 1)
    """
    drawn = [need for need in DRAWN if need in set(needs)]
    if "texture" in drawn and "normal" in drawn:
        raise SettingError(
            "a method cannot need a texture and another normal image at once: both "
            "would be its source"
        )
    whole = Bank()
    for need in drawn:
        part = of(need, channels)
        found = {k: v for k, v in vars(part).items() if v is not None}
        whole = whole.replace(**found)
    return whole if drawn else None


def with_prompts(
    bank: Bank | None, synth: Synthesizer, params: PyTree, prompts: tuple[str, ...]
) -> Bank | None:
    """The bank with the encoded prompts, of which each example draws one.

    Every distinct prompt is encoded once, whatever the number of examples.

    Args:
      bank: what else is drawn from.
      synth: encodes, if it needs text.
      params: of the synthesizer.
      prompts: in words; repeated ones are drawn more often.

    Raises:
      MissingInput: the method needs text, and there are no prompts.
      UnsupportedInput: there are prompts, and the method takes none.
    """
    if not prompts:
        if "text" in synth.needs:
            raise MissingInput(f"{synth.name} needs a prompt; give at least one")
        return bank
    distinct = tuple(dict.fromkeys(prompts))
    encoded = synth.encode_text(params, distinct)
    places = [distinct.index(prompt) for prompt in prompts]
    rows = jax.numpy.stack([encoded[i] for i in places])
    return (Bank() if bank is None else bank).replace(texts=rows)
