"""Defects in comparisons: pairing, tests, corrections, directions, roles."""

DEFECTS = [
    ("compare/statistics.py", "known.std(ddof=1) / n**0.5", "known.std() / n**0.5"),
    ("compare/statistics.py", "special.stdtrit(n - 1, (1 + confidence) / 2)", "special.stdtrit(n - 1, confidence)"),
    ("compare/statistics.py", "special.stdtrit(n - 1, (1 + confidence) / 2)", "special.ndtri((1 + confidence) / 2)"),
    ("compare/statistics.py", "over = interval(first - second)", "over = interval(second - first)"),
    ("compare/statistics.py", "p=float(2 * special.stdtr(n - 1, -abs(t)))", "p=float(special.stdtr(n - 1, -abs(t)))"),
    ("compare/statistics.py", "* np.arange(len(each), 0, -1)), 1.0)", "* 1), 1.0)"),
    (
        "compare/statistics.py",
        "np.maximum.accumulate(each[order] * np.arange(len(each), 0, -1))",
        "(each[order] * np.arange(len(each), 0, -1))",
    ),
    (
        "compare/statistics.py",
        "tested = {key: one.p for key, one in zip(keys, found) if one.p is not None}",
        "tested = {(key, number): one.p for number, (key, one) in enumerate(zip(keys, found)) if one.p is not None}; "
        "keys = [(key, number) for number, key in enumerate(keys)]",
    ),
    (
        "compare/statistics.py",
        "verdict = BETTER if (one.mean > 0) == higher_is_better else WORSE",
        "verdict = BETTER if one.mean > 0 else WORSE",
    ),
    ("compare/statistics.py", "smallest_effect(one.n, LEVEL / comparisons)", "smallest_effect(one.n, LEVEL)"),
    ("compare/statistics.py", "equal_var=False", "equal_var=True"),
    (
        "compare/statistics.py",
        "common = [seed for seed in row if seed in baseline]",
        "common = list(row)[:len(baseline)]",
    ),
    ("compare/statistics.py", "np.exp(special.gammaln(m / 2) - special.gammaln((m - 1) / 2)) / (m / 2) ** 0.5", "1.0"),
    ("compare/statistics.py", "if p_adjusted < LEVEL:", "if one.p < LEVEL:"),
    ("compare/baseline.py", "gap = row.teacher - sum(start) / len(start)", "gap = row.teacher"),
    ("compare/baseline.py", "(gap if higher_is_better else -gap) > noise", "gap > noise"),
    ("compare/baseline.py", "row is not baseline and row.role != TEACHER and", "row is not baseline and"),
    ("compare/baseline.py", "return alone[0] if len(alone) == 1 else None", "return alone[0] if alone else None"),
    (
        "compare/rows.py",
        "retention=last.mean / teacher if shared and last and teacher else None",
        "retention=teacher / last.mean if shared and last and teacher else None",
    ),
    (
        "compare/rows.py",
        "score, shared = teachers.of(group), report.is_share(metric)",
        "score, shared = teachers.of(group), True",
    ),
    (
        "compare/rows.py",
        "return next(iter(shared)) if len(shared) == 1 else None",
        "return next(iter(shared)) if shared else None",
    ),
    ("compare/rows.py", '_interval(tested(record, f"{metric}_best") for record in records), values', "last, values"),
    (
        "compare/rows.py",
        "return sum(own) / len(own) if len(own) == len(group.records) else None",
        "return sum(own) / len(own)",
    ),
    (
        "tasks/metric.py",
        'Metric("ece", False, "share")',
        'Metric("ece", True, "share")',
    ),
    ("tasks/metric.py", 'plain = rest.removesuffix("_best")', "plain = rest"),
    (
        "compare/records.py",
        "    if len(found) > 1:",
        "    if len(found) > 9:",
    ),
    ("compare/records.py", "return value if value is not None and math.isfinite(value) else None", "return value"),
    ("compare/collect.py", 'if finished and record["hash"] in seen:', "if False:"),
    (
        "compare/collect.py",
        'return VARIANT if record.get("uses_teacher") or record.get("taught") else BASELINE',
        'return VARIANT if record.get("uses_teacher") else BASELINE',
    ),
    (
        "compare/collect.py",
        'finished = record["status"] == FINISHED',
        'finished = record["status"] in (FINISHED, INTERRUPTED)',
    ),
    (
        "compare/collect.py",
        'return not all(learner["student"] == run.config["student"] and',
        'return not any(learner["student"] == run.config["student"] and',
    ),
    ("compare/columns.py", "p_text(row.difference.p_adjusted", "p_text(row.difference.p"),
    (
        "compare/table.py",
        "compare_with(rows, chosen, report.higher_is_better(metric))",
        "compare_with(rows, chosen, True)",
    ),
]
