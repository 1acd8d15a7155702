"""Networks that a method starts with and does not train itself."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Component:
    """Where one of the networks of a Synthesizer or a Task comes from.

    A Synthesizer names the entries of its parameters that come from elsewhere, a Task
    those of `TrainState.frozen`. How they are found and read is no matter of theirs.

    >>> Component("backbone", "resnet18")
    Component(kind='backbone', source='resnet18')
    """

    kind: Literal["backbone", "run"]
    """Pretrained weights of a known network, or what a training run of the same method
    learned."""
    source: str
    """The network's name, or the stage of that run."""
