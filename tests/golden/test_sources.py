"""What the index claims to be verified, is; and everything that is verified is claimed."""

import json
from pathlib import Path

from kdlab.functional.sources import COMMITS
from kdlab.methods import index

from .mappings import ENTRIES

CASES = json.loads((Path(__file__).parent / "cases" / "index.json").read_text())
SOURCES = {case["method"]: case["source"] for case in CASES}
CLAIMED = {
    entry: repository
    for method in index().values()
    for repository, entries in method.claims.items()
    for entry in entries.split()
}


def test_every_claim_has_its_case_and_its_mapping():
    assert sorted(set(CLAIMED) - set(SOURCES)) == [] and sorted(set(CLAIMED) - set(ENTRIES)) == []


def test_every_case_is_claimed_by_a_method():
    assert sorted(set(SOURCES) - set(CLAIMED)) == []


def test_repository_and_commit_are_those_of_the_case():
    for entry, repository in CLAIMED.items():
        source = SOURCES[entry]
        if source["repo"] is not None:
            assert (source["repo"], source["commit"]) == (repository, COMMITS[repository]), entry
