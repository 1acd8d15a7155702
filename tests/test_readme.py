"""The README tells the truth: its code runs, its catalog and commands exist."""

import re
from pathlib import Path

import jax
import pytest

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text() if README.exists() else ""
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_catalog_is_current():
    from anojax.report import catalog

    assert catalog.insert(TEXT) == TEXT, "run: make catalog"


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert PYTHON
    names = {}
    # A user's session has JAX's own defaults, not our tests' strict ones.
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        for block in PYTHON:
            exec(compile(block, "README.md", "exec"), names)


def test_shown_commands_exist():
    from anojax.cli.__main__ import build_parser

    parser = build_parser()
    shown = re.findall(r"^anojax (\w+)", TEXT, re.M)
    assert shown
    commands = next(a for a in parser._actions if a.choices and "synth" in a.choices)
    assert set(shown) <= set(commands.choices)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http|#)([^)]+)\)", TEXT))
def test_links_to_files_lead_somewhere(link):
    assert (README.parent / link.split("#")[0]).exists()


def test_image_is_small():
    images = re.findall(r'<img src="([^"]+)"', TEXT)
    assert images
    for name in images:
        assert (README.parent / name).stat().st_size < 500_000
