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
