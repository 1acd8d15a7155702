"""Names that are written: as the user's, where these can be names everywhere."""

from pathlib import Path

import pytest

from anojax.data.naming import MOST_BYTES, file_name
from anojax.data.plan import Plan


@pytest.mark.parametrize(
    "name",
    ["part #3", "50%", "a&b", "it's", 'say "x"', "²5", "外观检测", "a b.c", "x" * 180],
)
def test_ordinary_names_stay(name):
    assert file_name(name) == name


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a\nb", "a_b"),
        ("a\\b", "a_b"),
        ("a\r\n\tb", "a___b"),
        ("a\u2028b", "a_b"),
        ("\x1b[2Jx", "_[2Jx"),
    ],
)
def test_line_breaks_and_controls(name, written):
    assert file_name(name) == written


@pytest.mark.parametrize("piece", ["board-", "外观检测"])
def test_long_names_are_cut_and_stay_apart(piece):
    names = [piece * 60 + str(i) for i in range(3)]
    written = [file_name(name) for name in names]
    assert len(set(written)) == 3
    for one in written:
        assert len(one.encode()) <= MOST_BYTES and one.startswith(piece)


def plan(*names):
    images = tuple(Path("/in") / name for name in names)
    return Plan((), images, 0, load=len, bank=max)


def test_names_of_a_run_are_unique():
    assert plan("a\n.png", "a_.png", "b/a_.png").stems == ("a_", "a_-1", "a_-2")
