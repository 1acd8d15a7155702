"""``anojax list``: the methods, by paradigm and family."""

import argparse
import json

from anojax.cli.arguments import add_common
from anojax.errors import UnknownName, did_you_mean


def register(subparsers) -> None:
    parser = subparsers.add_parser(
        "list", help="list the methods", description="List the methods of the survey."
    )
    parser.add_argument(
        "--paradigm", metavar="P", help="list only the methods of this paradigm"
    )
    add_common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the methods.

    Raises:
      UnknownName: there is no such paradigm.
    """
    from anojax import registry

    if args.paradigm not in (None, *registry.SURVEY):
        raise UnknownName(
            f"no paradigm '{args.paradigm}'{did_you_mean(args.paradigm, registry.SURVEY)}"
        )
    wanted = [p for p in registry.SURVEY if args.paradigm in (None, p)]
    cards = {n: c for n, c in registry.cards().items() if c.paradigm in wanted}
    trained = {name for name in cards if registry.get(name)().learns}
    planned = [
        (paradigm, family, name)
        for paradigm in wanted
        for family, names in registry.SURVEY[paradigm].items()
        for name in names
        if name in registry.planned()
    ]
    if args.json:
        print(json.dumps(_as_json(cards, trained, planned), indent=1))
        return 0
    _print(cards, trained, planned)
    return 0


def _as_json(cards, trained, planned) -> list[dict]:
    available = [
        {
            "name": name,
            "status": "available",
            "paradigm": card.paradigm,
            "family": card.family,
            "title": card.title,
            "venue": card.venue,
            "year": card.year,
            "needs": list(card.needs),
            "learns": name in trained,
            "controls": list(card.controls),
            "fidelity": card.fidelity,
            "purpose": card.purpose,
        }
        for name, card in cards.items()
    ]
    return available + [
        {"name": name, "status": "planned", "paradigm": paradigm, "family": family}
        for paradigm, family, name in planned
    ]


def _print(cards, trained, planned) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("method", "paradigm", "family", "needs", "controls", "fidelity"):
        table.add_column(title, no_wrap=title in ("method", "paradigm", "family"))
    for name, card in cards.items():
        table.add_row(
            name,
            card.paradigm,
            card.family.replace("_", " "),
            ", ".join((*card.needs, *["training"] * (name in trained))) or "-",
            ", ".join(card.controls) or "-",
            card.fidelity,
        )
    console = Console()
    console.print(table)
    if planned:
        names = ", ".join(name for _, _, name in planned)
        console.print(f"\nplanned: {names}", style="dim")
    console.print("\n'anojax show METHOD' tells everything about one.", style="dim")
