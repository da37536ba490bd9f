"""kdlab's losses against the numbers of the authors' own code: value and every gradient, 1e-8 relative in float64.

The cases in ``cases/`` are always read; those of the folder that KDLAB_GOLDEN names, in the same format, too.
"""

import os
from pathlib import Path

import pytest

from .cases import compare, load
from .mappings import ENTRIES

FOLDERS = {
    "here": Path(__file__).parent / "cases",
    **({"elsewhere": Path(os.environ["KDLAB_GOLDEN"])} if os.environ.get("KDLAB_GOLDEN") else {}),
}
CASES = [
    pytest.param(where, case, id=f"{where}-{Path(case.entry['file']).stem}")
    for where, folder in FOLDERS.items()
    for case in load(folder)
]


@pytest.mark.parametrize("where, case", CASES)
def test_golden(where, case):
    mapping = ENTRIES.get(case.entry["method"])
    if mapping is None:
        assert where == "elsewhere", "a case of ours has no mapping"
        pytest.skip(f"no mapping for {case.entry['method']}")
    compare(case, mapping(case))
