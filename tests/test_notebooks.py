"""The notebooks: as they stand in the repository, and executed."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# a folder of whoever executed it last
ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|opt|var|work|mnt|Users)/|[A-Z]:\\\\")


def outputs(book):
    """Number of the cell and output, one after the other."""
    return [
        (number, output)
        for number, cell in enumerate(book.cells)
        if cell.cell_type == "code"
        for output in cell.outputs
    ]


def kinds(book) -> list[tuple]:
    """Number of the cell, kind of output, kinds of data. A stream is one however many pieces it came in: the kernel
    sends it by a timer."""
    found = []
    for number, output in outputs(book):
        kind = (number, output.output_type, output.get("name"), sorted(output.get("data", {})))
        if output.output_type != "stream" or kind not in found:
            found.append(kind)
    return found


def problems(book) -> list[str]:
    """What must not stand in a notebook's outputs."""
    found = []
    for number, output in outputs(book):
        text = str(output)
        found += [
            f"cell {number}: {what}"
            for what, there in {
                "an error": output.output_type == "error",
                "standard error": output.get("name") == "stderr",
                "a warning": "warning" in text.lower(),
                "an absolute path": ABSOLUTE.search(text) is not None,
            }.items()
            if there
        ]
    return found


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["01_quickstart", "02_compare", "03_your_own_method", "04_library"]


def test_problems_are_found():
    def book(**output):
        return nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output(**output)])]
        )

    assert problems(book(output_type="stream", name="stdout", text="runs/quickstart, and a/b or 1/2")) == []
    assert problems(book(output_type="stream", name="stderr", text="x")) == ["cell 0: standard error"]
    assert problems(book(output_type="stream", text="/home/me/runs")) == ["cell 0: an absolute path"]
    assert problems(book(output_type="stream", text="UserWarning: old")) == ["cell 0: a warning"]
    assert problems(book(output_type="error", ename="ValueError", evalue="1", traceback=[])) == ["cell 0: an error"]


def test_kinds_do_not_hang_on_the_kernels_timer():
    def book(*texts):
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in texts]
        result = nbformat.v4.new_output("execute_result", data={"text/plain": "1"})
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[*outputs, result])])

    assert (
        kinds(book("a", "b", "c"))
        == kinds(book("abc"))
        == [(0, "stream", "stdout", []), (0, "execute_result", None, ["text/plain"])]
    )
    assert kinds(book()) != kinds(book("abc"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_as_it_is_kept(path):
    """GitHub shows what is in the file: so it holds the outputs of one execution from top to bottom, and nothing of the
    machine."""
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert problems(book) == []
    assert book.cells[0].source.startswith("# ") and sum(bool(cell.outputs) for cell in code) >= len(code) / 2
    assert set(book.metadata) == {"kernelspec", "language_info"} and all(not cell.metadata for cell in book.cells)
    assert path.stat().st_size < 500_000
    for cell in book.cells:
        for link in re.findall(r"\]\(([^)#:]+)\)", cell.source) if cell.cell_type == "markdown" else []:
            assert (path.parent / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """In an empty folder, with this checkout's code, from nothing; every cell gives the kinds of output that stand in
    the file."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(path, as_version=4)
    kept = kinds(book)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}, coalesce_streams=True
    ).execute()
    assert kinds(book) == kept
    assert problems(book) == [] and any((tmp_path / "runs").rglob("run.json"))
