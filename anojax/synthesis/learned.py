"""Synthesizers that learn, with the parameters of a training run."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from anojax import task as tasks
from anojax.builders import make_synthesizer
from anojax.core import Card, Synthesizer
from anojax.data.categories import Categories, listed_in
from anojax.environment import start_devices
from anojax.errors import CheckpointError, DataError, SettingError
from anojax.synthesis.config import SynthConfig
from anojax.training.checkpoint import arrange, load_params
from anojax.training.trained import load_run
from anojax.types import Inputs, PyTree, Synthesis


@dataclass(frozen=True)
class Parameters:
    """What a Synthesizer has learned in a training run; equal where the content is."""

    method: str
    step: int
    """Updates that it took."""
    config: str
    """Hash of the training run's configuration."""
    sha256: str
    """Of names, shapes and bytes."""
    folder: Path = dataclasses.field(compare=False)
    """Of the training run."""
    stage: str = dataclasses.field(compare=False)
    """Which training of the method it was."""
    categories: Categories | None = dataclasses.field(compare=False)
    """What the network tells apart."""
    arrays: dict[str, np.ndarray] = dataclasses.field(compare=False, repr=False)
    """By name."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a run of `anojax synth` notes, to know them again."""
        named = {"method": self.method, "step": self.step}
        return named | {"config": self.config, "sha256": self.sha256}


@dataclass(frozen=True)
class Learned(Synthesizer):
    """A synthesizer whose `init` gives what it has learned.

    It is as hashable as its parts: parameters enter compiled programs as arguments.
    """

    base: Synthesizer
    parameters: Parameters

    @property
    def card(self) -> Card:  # type: ignore[override]
        return self.base.card

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def needs(self) -> tuple[str, ...]:
        return self.base.needs

    @property
    def _extracts(self) -> bool:
        return self.base._extracts

    def components(self):
        return self.base.components()

    def extract(self, params, image):
        return self.base.extract(params, image)

    def encode_text(self, params, prompts):
        return self.base.encode_text(params, prompts)

    def init(self, key, inputs: Inputs) -> PyTree:
        """The learned parameters, for inputs like these.

        Networks that these settings do without, say a guiding classifier, are left out.

        Raises:
          CheckpointError: these settings or inputs need parameters of other shapes, or
            a network that another stage trains.
        """
        template = jax.eval_shape(self.base.init, key, inputs)
        given = self.parameters
        learned = {name.split("/")[0] for name in given.arrays}
        missing = [name for name in template if name not in learned]
        others = [s for s in tasks.stages(given.method) if s != given.stage]
        if missing and others:
            # A stage is called like the network that it adds.
            named = [stage for stage in others if stage in missing] or others
            raise CheckpointError(
                f"{given.folder} is a run of the stage {given.stage} and holds no "
                f"{' and no '.join(missing)}, which {given.method} needs with these "
                f"settings; train the stage {' or '.join(named)} and give its run, or "
                "change the settings"
            )
        kept = {k: v for k, v in given.arrays.items() if k.split("/")[0] in template}
        return arrange(kept, template, path=given.folder)

    def synthesize(self, params, key, inputs: Inputs) -> Synthesis:
        return self.base.synthesize(params, key, inputs)


def load_parameters(
    config: SynthConfig, devices: int | None = None
) -> tuple[SynthConfig, Parameters | None]:
    """Read the request's checkpoint, and take over the settings that belong to it.

    Args:
      config: the request; its own settings win over those of the training run.
      devices: how many to start; none are started without a checkpoint.

    Raises:
      SettingError: a method learns and has no checkpoint, or has one and learns nothing.
      CheckpointError: the checkpoint is half-written, damaged or of another method.
      RunError: the folder is missing, or holds no finished training run.
    """
    learned = [name for name in config.methods if _as_set(config, name).learns]
    if config.checkpoint is None:
        if learned:
            raise SettingError(f"{_untrained(learned[0])}, then add --checkpoint RUN")
        return config, None
    # The number of devices can no longer be chosen once a checkpoint has been read.
    start_devices(devices)
    run = load_run(config.checkpoint)
    name = run.config.method
    if name not in config.methods:
        raise CheckpointError(
            f"{run.folder} is a training run of '{name}', not of "
            f"{' or '.join(config.methods)}; give the --checkpoint of the method"
        )
    if name not in learned:
        raise SettingError(
            f"{name} synthesizes without learned parameters; leave --checkpoint out"
        )
    if others := [other for other in learned if other != name]:
        raise SettingError(
            f"{_untrained(others[0])}, and use it in a run apart from {name}, for "
            "there is one --checkpoint"
        )
    flat, record = load_params(run.model, method=name)
    arrays = {key: np.asarray(value) for key, value in flat.items()}
    parameters = Parameters(
        method=name,
        step=record.step,
        config=record.config.get("hash", ""),
        sha256=_digest(arrays),
        folder=run.folder,
        stage=tasks.get(name, run.config.stage).stage,
        categories=listed_in(run.folder),
        arrays=arrays,
    )
    own = run.config.settings | config.settings.get(name, {})
    settings = config.settings | {name: own}
    return dataclasses.replace(config, settings=settings), parameters


def with_parameters(
    synth: Synthesizer, parameters: Parameters | None, shape: tuple[int, int, int]
) -> Synthesizer:
    """The method as it synthesizes: with its learned parameters, if they are its.

    Args:
      synth: any method.
      parameters: of one method.
      shape: height, width and channels of the images, to see that they fit.

    Raises:
      CheckpointError: the settings or the images need other shapes.
    """
    if parameters is None or synth.name != parameters.method:
        return synth
    made = Learned(synth, parameters)
    image = jax.ShapeDtypeStruct(shape, np.float32)
    mask = jax.ShapeDtypeStruct((*shape[:2], 1), np.float32)
    label = jax.ShapeDtypeStruct((), np.int32)
    inputs = Inputs(image, mask, mask, image, mask, label=label)
    key = jax.eval_shape(lambda: jax.random.key(0))
    jax.eval_shape(made.init, key, inputs)
    return made


def check_channels(parameters: Parameters | None, image, first, path: Path) -> None:
    """Raise `DataError` for an image that the learned parameters do not fit.

    Raises:
      DataError: they do not.
    """
    if parameters is not None and image.shape[-1] != first.shape[-1]:
        raise DataError(
            f"{path} has {image.shape[-1]} channels, the first image has "
            f"{first.shape[-1]}, and {parameters.method} was trained on one kind only; "
            "add --gray or sort them apart"
        )


def _as_set(config: SynthConfig, name: str) -> Synthesizer:
    return make_synthesizer(name, config.settings.get(name, {}))


def _untrained(method: str) -> str:
    data = "exemplars" if tasks.get(method).learns_from_exemplars else "input"
    return (
        f"{method} synthesizes with what it has learned: train it first "
        f"(anojax train {method} --{data} DIR --output RUN)"
    )


def _digest(arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]
