"""Every public function that raises says so, and what it says exists."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from anojax import errors

ROOT = Path(__file__).parents[1] / "anojax"
FILES = sorted(ROOT.rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Functions of the module and methods of its classes, without an underscore."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                if isinstance(inner, Function) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node


def raised(function: Function) -> set[str]:
    """Names of the exceptions that the function's own body raises by name."""
    found, rest = set(), list(function.body)
    while rest:
        node = rest.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func
            if isinstance(name, ast.Name) and name.id[0].isupper():
                found.add(name.id)
        rest += ast.iter_child_nodes(node)
    return found - {"NotImplementedError"}


def is_said(name: str, said: str) -> bool:
    """Whether an exception or, of our own, the family's name has an entry."""
    own = getattr(errors, name, None)
    names = [base.__name__ for base in own.__mro__] if own else [name]
    return any(f"{each}:" in said for each in names)


def silent(path: Path) -> list[str]:
    """Public functions whose docstrings do not name what they raise.

    A method without a docstring is that of its base class, whose words hold for it.
    """
    found = []
    for name, function in public_functions(ast.parse(path.read_text())):
        doc = ast.get_docstring(function)
        if doc is None and "." in name:
            continue
        _, _, said = (doc or "").partition("Raises:")
        missing = sorted(each for each in raised(function) if not is_said(each, said))
        if missing:
            found.append(f"line {function.lineno}: {name} raises {', '.join(missing)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_raised_is_said(path):
    assert not silent(path)


def test_the_rule_finds_what_it_should(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "def loud(x):\n    '''Say.\n\n    Raises:\n      DataError: x.\n    '''\n"
        "    raise DataError('x')\n"
        "def quiet(x):\n    '''Say.'''\n    if x:\n        raise DataError('x')\n"
        "def _private(x):\n    raise DataError('x')\n"
        "class Thing:\n    def method(self):\n        '''Do.'''\n"
        "        raise RunError('x') from None\n"
        "    def inherited(self):\n        raise RunError('x')\n"
        "def family(x):\n    '''Say.\n\n    Raises:\n      AnojaxError: x.\n    '''\n"
        "    raise DataError('x')\n"
    )
    assert silent(file) == [
        "line 8: quiet raises DataError",
        "line 15: Thing.method raises RunError",
    ]
