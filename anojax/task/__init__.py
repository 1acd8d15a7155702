"""The protocol of training: what a trainable method adds to its Synthesizer.

A method's file may define one public `Task` beside its Synthesizer, and a `Detector`
where its paper ends in one. A Task is pure: it never asks how many devices there are.
What devices know together is handed to it as `reduce`; parallelism lives elsewhere.

Everything random about an example derives from the run's key and the example's id, so
a training step gives the same result on one device and on eight, and an image inside
the step is the image that `anojax synth` writes for that seed and id.
"""

from anojax.component import Component
from anojax.task.adversarial import AdversarialTask, Player, Update
from anojax.task.base import Context, Task
from anojax.task.gradient import GradientTask
from anojax.task.lookup import get, stages
from anojax.task.state import Examples, Metrics, Reduce, TrainState

__all__ = [
    "AdversarialTask",
    "Component",
    "Context",
    "Examples",
    "GradientTask",
    "Metrics",
    "Player",
    "Reduce",
    "Task",
    "TrainState",
    "Update",
    "get",
    "stages",
]
