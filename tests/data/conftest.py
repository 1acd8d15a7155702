"""Fake data sets for the tests of reading."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fake():
    """The module `fake_sets`: tests are not a package."""
    path = Path(__file__).with_name("fake_sets.py")
    spec = importlib.util.spec_from_file_location("fake_sets", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
