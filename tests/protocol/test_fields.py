"""Settings whose annotations are strings, as in a file that postpones them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import pytest
from dots import CARD

from anojax.core import Card, Synthesizer, hp
from anojax.errors import SettingError
from anojax.fields import check_fields, field_types
from anojax.ops.blend import local_synthesis
from anojax.optim import Optimizer


@dataclass(frozen=True)
class Postponed(Synthesizer):
    card: ClassVar[Card] = Card(**CARD)
    width: int = hp(3, "in px", low=1)
    range: tuple[float, float] = hp((0.0, 1.0), "of values")
    where: str | None = hp(None, "a folder")
    optimizer: Optimizer = Optimizer()

    def synthesize(self, params, key, inputs):
        return local_synthesis(inputs, inputs.image, jnp.ones((4, 4, 1)))


def test_types_are_those_that_the_strings_name():
    assert Postponed.__annotations__["width"] == "int"
    found = field_types(Postponed)
    assert found["width"] is int and found["range"] == tuple[float, float]
    assert Postponed(width=5, range=(0.5, 2), where="x").width == 5


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"width": 1.5}, "width is 1.5; expected a whole number"),
        ({"range": (2.0, 1.0)}, "the first number must not exceed the second"),
        ({"where": 3}, "where is 3; expected a word or nothing"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; expected"),
    ],
)
def test_values_are_checked(values, words):
    with pytest.raises(SettingError, match=words):
        Postponed(**values)


def test_fields_that_are_left_to_others():
    @dataclass(frozen=True)
    class Loose:
        width: int = 3

    check_fields("loose", Loose("wide"), but=("width",))
    with pytest.raises(SettingError, match="loose: width is 'wide'"):
        check_fields("loose", Loose("wide"))
