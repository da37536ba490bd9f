"""The table of known defects names tests that exist."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent


def test_each_known_defect_has_a_test():
    lines = (FOLDER / "DEFECTS.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| \d", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 24))
    missing = []
    for number, *_, named in rows:
        if int(number) == 17:  # see the table
            continue
        for one in named.split(", "):
            file, _, test = one.partition("::")
            text = (FOLDER / file).read_text(encoding="utf-8")
            missing += [] if re.search(rf"^def {test}\(", text, re.MULTILINE) else [one]
    assert missing == []
