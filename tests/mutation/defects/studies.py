"""Defects in studies: expectations, reruns, records, curves."""

DEFECTS = [
    (
        "studies/expectations.py",
        "abs(found.mean - one.value) <= (one.tolerance or 0.0) + 1e-12",
        "abs(found.mean - one.value) <= 2 * (one.tolerance or 0.0) + 1e-12",
    ),
    (
        "studies/expectations.py",
        "abs(found.mean - one.value) <= (one.tolerance or 0.0) + 1e-12",
        "found.mean - one.value <= (one.tolerance or 0.0) + 1e-12",
    ),
    ("studies/expectations.py", "dict.fromkeys(gains, one.by))", "dict.fromkeys(gains, 0.0))"),
    ("studies/expectations.py", "sign = 1 if one.above else -1", "sign = 1"),
    ("studies/expectations.py", "if p is None or p >= LEVEL:", "if p is None:"),
    ("studies/expectations.py", "return HOLDS if excess > 0 else MISSES", "return MISSES if excess > 0 else HOLDS"),
    (
        "studies/expectations.py",
        "self.verdict == UNKNOWN or self.verdict == MISSES and not self.expectation.explained",
        "self.verdict == MISSES and not self.expectation.explained",
    ),
    (
        "studies/expectations.py",
        "self.verdict in (HOLDS, BY_SIGN) or self.verdict in (MISSES, AGAINST) and bool(self.expectation.explained)",
        "self.verdict in (HOLDS, BY_SIGN)",
    ),
    ("studies/expectations.py", "sum(width**2 for width in halves) ** 0.5", "sum(halves)"),
    ("studies/expectations.py", 'in record["rows"] and record["status"] == FINISHED]', 'in record["rows"]]'),
    ("studies/records.py", "logits[:, number] += amount", "logits[:, number] -= amount"),
    (
        "studies/records.py",
        '        suffix = "" if which == "last" else "_best"\n        if view:',
        '        suffix = ""\n        if view:',
    ),
    ("studies/records.py", "right = logits.argmax(-1) == target", "right = predictions[name].argmax(-1) == target"),
    (
        "studies/records.py",
        'logits, target = predictions[name].clone(), predictions["target"]',
        'logits, target = predictions[name], predictions["target"]',
    ),
    ("studies/records.py", 'if asked not in [record["overrides"], *record.get("also", [])]:', "if False:"),
    ("studies/curves.py", "for epoch in sorted(set.intersection(*map(set, seeds))):", "for epoch in sorted(seeds[0]):"),
    (
        "studies/curves.py",
        "(sum(values) / len(values), min(values), max(values))",
        "(sum(values) / len(values), max(values), min(values))",
    ),
    ("studies/curves.py", "[] if rows == named else", "[] if set(rows) <= set(named) else"),
    (
        "studies/study.py",
        "return sorted(self.rows, key=lambda row: row.name != self.baseline)",
        "return list(self.rows)",
    ),
    ("studies/study.py", 'return (*self.overrides, f"seed={seed}")', 'return (*self.overrides, "seed=1")'),
    (
        "studies/expansion.py",
        "texts = [next(values) if override in sweeps else str(override.input_line) for override in parsed]",
        "texts = list(job)",
    ),
    ("studies/results.py", "        elif found != part:\n", "        elif not part.startswith(found[:40]):\n"),
    (
        "studies/tables.py",
        'finished = [record for record in own[row.name] if record["status"] == FINISHED]',
        "finished = own[row.name]",
    ),
    (
        "studies/tables.py",
        "return table_of(found, one.metric, one.baseline, notes, one.further, strict=False)",
        "return table_of(found, one.metric, None, notes, one.further, strict=False)",
    ),
    (
        "studies/training.py",
        'if "=" not in text or key not in FREE and not key.startswith(LAUNCHER):',
        'if "=" not in text:',
    ),
    (
        "studies/training.py",
        "or not chosen[job.digest].run.finished and job.run.finished:",
        "or job.run.finished:",
        {"equivalent": "both runs are finished and have one hash: their results are the same"},
    ),
]
