"""The program `anojax`: one file per command."""
