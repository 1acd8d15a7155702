"""What type checkers see is what there is; `make lint` runs one."""

import ast
from pathlib import Path

import anojax

PACKAGE = Path(anojax.__file__).parent


def test_checkers_see_the_names_that_are_loaded_when_used():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"anojax.{at}" for name, at in anojax._EXPORTS.items()}


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").is_file()


MOST_POSITIONAL = 8


def test_no_call_has_nine_positional_arguments():
    """From there on a reader counts commas; keywords say what is what."""
    long = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONAL
    ]
    assert not long
