"""Every notebook runs from top to bottom, and is stored without outputs."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stripped(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [c for c in cells if c.cell_type == "code"]
    assert code and not any(c.outputs or c.execution_count for c in code)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs(path, tmp_path, monkeypatch):
    # The kernel is a user's session: its own devices, not the eight of the tests.
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if "ANOJAX_NOTEBOOK_TINY" in path.read_text():
        monkeypatch.setenv("ANOJAX_NOTEBOOK_TINY", "1")
        # Most of the time would go to optimizing programs that run a few times.
        monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [o for c in notebook.cells for o in c.get("outputs", []) if "data" in o]
    assert any("image/png" in o["data"] for o in shown)
