"""``python -m anojax``: the same program as ``anojax``."""

from anojax.cli.__main__ import entry

if __name__ == "__main__":
    entry()
