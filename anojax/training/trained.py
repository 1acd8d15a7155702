"""From the folder of a training run back to what it trained."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax.errors import FlaxError

from anojax import task as tasks
from anojax.builders import make_synthesizer, make_task
from anojax.config import read_yaml
from anojax.data import exemplars
from anojax.data.folders import find_images
from anojax.data.manifest import CONFIG
from anojax.detector import Detector
from anojax.errors import AnojaxError, CheckpointError, RunError, SettingError
from anojax.task import Task
from anojax.training.checkpoint import FROZEN, load_variables
from anojax.training.config import TrainConfig, from_request
from anojax.training.run import MODEL
from anojax.types import PyTree


@dataclass(frozen=True)
class Run:
    """The folder of a finished training run."""

    folder: Path
    config: TrainConfig

    @property
    def model(self) -> Path:
        """Where its results are."""
        return self.folder / MODEL


@dataclass(frozen=True)
class Trained:
    """What a finished training run left behind."""

    folder: Path
    config: TrainConfig
    task: Task
    detector: Detector | None
    """``None``: the method trains no detector."""
    variables: PyTree
    """Nested dictionaries of host arrays."""
    step: int
    """Updates that it took."""

    def __repr__(self) -> str:
        return f"Trained({self.task.name!r}, {str(self.folder)!r}, step {self.step})"

    def check_detects(self) -> None:
        """Raise `SettingError` if there is no detector.

        Raises:
          SettingError: there is none.
        """
        if self.detector is None:
            raise SettingError(
                f"{self.task.name} trains no detector; there is nothing to score"
            )

    def check_fits(self, shape: tuple[int, int, int]) -> None:
        """Raise unless the detector takes images of that height, width and channels.

        Nothing is computed: only shapes are followed through the networks.

        Raises:
          AnojaxError: there is no detector, the networks refuse the size, or the model
            has other arrays than the settings of the run ask for.
        """
        self.check_detects()
        image = jax.ShapeDtypeStruct(shape, np.float32)
        kind = "gray" if shape[2] == 1 else "colored"
        what = f"{kind} images of {shape[0]} x {shape[1]} pixels"
        try:
            found, _ = jax.eval_shape(self.detector.score, self.variables, image)
        except AnojaxError:
            raise
        except (FlaxError, TypeError, ValueError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            raise CheckpointError(
                f"{self.folder / MODEL} has another shape than {self.task.name} with "
                f"the settings in {self.folder / CONFIG} needs for {what} "
                f"({type(error).__name__}: {reason})"
            ) from error
        if found.shape != shape[:2]:
            raise AnojaxError(
                f"{self.task.name} gives maps of {found.shape} for {what}; "
                "a map must have the size of its image"
            )


def load_trained(folder: str | Path) -> Trained:
    """Rebuild task and detector from a run's configuration, and read its model.

    Raises:
      RunError: the folder is missing, or holds no finished training run.
      CheckpointError: the model is half-written, damaged or of another method.
    """
    run = load_run(folder)
    config = run.config
    synth = make_synthesizer(config.method, config.settings)
    # Steps belong to the schedule of training; no detector depends on them.
    task = make_task(tasks.get(config.method, config.stage), synth, 1, config.task)
    variables, record = load_variables(run.model, method=task.name)
    variables = _with_frozen(variables, task)
    return Trained(run.folder, config, task, task.detector(), variables, record.step)


def _with_frozen(variables: PyTree, task: Task) -> PyTree:
    """Runs of version 0.1.0 have components among their statistics."""
    statistics = variables.get("statistics", {})
    old = {name: statistics[name] for name in task.components() if name in statistics}
    if FROZEN in variables or not old:
        return variables
    left = {name: tree for name, tree in statistics.items() if name not in old}
    return {**variables, "statistics": left, FROZEN: old}


def load_run(folder: str | Path) -> Run:
    """The configuration of a finished training run.

    Raises:
      RunError: the folder is missing, or holds no finished training run.
    """
    folder = Path(folder).expanduser()
    run = Run(folder, _config(folder))
    if not run.model.is_dir():
        raise RunError(
            f"{folder} holds no model yet; give the same 'anojax train' command again "
            "to finish the training"
        )
    return run


def _config(folder: Path) -> TrainConfig:
    if not folder.is_dir():
        raise RunError(f"there is no run folder {folder}; give the --output of a train")
    request = {}
    if (folder / CONFIG).is_file():
        request = read_yaml(folder / CONFIG).get("request") or {}
    if not {"method", "data", "task"} <= set(request):
        raise RunError(
            f"{folder} is not the folder of a training run; give what 'anojax train "
            "--output' made"
        )
    return from_request(request)


@dataclass(frozen=True)
class Seen:
    """What a run and all runs that it builds on have learned from."""

    files: dict[str, str]
    """Hash of a file's content -> where it was."""
    gone: tuple[str, ...]
    """Of runs that are not there any more, one sentence each."""


def seen(folder: str | Path) -> Seen:
    """What a training run has seen: exemplars, its own and those of every run that it
    goes on from, begins with, takes networks from or was synthesized with; and images
    of texture folders.

    Raises:
      AnojaxError: a configuration or a list on the way cannot be read.
    """
    found, gone, known, ahead = {}, [], set(), [Path(folder)]
    while ahead:
        run = ahead.pop().expanduser().resolve()
        if run in known:
            continue
        known.add(run)
        if not (run / CONFIG).is_file():
            gone.append(
                f"{run} is gone, on which the run builds; whether it has learned from "
                "these images is not known"
            )
            continue
        found |= exemplars.listed_in(run)
        request = read_yaml(run / CONFIG).get("request") or {}
        data = request.get("data") or {}
        # A run of version 0.1.0 has its textures beside the method.
        textures = data.get("textures", request.get("textures"))
        if textures is not None:
            found |= _textures(Path(textures), gone)
        before = [request.get(name) for name in ("resume", "init_from", "checkpoint")]
        # Runs of version 0.1.0 call precomputed anomalies ready.
        before.append(data.get("precomputed") or data.get("ready"))
        # A component may also be a file, or the name of a network; runs of version 0.1.0
        # call it a part.
        taken = request.get("components") or request.get("parts") or {}
        runs = (Path(where).expanduser() for where in taken.values())
        ahead += [Path(name) for name in before if name]
        ahead += [
            where
            for where in runs
            if (where / CONFIG).is_file()
            or (where.is_absolute() and not where.exists())
        ]
    return Seen(found, tuple(gone))


def _textures(folder: Path, gone: list[str]) -> dict[str, str]:
    if not folder.is_dir():
        gone.append(
            f"{folder} is gone, where the run took textures from; whether these images "
            "were among them is not known"
        )
        return {}
    return {exemplars.digest(path): str(path) for path in find_images(folder)}
