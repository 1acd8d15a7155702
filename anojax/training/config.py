"""The request of a training run; the schema of ``configs/train/*.yaml``.

Defaults live here and in the methods' files; YAML holds only the differences.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anojax.config import from_dict
from anojax.data.config import DataConfig
from anojax.errors import SettingError
from anojax.evaluation.detection import MEASURES
from anojax.fields import check_fields, hp
from anojax.training.durations import to_steps
from anojax.training.loop import Timetable
from anojax.training.parallel import MeshJit, Pmap, Rules, Strategy


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what is learned, and how the run behaves."""

    method: str = hp("", "method to train (see 'anojax list')")
    stage: str | None = hp(
        None, "stage of training, of those that 'anojax show' lists; none: the first"
    )
    data: DataConfig = DataConfig()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of the synthesizer, those that differ from the method's own."""
    task: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of the task: networks, losses, optimizer."""
    components: dict[str, str] = dataclasses.field(default_factory=dict)
    """Networks that come trained from elsewhere: a file or a training run of each."""
    length: int | str = hp("100 epochs", "steps, epochs or examples to train")
    batch_size: int = hp(8, "images per step, of all devices together", low=1)
    seed: int = hp(
        0, "seed of the images, the networks and their order", low=0, high=2**32 - 1
    )
    strategy: str = hp("pmap", "how devices share the work", choices=("pmap", "jit"))
    model_devices: int = hp(1, "devices that share one network; for jit", low=1)
    sharding: Rules = hp(
        (), "(expression, mesh axes) of parameters that devices divide; for jit"
    )
    steps_per_call: int = hp(
        1,
        "updates in one compiled call; leave it at 1 on a CPU, which gains nothing and "
        "compiles each of them",
        low=1,
    )
    log_every: int | str = hp(50, "interval between two lines of the log")
    save_every: int | str = hp("10 %", "interval between two checkpoints")
    eval_every: int | str | None = hp(
        None, "interval between two evaluations on the test split; none: no evaluation"
    )
    keep_best: str | None = hp(
        None, "measure whose best checkpoint is kept too", choices=tuple(MEASURES)
    )
    keep_last: int = hp(1, "newest checkpoints to keep", low=1)
    sample_every: int | str | None = hp(
        None,
        "interval between two sheets of samples, for methods that learn to generate; none: off",
    )
    samples: int = hp(16, "images on a sheet of samples", low=1)
    resume: str | None = hp(None, "run whose checkpoint goes on here")
    init_from: str | None = hp(None, "run whose networks are the beginning")
    tensorboard: bool = hp(False, "write TensorBoard files too")
    profile: tuple[int, int] | None = hp(None, "first and last step to trace", low=0)

    def __post_init__(self):
        check_fields("train", self, but=("data", "settings", "task", "components"))
        if self.strategy == "pmap" and (self.sharding or self.model_devices > 1):
            raise SettingError(
                "sharding and model_devices divide a network, which pmap copies; "
                "use strategy: jit"
            )
        if self.keep_best is not None and self.eval_every is None:
            raise SettingError("keep_best needs an evaluation; add eval_every")
        if self.resume is not None and self.init_from is not None:
            raise SettingError("give either resume or init_from, not both")

    def timetable(self, images: int) -> Timetable:
        """The durations in steps, for an epoch of that many images."""
        unit = {"batch_size": self.batch_size, "images": images}
        k = self.steps_per_call
        total = to_steps(self.length, what="length", **unit)
        total = -(-total // k) * k  # whole calls
        within = {
            name: to_steps(getattr(self, name), total=total, what=name, **unit)
            for name in ("log_every", "save_every", "eval_every", "sample_every")
            if getattr(self, name) is not None
        }
        return Timetable(
            steps=total,
            steps_per_call=k,
            profile=self.profile,
            **{name: -(-steps // k) * k for name, steps in within.items()},
        )

    def make_strategy(self, devices: list | None = None) -> Strategy:
        """The strategy over these devices; all of them by default."""
        if self.strategy == "pmap":
            return Pmap(devices)
        return MeshJit(self.model_devices, self.sharding, devices)


def from_request(request: Mapping[str, Any]) -> TrainConfig:
    """The `request:` of a run's `config.yaml`, also of a run of version 0.1.0, which calls
    components parts and precomputed anomalies ready.

    Raises:
      AnojaxError: a key or value that this version does not know.
    """
    values = _renamed(request, parts="components")
    if isinstance(values.get("data"), Mapping):
        values["data"] = _renamed(values["data"], ready="precomputed")
    return from_dict(TrainConfig, values)


def _renamed(values: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


# What may change when a run goes on: none of it decides what is learned.
HARMLESS = (
    "length",
    "log_every",
    "save_every",
    "eval_every",
    "keep_best",
    "keep_last",
    "sample_every",
    "samples",
    "resume",
    "init_from",
    "tensorboard",
    "profile",
    "strategy",
    "model_devices",
    "sharding",
    "steps_per_call",
)
