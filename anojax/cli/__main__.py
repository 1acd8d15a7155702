"""Entry of the program: finds the command, turns errors into one sentence."""

import importlib
import json
import os
import sys
from collections.abc import Sequence

from anojax.cli.arguments import Parser
from anojax.errors import AnojaxError, SettingError
from anojax.jax_settings import PROGRAM, REQUIRED

COMMANDS = (
    "list",
    "show",
    "show-run",
    "doctor",
    "env",
    "synth",
    "merge",
    "preview",
    "verify",
    "configs",
    "train",
    "eval",
    "bench",
    "demo",
    "new-method",
)

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
      0 when it succeeded, 1 when it found something wrong, 2 when what was requested
      cannot be done, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        _check_text(argv)
        _settle_jax()
        args = build_parser(argv).parse_args(argv)
        return args.run(args)
    except AnojaxError as error:
        return _fail(str(error), "--json" in argv)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output left, as in `anojax list | head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", "--json" in argv)
    except KeyboardInterrupt:
        sentence = "stopped; the same command continues where it left off"
        return _fail(sentence, "--json" in argv, INTERRUPTED)
    except SystemExit as stop:  # argparse after --help
        return int(stop.code or 0)


def _settle_jax() -> None:
    """Make pixels independent of the environment: JAX keeps its own settings where they
    depend on them. Before JAX is loaded it forgets their variables, afterwards it is
    told."""
    for name in PROGRAM:
        os.environ.pop(name.upper(), None)
    if (jax := sys.modules.get("jax")) is not None:
        for name, value in REQUIRED.items():
            jax.config.update(name, value)


def build_parser(argv: Sequence[str] = ()) -> Parser:
    """The parser with the command that `argv` starts with, or with all commands.

    One command at a time keeps the start quick: the help of some needs the schema.
    """
    import anojax

    parser = Parser(
        prog="anojax",
        description="Realistic industrial defects, with exact masks, from a folder "
        "of good parts.",
    )
    parser.add_argument("--version", action="version", version=anojax.__version__)
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    for name in [argv[0]] if argv and argv[0] in COMMANDS else COMMANDS:
        module = name.replace("-", "_")
        importlib.import_module(f"anojax.cli.{module}").register(subparsers)
    return parser


def _check_text(argv: Sequence[str]) -> None:
    """Raise if a name cannot be written to a manifest or printed."""
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise SettingError(
                f"{word!a} is not UTF-8; rename the file or folder"
            ) from None


def _fail(sentence: str, as_json: bool, code: int = MISTAKE) -> int:
    line = " ".join(sentence.split())
    # Names of files may hold codes that steer a terminal.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(f"anojax: {shown}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": sentence}))
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
