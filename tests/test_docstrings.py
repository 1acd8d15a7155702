"""The examples in docstrings run, and show what they say they show."""

import ast
import doctest
import importlib
from pathlib import Path

import jax
import pytest

PACKAGE = Path(__file__).parents[1] / "anojax"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def name_of(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def examples(file):
    """(name, docstring, line) of everything in a file whose docstring has examples.

    Read from the source: in a module that is checked for types, functions are wrapped,
    and doctest's own search passes over them.
    """
    text = file.read_text()
    if ">>>" not in text:
        return []
    found = []
    for node in ast.walk(ast.parse(text)):
        said = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if said and ">>>" in said:
            line = node.body[0].lineno if node.body else 0
            found.append((getattr(node, "name", "module"), said, line))
    return found


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if examples(file)]


def run(name, namespace, said, file="docstring", line=0):
    """Runs one docstring's examples as a user would; returns how many, and a report."""
    test = doctest.DocTestParser().get_doctest(said, dict(namespace), name, file, line)
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    # A user's session has JAX's own defaults, not our tests' strict ones.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runner.run(test, out=report.append)
    return runner.tries, "".join(report)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_examples(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = vars(importlib.import_module(name_of(file)))
    for name, said, line in examples(file):
        count, wrong = run(name, namespace, said, str(file), line)
        assert count and not wrong, wrong


def test_a_wrong_example_is_found():
    assert run("right", {"a": 1}, ">>> a + 1\n2") == (1, "")
    count, wrong = run("wrong", {"a": 1}, ">>> a + 1\n3")
    assert count == 1 and "Expected:\n    3\nGot:\n    2" in wrong
