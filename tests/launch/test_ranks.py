"""What the launcher of several ranks makes of their answers."""

import threading
from pathlib import Path

import pytest

from kdlab.errors import DataDamaged
from kdlab.launch import processes
from kdlab.launch.ranks import fit_in_ranks


def _answering(answer):
    """A line to a rank that answers so to what it is to train, and ends when it is told."""
    line, far_end = processes.context().Pipe()

    def rank():
        far_end.recv()
        far_end.send(answer)
        far_end.recv()
        far_end.close()

    threading.Thread(target=rank, daemon=True).start()
    return line


def test_damaged_data_stay_damaged_data():
    """With them a run cannot be resumed, so they must not become just any error."""
    line = _answering(DataDamaged("data: x.png cannot be read", reason="broken"))
    with pytest.raises(DataDamaged, match=r"^data: x\.png cannot be read$") as found:
        fit_in_ranks("nowhere:fit", {}, Path("nowhere"), 1, ranks=[line])
    assert found.value.reason == "broken"


def test_another_failure_names_the_rank():
    with pytest.raises(RuntimeError, match=r"^rank 0: ValueError: no\nTraceback\nValueError: no$"):
        fit_in_ranks("nowhere:fit", {}, Path("nowhere"), 1, ranks=[_answering("Traceback\nValueError: no")])
