"""Prints how many golden cases passed."""


def pytest_terminal_summary(terminalreporter):
    counts = {}
    for name in ("passed", "failed", "skipped"):
        reports = [report for report in terminalreporter.stats.get(name, []) if hasattr(report, "nodeid")]
        counts[name] = sum("test_golden.py::test_golden[" in report.nodeid for report in reports)
    if any(counts.values()):
        terminalreporter.write_line(
            f"golden: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} without a mapping"
        )
