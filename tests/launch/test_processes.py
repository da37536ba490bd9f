"""Warm processes: their parent has imported what they need."""

import gc
import sys
from importlib.util import find_spec

from kdlab.launch import processes


def tell(line) -> None:
    """What a warm process finds when it starts."""
    line.send((set(sys.modules), gc.get_freeze_count(), gc.isenabled()))


def test_a_warm_process_has_imported_everything_before_it_starts(monkeypatch):
    monkeypatch.syspath_prepend(str(__file__).rpartition("/")[0])
    mine, its = processes.context().Pipe(duplex=False)
    process = processes.start(tell, its)
    assert mine.poll(120)
    modules, frozen, collects = mine.recv()
    process.join(30)
    assert {name for name in processes.PRELOAD if find_spec(name) is not None} <= modules
    assert frozen > 100_000 and collects, "its garbage is collected, not that of the imports"
