"""Prints the size of the contract: losses x properties."""

import re


def pytest_terminal_summary(terminalreporter):
    counts, methods, properties = {}, set(), set()
    for outcome in ("passed", "failed", "skipped"):
        found = [
            re.search(r"contract/test_(?:functions|modules)\.py::test_(\w+)\[(.+)\]$", report.nodeid)
            for report in terminalreporter.stats.get(outcome, [])
            if hasattr(report, "nodeid")
        ]
        found = [match for match in found if match]
        counts[outcome] = len(found)
        methods |= {match[2].split("/")[0] for match in found}
        properties |= {match[1] for match in found}
    if methods:
        terminalreporter.write_line(
            f"contract: {len(methods)} losses x {len(properties)} properties: {counts['passed']} hold, "
            f"{counts['failed']} fail, {counts['skipped']} do not apply"
        )
