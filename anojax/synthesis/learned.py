"""Synthesizers that learn, with the parameters of a training run."""

import dataclasses
import hashlib
from collections.abc import Mapping
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
from anojax.training.arrays import arrange, flatten
from anojax.training.checkpoint import load_params
from anojax.training.components import PRETRAINED, backbone
from anojax.training.trained import Run, load_run
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
    folder: Path | None = dataclasses.field(compare=False)
    """Of the training run; ``None`` where all weights come from elsewhere."""
    stage: str = dataclasses.field(compare=False)
    """Which training of the method it was."""
    categories: Categories | None = dataclasses.field(compare=False)
    """What the network tells apart."""
    arrays: dict[str, np.ndarray] = dataclasses.field(compare=False, repr=False)
    """By name."""
    more: tuple["Parameters", ...] = ()
    """Of runs of other stages, without their arrays."""
    weights: tuple[tuple[str, str], ...] = ()
    """Pretrained components: their names, and where they come from in words."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a run of `anojax synth` notes, to know them again."""
        named = {"method": self.method, "step": self.step}
        known = named | {"config": self.config, "sha256": self.sha256}
        if self.more:
            known["more"] = [one.facts for one in self.more]
        return known | ({"components": dict(self.weights)} if self.weights else {})

    @property
    def where(self) -> str | None:
        """The folders of all training runs, as `--checkpoint` takes them."""
        folders = [one.folder for one in (self, *self.more) if one.folder is not None]
        return ",".join(str(folder.resolve()) for folder in folders) or None


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
        random = {n for n, _ in given.weights if n in template and n not in learned}
        missing = [n for n in template if n not in learned | random]
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
        wanted = {name: template[name] for name in template if name not in random}
        found = arrange(kept, wanted, path=given.where or given.method)
        if random:
            made = self.base.init(key, inputs)
            found |= {name: made[name] for name in random}
        return found

    def synthesize(self, params, key, inputs: Inputs) -> Synthesis:
        return self.base.synthesize(params, key, inputs)


def load_parameters(
    config: SynthConfig, devices: int | None = None
) -> tuple[SynthConfig, Parameters | None]:
    """Read the request's checkpoint, and take over the settings that belong to it.

    A checkpoint may name runs of several stages of a method, which give its components
    each; pretrained components come from weights files.

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
        return config, _pretrained(config, devices)
    # The number of devices can no longer be chosen once a checkpoint has been read.
    start_devices(devices)
    runs = [load_run(where) for where in config.checkpoint.split(",")]
    for run in runs:
        _check_run(run, config, learned)
    name = runs[0].config.method
    order = list(tasks.stages(name))
    runs.sort(key=lambda run: order.index(_stage(run)))
    if len({_stage(run) for run in runs}) < len(runs):
        raise SettingError(
            f"two training runs of {name} are of the same stage, {_stage(runs[0])}; give "
            "one of each in --checkpoint"
        )
    own = config.settings.get(name, {})
    for run in reversed(runs):  # a later stage knows more settings, the request most
        own = run.config.settings | own
    config = dataclasses.replace(config, settings=config.settings | {name: own})
    synth = _as_set(config, name)
    first, *others = [_of_run(run) for run in runs]
    weights, arrays = _weights(synth, config.components)
    if not others and not weights:
        return config, first
    for one in (first, *others):
        arrays |= one.arrays
    for one in (first, *others):  # each component from the run of its own stage
        arrays |= _without_others(one, synth)
    return config, dataclasses.replace(
        first,
        arrays=arrays,
        sha256=_digest(arrays),
        categories=next(
            (one.categories for one in (first, *others) if one.categories), None
        ),
        more=tuple(dataclasses.replace(one, arrays={}) for one in others),
        weights=weights,
    )


def _check_run(run: Run, config: SynthConfig, learned: list[str]) -> None:
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
            f"{_untrained(others[0])}, and use it in a run apart from {name}: a run of "
            "synthesis has the --checkpoint of one method"
        )


def _stage(run: Run) -> str:
    return tasks.get(run.config.method, run.config.stage).stage


def _of_run(run: Run) -> Parameters:
    name = run.config.method
    flat, record = load_params(run.model, method=name)
    arrays = {key: np.asarray(value) for key, value in flat.items()}
    return Parameters(
        method=name,
        step=record.step,
        config=record.config.get("hash", ""),
        sha256=_digest(arrays),
        folder=run.folder,
        stage=_stage(run),
        categories=listed_in(run.folder),
        arrays=arrays,
    )


def _without_others(one: Parameters, synth: Synthesizer) -> dict[str, np.ndarray]:
    """What a run gave, but for components that another stage is to give."""
    elsewhere = {
        name
        for name, component in synth.components().items()
        if component.kind == "run" and component.source != one.stage
    }
    return {k: x for k, x in one.arrays.items() if k.split("/")[0] not in elsewhere}


def _pretrained(config: SynthConfig, devices: int | None) -> Parameters | None:
    """The weights of a method that needs no training, if one has some."""
    having = [name for name in config.methods if _as_set(config, name).pretrained]
    if not having:
        if config.components:
            raise SettingError(
                f"components.{next(iter(config.components))} is no component of "
                f"{' or '.join(config.methods)}; leave components out"
            )
        return None
    if len(having) > 1:
        raise SettingError(
            f"{' and '.join(having)} both have pretrained components; use them in runs "
            "apart from each other"
        )
    start_devices(devices)
    weights, arrays = _weights(_as_set(config, having[0]), config.components)
    digest = _digest(arrays)
    return Parameters(having[0], 0, "", digest, None, "", None, arrays, weights=weights)


def _weights(
    synth: Synthesizer, requested: Mapping[str, str]
) -> tuple[tuple[tuple[str, str], ...], dict[str, np.ndarray]]:
    """Where the pretrained components come from, and their arrays; random ones have
    none."""
    for name in requested:
        if name not in synth.pretrained:
            takes = ", ".join(synth.pretrained) or "none"
            raise SettingError(
                f"components.{name} is no pretrained component of {synth.name}, which "
                f"has: {takes}"
            )
    origins, arrays = [], {}
    for name, component in synth.pretrained.items():
        given = backbone(name, component.source, requested.get(name, PRETRAINED))
        origins.append((name, given.origin))
        if given.variables is not None:
            flat = flatten({name: given.variables})
            arrays |= {key: np.asarray(x) for key, x in flat.items()}
    return tuple(origins), arrays


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
