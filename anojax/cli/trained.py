"""From the folder of a training run back to what it trained."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax.errors import FlaxError

from anojax import task as tasks
from anojax.cli.prepare import make_methods
from anojax.cli.train import CONFIG, make_task
from anojax.config import SynthConfig, from_dict, read_yaml
from anojax.detector import Detector
from anojax.errors import AnojaxError, CheckpointError, RunError, SettingError
from anojax.task import Task
from anojax.training.checkpoint import load_variables
from anojax.training.config import TrainConfig
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
    detector: Detector
    variables: PyTree
    """Nested dictionaries of host arrays."""

    def check_fits(self, shape: tuple[int, int, int]) -> None:
        """Raise unless the detector takes images of that height, width and channels.

        Nothing is computed: only shapes are followed through the networks.

        Raises:
          AnojaxError: the networks refuse the size, or the model has other arrays than
            the settings of the run ask for.
        """
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
      SettingError: the method has no detector.
    """
    run = load_run(folder)
    config = run.config
    synth_config = from_dict(
        SynthConfig,
        {"methods": [config.method], "settings": {config.method: config.settings}},
    )
    (synth,) = make_methods(synth_config)
    # Steps belong to the schedule of training; no detector depends on them.
    task = make_task(tasks.get(config.method, config.stage), synth, 1, config)
    detector = task.detector()
    if detector is None:
        raise SettingError(f"{task.name} trains no detector; there is nothing to score")
    variables, _ = load_variables(run.model, method=task.name)
    return Trained(run.folder, config, task, detector, variables)


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
    return from_dict(TrainConfig, request)
