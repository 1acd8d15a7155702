"""``anojax train CONFIG``: teach a method's networks with synthetic defects."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from anojax.cli.arguments import Parser, add_common, start_devices
from anojax.errors import RunError, SettingError

CONFIG = "config.yaml"
FOLDERS = {
    "input": "normal images: a folder, a category of a data set, or a whole data set "
    "for methods that tell categories apart",
    "exemplars": "real defects with masks",
    "textures": "texture images",
}
"""The keys of `data` that have a flag of their own."""


def register(subparsers) -> None:
    parser: Parser = subparsers.add_parser(
        "train",
        help="train a method on synthetic defects",
        description="Train a method on synthetic defects, which are made inside the "
        "training step. An interrupted run continues when the same command is given "
        "again.",
        lazy_epilog=_keys_help,
    )
    add = parser.add_argument
    add("config", metavar="CONFIG", help="YAML file (see configs/README.md)")
    add(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="change a value of the file, for instance task.optimizer.learning_rate=1e-3",
    )
    for name, what in FOLDERS.items():
        add(f"--{name}", metavar="DIR", help=f"{what}; stands for data.{name}=DIR")
    add("--output", metavar="DIR", required=True, help="folder of the run")
    add("--devices", type=int, metavar="N", help="how many devices to use (all)")
    add(
        "--distributed",
        action="store_true",
        help="one of several processes: a TPU pod, SLURM, or JAX_COORDINATOR_ADDRESS, "
        "JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment",
    )
    add("--dry-run", action="store_true", help="print the plan and stop")
    add("--quiet", action="store_true", help="print errors only")
    add_common(parser)
    parser.set_defaults(run=run)


def _keys_help() -> str:
    from anojax.cli.arguments import describe_field
    from anojax.training.config import DataConfig, TrainConfig

    lines = ["keys of the configuration:"]
    for prefix, schema in (("", TrainConfig), ("data.", DataConfig)):
        lines += [
            f"  {prefix + field.name:16} {describe_field(field)}"
            for field in dataclasses.fields(schema)
            if "help" in field.metadata
        ]
    lines.append("  settings.NAME    of the synthesizer (see 'anojax show METHOD')")
    lines.append("  task.NAME        of the networks and their training")
    lines.append("  parts.NAME       file or run of a network that is not trained here")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    import jax

    from anojax.cli.parts import read_parts
    from anojax.cli.training_data import check_fits, read_data
    from anojax.config import load
    from anojax.training.config import TrainConfig

    config = load(TrainConfig, Path(args.config), args.overrides)
    config = _with_folders(config, args)
    if args.distributed:
        connect()
    synth, task_class = _method(config)
    strategy = config.make_strategy(_devices(args))
    strategy.check_batch(config.batch_size)
    data = read_data(config, synth)
    schedule = config.schedule(len(data.source))
    task = make_task(task_class, data.synth, schedule.steps, config)
    parts = read_parts(task, config.parts)
    check_fits(task, data)
    resolved = resolve(config, data.synth, task)
    first = jax.process_index() == 0
    if first:
        _same_run(Path(args.output), resolved)
    quiet = args.quiet or args.json or not first
    if not quiet:
        print(
            _describe(config, schedule, strategy, data.words, args.output), flush=True
        )
        for name, part in parts.items():
            print(f"{name:11} {part.origin}", flush=True)
    if args.dry_run:
        _print_cost(quiet, task, data, config, strategy)
        return 0
    variables = {name: part.variables for name, part in parts.items()}
    return _train(
        args, config, task, data, variables, schedule, strategy, resolved, quiet
    )


def _with_folders(config: Any, args: argparse.Namespace) -> Any:
    """The configuration with the folders that have flags: a flag wins over the file.

    Raises:
      SettingError: a flag and an override name different folders.
    """
    given = {n: getattr(args, n) for n in FOLDERS if getattr(args, n) is not None}
    for assignment in args.overrides:
        key, _, value = assignment.partition("=")
        name = key.strip().removeprefix("data.")
        if key.strip() != name and given.get(name, value) != value:
            raise SettingError(
                f"--{name} {given[name]} and {assignment} contradict each other; give "
                "one of them"
            )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **given))


def _sample_sheets(args, config, task, data):
    """What paints while the training goes on, if it is asked for."""
    if config.sample_every is None:
        return None
    from anojax.cli.sample_sheet import sample_sheets

    return sample_sheets(
        task,
        data.source,
        folder=Path(args.output),
        seed=config.seed,
        count=config.samples,
        bank=data.bank,
    )


def _print_cost(quiet, task, data, config, strategy) -> None:
    """What `train` says before it begins."""
    from anojax.training.run import one_update

    if not quiet:
        cost = one_update(task, data.source, config.batch_size, strategy, data.bank)
        print(f"one update  {cost}")


def _train(args, config, task, data, parts, schedule, strategy, resolved, quiet) -> int:
    import jax

    from anojax.config import to_yaml
    from anojax.data.files import atomic_write, make_folder
    from anojax.training.run import detection_scores, train

    folder = Path(args.output)
    evaluate = None
    if data.test is not None:
        evaluate = detection_scores(task, data.source, data.test)
    sample = _sample_sheets(args, config, task, data)
    if jax.process_index() == 0:
        make_folder(folder)
        for name, text in data.files.items():
            _keep(folder / name, text)
        atomic_write(folder / CONFIG, to_yaml(resolved))
    outcome = train(
        task,
        data.source,
        batch_size=config.batch_size,
        seed=config.seed,
        schedule=schedule,
        strategy=strategy,
        folder=folder,
        bank=data.bank,
        resume=config.resume,
        init_from=config.init_from,
        parts=parts,
        keep_last=config.keep_last,
        keep_best=config.keep_best,
        evaluate=evaluate,
        sample=sample,
        tensorboard=config.tensorboard,
        config=resolved,
        progress=not quiet,
        note=lambda text: None if quiet else print(text, flush=True),
    )
    if jax.process_index() == 0:
        _report(args, folder, outcome)
    # As a shell reports a process that ended by a signal.
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


def _keep(path: Path, text: str) -> None:
    """Write a file about the data, unless a run that goes on has it.

    Raises:
      RunError: it has another one: the data changed in between.
    """
    from anojax.data.files import atomic_write

    if path.exists() and path.read_text() != text:
        raise RunError(
            f"{path} lists other files than there are now; choose another --output, or "
            "put the files back"
        )
    atomic_write(path, text)


def connect() -> None:
    """Join the other processes; the environment says who they are."""
    import os

    import jax

    number, process = (
        int(os.environ[name]) if name in os.environ else None
        for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    )
    try:
        jax.distributed.initialize(num_processes=number, process_id=process)
    except (ValueError, RuntimeError) as error:
        raise SettingError(
            f"--distributed finds no other processes ({str(error).splitlines()[0]}); "
            "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error


def _devices(args) -> list | None:
    if args.distributed:
        if args.devices is not None:
            raise SettingError("--devices has no meaning with --distributed")
        return None
    return start_devices(args.devices)


def _method(config) -> tuple[Any, type]:
    from anojax import registry
    from anojax import task as tasks
    from anojax.config import field_types, fit
    from anojax.core import with_settings

    if not config.method:
        raise SettingError("the configuration names no method; add 'method: NAME'")
    kinds = field_types(registry.get(config.method))
    chosen = {k: fit(_tuples(v), kinds.get(k)) for k, v in config.settings.items()}
    synth = with_settings(registry.get(config.method)(), **chosen)
    return synth, tasks.get(config.method, config.stage)


def make_task(task_class: type, synth: Any, steps: int, config: Any) -> Any:
    """The task with the values of ``task:``, nested ones included.

    Raises:
      UnknownName: a key that the task lacks.
      SettingError: a value that does not fit, or a key that is set elsewhere.
    """
    from anojax.config import field_types, fit, from_dict
    from anojax.errors import UnknownName, did_you_mean

    kinds, made = field_types(task_class), {}
    for name, value in config.task.items():
        if name in ("synth", "steps"):
            elsewhere = {"synth": "settings", "steps": "length"}[name]
            raise SettingError(
                f"task.{name} is set by '{elsewhere}' of the configuration"
            )
        if name not in kinds:
            raise UnknownName(f"unknown key 'task.{name}'{did_you_mean(name, kinds)}")
        if dataclasses.is_dataclass(kinds[name]):
            base = _default(task_class, name)
            made[name] = _changed(base, value, from_dict, f"task.{name}")
        else:
            made[name] = fit(_tuples(value), kinds[name])
    return task_class(synth=synth, steps=steps, **made)


def _default(task_class, name):
    return next(f.default for f in dataclasses.fields(task_class) if f.name == name)


def _changed(base, values, from_dict, where):
    """A dataclass with some values changed; the others stay the task's, not the class's."""
    from anojax.config import field_types, fit

    kinds = field_types(type(base))
    if not isinstance(values, dict):
        raise SettingError(f"{where} is {values!r}; expected key: value")
    given = {k: fit(_tuples(v), kinds.get(k)) for k, v in values.items()}
    checked = from_dict(type(base), {**dataclasses.asdict(base), **given}, where=where)
    return checked


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def resolve(config: Any, synth: Any, task: Any) -> dict[str, Any]:
    """The configuration with every default spelled out, versions and a hash."""
    import anojax
    from anojax.cli.env import versions
    from anojax.config import digest, to_dict
    from anojax.core import settings

    request = to_dict(config)
    for name in ("input", "textures", "region", "foreground", "ready", "exemplars"):
        value = request["data"][name]
        if value not in (None, "", "auto", "none"):
            request["data"][name] = str(Path(value).expanduser().resolve())
    for name, value in request["parts"].items():
        if Path(value).expanduser().exists():
            request["parts"][name] = str(Path(value).expanduser().resolve())
    request["settings"] = json.loads(json.dumps(settings(synth)))
    request["task"] = to_dict(task)
    del request["task"]["synth"], request["task"]["steps"]
    resolved = {
        "request": request,
        "versions": {"anojax": anojax.__version__, **versions()},
    }
    return resolved | {"hash": digest(resolved)}


def _same_run(folder: Path, resolved: dict[str, Any]) -> None:
    """Raise unless the folder is new or holds a run that teaches the same.

    Raises:
      RunError: it holds something else.
    """
    from anojax.config import compare, read_yaml
    from anojax.training.config import HARMLESS

    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / CONFIG).exists():
        raise RunError(
            f"{folder} is not empty and holds no training run; choose another"
        )
    old = read_yaml(folder / CONFIG).get("request", {})
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


def _describe(config, schedule, strategy, words: str, output: str) -> str:
    return "\n".join(
        (
            f"method      {config.method}",
            f"images    {words}",
            f"steps       {schedule.steps} of {config.batch_size} images "
            f"({config.length}), seed {config.seed}",
            f"devices     {strategy.shares} shares of a batch ({config.strategy})",
            f"output      {output}",
        )
    )


def _report(args, folder: Path, outcome) -> None:
    facts = {"run": str(folder), "step": outcome.step, "metrics": outcome.metrics}
    state = "finished" if outcome.stopped_by is None else "stopped"
    if args.json:
        print(json.dumps({"state": state, **facts}, indent=1))
    elif not args.quiet:
        numbers = ", ".join(f"{k} {v:.4g}" for k, v in outcome.metrics.items())
        print(f"{state} at step {outcome.step}: {numbers}")
        if outcome.stopped_by is not None:
            print("saved; the same command continues here")
