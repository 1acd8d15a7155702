"""``anojax train CONFIG``: train a method's networks with synthetic defects."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from anojax.cli.arguments import Parser, add_common, printer
from anojax.errors import SettingError

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
    add(
        "config",
        metavar="CONFIG",
        help="a method, another name that 'anojax configs' lists, or a YAML file",
    )
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
    from anojax.data.config import DataConfig
    from anojax.training.config import TrainConfig

    lines = ["keys of the configuration:"]
    for prefix, schema in (("", TrainConfig), ("data.", DataConfig)):
        lines += [
            f"  {prefix + field.name:16} {describe_field(field)}"
            for field in dataclasses.fields(schema)
            if "help" in field.metadata
        ]
    lines.append("  settings.NAME    of the synthesizer (see 'anojax show METHOD')")
    lines.append("  task.NAME        of the networks and their training")
    lines.append("  components.NAME  file or run of a network that is not trained here")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    from anojax.config import load
    from anojax.shipped import find_config
    from anojax.training.config import TrainConfig
    from anojax.training.session import check_folder, open_session, train_run

    config = load(TrainConfig, find_config(args.config), args.overrides)
    config = _with_folders(config, args)
    session = open_session(config, devices=args.devices, distributed=args.distributed)
    folder = Path(args.output)
    first = session.first
    note = printer(args) if first else lambda text: None
    if first:
        check_folder(folder, session.resolved)
    note(session.words(folder))
    if args.dry_run:
        if args.json and first:
            about = {"state": "planned", "run": str(folder)}
            print(json.dumps(about | session.facts(), indent=1))
        else:
            note(f"one update  {session.cost()}")
        return 0
    quiet = args.quiet or args.json or not first
    outcome = train_run(session, folder, quiet=quiet, note=note)
    if first:
        _report(args, folder, outcome)
    # As a shell reports a process that ended by a signal.
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


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
