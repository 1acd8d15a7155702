"""A training run from its configuration to its model."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jax

import anojax
from anojax import task as tasks
from anojax.builders import make_synthesizer, make_task
from anojax.config import compare, digest, read_yaml, to_dict, to_yaml
from anojax.core import Synthesizer, settings
from anojax.data.files import atomic_write, make_folder
from anojax.data.manifest import CONFIG, is_bare
from anojax.environment import connect, start_devices, versions
from anojax.errors import RunError, SettingError
from anojax.task import Task
from anojax.training.checkpoint import Keep
from anojax.training.components import Given, read_components
from anojax.training.config import HARMLESS, TrainConfig, from_request
from anojax.training.data import TrainingData, check_fits, read_data
from anojax.training.flops import Cost
from anojax.training.loop import Outcome, Timetable, Watch
from anojax.training.parallel import Strategy
from anojax.training.run import detection_scores, one_update, train
from anojax.training.sample_sheets import sample_sheets
from anojax.training.start import Beginning


@dataclass(frozen=True)
class Session:
    """A checked request for training: all that it needs has been found and fits."""

    config: TrainConfig
    task: Task
    data: TrainingData
    components: dict[str, Given]
    timetable: Timetable
    strategy: Strategy
    resolved: dict[str, Any]
    """What goes into config.yaml."""

    @property
    def first(self) -> bool:
        """This is the process that prints, and writes what all share."""
        return jax.process_index() == 0

    def words(self, folder: Path) -> str:
        """The plan in a few lines, printed before the work."""
        config, steps = self.config, self.timetable.steps
        lines = (
            f"method      {config.method}",
            f"images      {self.data.words}",
            f"steps       {steps} of {config.batch_size} images "
            f"({config.length}), seed {config.seed}",
            f"devices     {self.strategy.shares} shares of a batch ({config.strategy})",
            f"output      {folder}",
            *(f"{name:11} {one.origin}" for name, one in self.components.items()),
        )
        return "\n".join(lines)

    def cost(self) -> Cost:
        """What one update takes; nothing is compiled."""
        return one_update(
            self.task,
            self.data.source,
            self.config.batch_size,
            self.strategy,
            self.data.bank,
        )

    def facts(self) -> dict[str, Any]:
        """The plan in numbers, with what one update takes."""
        cost = self.cost()
        return {
            "method": self.config.method,
            "stage": self.task.stage,
            "images": len(self.data.source),
            "steps": self.timetable.steps,
            "batch_size": self.config.batch_size,
            "seed": self.config.seed,
            "shares_of_a_batch": self.strategy.shares,
            "components": {n: one.origin for n, one in self.components.items()},
            "flops_per_update": cost.flops,
            "parameters": cost.parameters,
        }


def open_session(
    config: TrainConfig, *, devices: int | None = None, distributed: bool = False
) -> Session:
    """Check a configuration and find what it names.

    Args:
      config: what to train.
      devices: how many to use; all by default.
      distributed: this is one of several processes, which the environment names.

    Raises:
      AnojaxError: something is missing or does not fit.
    """
    if distributed:
        if devices is not None:
            raise SettingError("--devices has no meaning with --distributed")
        connect()
    if not config.method:
        raise SettingError("the configuration names no method; add 'method: NAME'")
    synth = make_synthesizer(config.method, config.settings)
    task_class = tasks.get(config.method, config.stage)
    strategy = config.make_strategy(None if distributed else start_devices(devices))
    strategy.check_batch(config.batch_size)
    data = read_data(config, synth)
    if data.bits is not None:
        # Recorded, so that a detector sees its test images as it saw these.
        config = replace(config, data=replace(config.data, bits=data.bits))
    timetable = config.timetable(len(data.source))
    task = make_task(task_class, data.synth, timetable.steps, config.task)
    components = read_components(task, config.components)
    check_fits(task, data)
    resolved = _resolve(config, data.synth, task)
    return Session(config, task, data, components, timetable, strategy, resolved)


def train_run(
    session: Session,
    folder: Path,
    *,
    quiet: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train; a run that is half done in the folder goes on.

    Args:
      session: what to train.
      folder: of the run.
      quiet: draw no progress bar.
      note: told what is about to happen.

    Raises:
      AnojaxError: the folder holds something else, a checkpoint cannot be used, or a
        metric is not finite.
    """
    config, task, data = session.config, session.task, session.data
    if session.first:
        check_folder(folder, session.resolved)
    evaluate = None
    if data.test is not None:
        evaluate = detection_scores(task, data.source, data.test)
    sample = None
    if config.sample_every is not None:
        sample = sample_sheets(
            task,
            data.source,
            folder=folder,
            seed=config.seed,
            count=config.samples,
            bank=data.bank,
        )
    if session.first:
        make_folder(folder)
        for name, text in data.files.items():
            _keep(folder / name, text)
        atomic_write(folder / CONFIG, to_yaml(session.resolved))
    return train(
        task,
        data.source,
        batch_size=config.batch_size,
        seed=config.seed,
        timetable=session.timetable,
        strategy=session.strategy,
        bank=data.bank,
        folder=folder,
        beginning=_beginning(session),
        keep=Keep(config.keep_last, config.keep_best),
        watch=Watch(
            evaluate=evaluate,
            sample=sample,
            note=note,
            progress=not quiet,
            tensorboard=config.tensorboard,
        ),
        config=session.resolved,
    )


