"""``anojax show METHOD``: what a method is, what it needs, what can be set."""

import argparse
import dataclasses
import json

from anojax.cli.arguments import add_common, describe_field


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "show", help="show all about a method", description="Tell all about a method."
    )
    parser.add_argument(
        "method", metavar="METHOD", help="name of a method (see 'anojax list')"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from anojax import registry

    synth = registry.get(args.method)
    if args.json:
        print(json.dumps(_as_json(args.method, synth), indent=1))
    else:
        _print(args.method, synth)
    return 0


def _as_json(name: str, synth) -> dict:
    from anojax.fields import describe, field_types

    kinds = field_types(synth)
    settings = [
        {
            "name": field.name,
            "type": describe(kinds[field.name]),
            "default": field.default,
            **field.metadata,
        }
        for field in dataclasses.fields(synth)
    ]
    facts = {"name": name, **dataclasses.asdict(synth.card), "learns": synth().learns}
    components = {n: dataclasses.asdict(c) for n, c in synth().components().items()}
    facts |= {"gives": _gives(synth.card), "components": components}
    return facts | {"stages": _stages(name, synth), "settings": settings}


def _gives(card) -> str:
    """What comes out, and whether it can be looked at."""
    if card.level == "feature":
        decoded = "decoded to an image and its mask"
        return f"features, {decoded if card.decodes else 'and no image to look at'}"
    return "an image and its mask"


def _stages(name: str, synth) -> list[dict]:
    """The trainings of a method: each with its configuration and what it begins with."""
    from anojax import task as tasks

    stages = []
    for number, (stage, task) in enumerate(tasks.stages(name).items()):
        file = name if number == 0 else f"{name}_{stage}"
        found = task(synth()).components().items()
        components = {name: dataclasses.asdict(one) for name, one in found}
        stages.append({"stage": stage, "config": file, "components": components})
    return stages


def _in_words(stage: dict) -> str:
    sources = {"run": "RUN of the stage {}", "backbone": "weights of {}"}
    begins = [
        f", components.{name}={sources[one['kind']].format(one['source'])}"
        for name, one in stage["components"].items()
    ]
    return f"{stage['stage']}: {stage['config']}{''.join(begins)}"


def _print(name: str, synth) -> None:
    from rich.console import Console
    from rich.table import Table

    from anojax.core import CONTROLS, FIDELITY, NEEDS

    card = synth.card
    console = Console(highlight=False)
    console.print(f"[bold]{name}[/bold]  {card.title}")
    console.print(f"{card.authors}. {card.venue} {card.year}. {card.url}")
    console.print()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("family", f"{card.paradigm}, {card.family.replace('_', ' ')}")
    facts.add_row("gives", _gives(card))
    needs = "; ".join(NEEDS[need] for need in card.needs)
    facts.add_row("needs", needs or "nothing beyond the normal images")
    if synth().learns:
        facts.add_row(
            "training",
            f"first anojax train {name}, then --checkpoint RUN",
        )
    others = [c for c in CONTROLS if c not in card.controls]
    supported = ", ".join(card.controls) or "none"
    missing = f" (not: {', '.join(others)})" if others else ""
    facts.add_row("controls", supported + missing)
    facts.add_row("fidelity", f"{card.fidelity}: {FIDELITY[card.fidelity]}")
    code = f"{card.code_url} ({card.code_license or 'no license stated'})"
    facts.add_row("public code", code if card.code_url else "none")
    stages = _stages(name, synth)
    if len(stages) > 1:
        # In this order: a later one may begin with the run of an earlier one.
        for number, one in enumerate(stages):
            facts.add_row("" if number else "stages", _in_words(one))
    console.print(facts)
    console.print()
    console.print("[bold]settings[/bold]  (--set field=value)")
    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_column(style="cyan", no_wrap=True)
    rows.add_column()
    for field in dataclasses.fields(synth):
        rows.add_row(f"  {field.name}", _escape(describe_field(field)))
    console.print(rows)
    for title, lines in (
        ("differs from the paper", card.differences),
        ("not verified", card.unverified),
    ):
        if lines:
            console.print(f"\n[bold]{title}[/bold]")
            for line in lines:
                console.print(f"  - {_escape(line)}")


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