def _beginning(session: Session) -> Beginning:
    resume, init_from = (
        None if run is None else Path(run).expanduser()
        for run in (session.config.resume, session.config.init_from)
    )
    found = {name: one.variables for name, one in session.components.items()}
    return Beginning(resume, init_from, found)


def check_folder(folder: Path, resolved: dict[str, Any]) -> None:
    """Raise unless the folder is new or holds a run that trains the same.

    Raises:
      RunError: it holds something else.
    """
    if is_bare(folder):
        return
    if not (folder / CONFIG).exists():
        raise RunError(
            f"{folder} is not empty and holds no training run; choose another"
        )
    old = read_yaml(folder / CONFIG).get("request", {})
    if "method" in old:
        # As this version writes it.
        old = to_dict(from_request(old))
    differences = compare(
        {k: v for k, v in old.items() if k not in HARMLESS},
        {k: v for k, v in resolved["request"].items() if k not in HARMLESS},
    )
    if differences:
        raise RunError(
            f"{folder} holds a run with another configuration "
            f"({'; '.join(differences[:3])}); choose another --output, or begin there "
            f"with resume={folder} or init_from={folder}"
        )


def _resolve(config: TrainConfig, synth: Synthesizer, task: Task) -> dict[str, Any]:
    """The configuration with every default spelled out, versions and a hash."""
    components = {}
    for name, value in config.components.items():
        path = Path(value).expanduser()
        components[name] = str(path.resolve()) if path.exists() else value
    spelled = replace(
        config,
        data=config.data.absolute(),
        components=components,
        settings=settings(synth),
    )
    values = {k: v for k, v in to_dict(task).items() if k not in ("synth", "steps")}
    resolved = {
        "request": json.loads(json.dumps(to_dict(spelled) | {"task": values})),
        "versions": {"anojax": anojax.__version__, **versions()},
    }
    return resolved | {"hash": digest(resolved)}


def _keep(path: Path, text: str) -> None:
    """Write a file about the data, unless a run that goes on has it.

    Raises:
      RunError: it has another one: the data changed in between.
    """
    old = path.read_text() if path.exists() else text
    if old != text:
        pairs = zip_longest(old.splitlines(), text.splitlines(), fillvalue="nothing")
        then, now = next(pair for pair in pairs if pair[0] != pair[1])
        raise RunError(
            f"the data are not those that {path} lists ('{then}' there, '{now}' now); "
            "put the files back, or choose another --output"
        )
    atomic_write(path, text)
