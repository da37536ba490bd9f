"""Defects in teachers: modes, weights, averages, normalisation."""

ROUTED = {"tests": ("tests/teachers/test_routed.py",)}
COLUMNS = {"tests": ("tests/data/text/test_kept_columns.py",)}

DEFECTS = [
    (
        "teachers/frozen.py",
        "self.network = network.eval().requires_grad_(False)",
        "self.network = network.requires_grad_(False)",
    ),
    ("teachers/frozen.py", "self.network = network.eval().requires_grad_(False)", "self.network = network.eval()"),
    ("teachers/frozen.py", "self._convert = given.onto(normalisation)", "self._convert = normalisation.onto(given)"),
    (
        "teachers/frozen.py",
        "further_views=tuple(map(self._convert, batch.further_views))",
        "further_views=batch.further_views",
    ),
    (
        "teachers/frozen.py",
        "self.network.to(torch.float32).load_state_dict(self._exact, assign=True)",
        "self.network.to(torch.float32)",
    ),
    ("teachers/ensemble.py", "name: weight / sum(weights)", "name: weight"),
    (
        "teachers/ensemble.py",
        "(answers.log_softmax(-1) + weights.log()).logsumexp(0)",
        "(answers + weights.log()).logsumexp(0)",
    ),
    ("teachers/ensemble.py", "chosen = errors.argmin(0)", "chosen = errors.argmax(0)"),
    ("teachers/ensemble.py", 'if self.average == "best" and batch.split == "train":', 'if self.average == "best":'),
    ("teachers/ensemble.py", "return Outputs((weights * answers).sum(0))", "return Outputs(answers.mean(0))"),
    ("teachers/average.py", "return super().train(False)", "return super().train(mode)"),
    ("teachers/average.py", "towards = step.clamp(min=1 - self.decay)", "towards = step.clamp(min=self.decay)"),
    ("teachers/average.py", "step = 1 / (self.steps.to(torch.float64) + 1)", "step = 1 / self.steps.to(torch.float64)"),
    ("teachers/average.py", "                value.copy_(theirs[name])", "                pass"),
    ("teachers/average.py", "copy.deepcopy(network).requires_grad_(False)", "network.requires_grad_(False)"),
    (
        "teachers/per_term.py",
        "said = {name: self.members[name].teach(batch) for name in dict.fromkeys(self.terms[term] for term in asking)}",
        "said = {name: self.members[next(iter(self.members))].teach(batch) for name in dict.fromkeys(self.terms[term] "
        "for term in asking)}",
    ),
    (
        "teachers/per_term.py",
        "for term, theirs in self.terms.items() if theirs == name for tap",
        "for term, theirs in self.terms.items() for tap",
    ),
    (
        "teachers/per_term.py",
        "asking = [term for term in self.terms if term in self._asking()] or list(self.terms)",
        "asking = list(self.terms)",
    ),
    ("teachers/normalisation.py", "[value / scale for value in std]", "[value * scale for value in std]"),
    (
        "training/teacher_record.py",
        "elif chance.p_value() > 0.01:",
        "elif chance.p_value() < 0.01:",
    ),
    (
        "training/teacher.py",
        "return run.network(one.which), run.network_config(one.which)",
        'return run.network("last"), run.network_config(one.which)',
    ),
    (
        "training/teacher.py",
        'load_student(network, path, content, run.kept(path.stem)["module"])',
        "load_student(network, path, content)",
    ),
    ("training/teacher_record.py", 'for key in ("validation", "split_seed") if', 'for key in ("validation",) if'),
    (
        "teachers/base.py",
        "self.watch({tap for read in taps.values() for tap in read})",
        "self.watch(set())",
        {"tests": ("tests/teachers/test_teachers.py",)},
    ),
    (
        "training/unable.py",
        "owners = [(one.members[name], member) for name, member in teacher.members.items()]",
        "owners = list(zip(one.members.values(), teacher.members.values()))",
        {"tests": ("tests/training/test_unable.py",)},
    ),
    ("teachers/routed.py", "members[number].teach(batch.take(places))", "members[0].teach(batch.take(places))", ROUTED),
    ("teachers/routed.py", 'self.HELD_OUT_OF.get(split, "")', '""', ROUTED),
    ("teachers/routed.py", "if bool((found < 0).any()):", "if False:", ROUTED),
    ("teachers/joined.py", "found[places] = value.to(kind)", "found[: len(value)] = value.to(kind)", ROUTED),
    ("teachers/joined.py", "width + 1), number, dtype=kind)", "width + 1), 0, dtype=kind)", ROUTED),
    ("teachers/joined.py", '"log_probabilities": -math.inf', '"log_probabilities": 0.0', ROUTED),
    (
        "teachers/joined.py",
        "names = [name for name in held[0] if all(",
        "names = [name for name in held[1] if any(",
        ROUTED,
    ),
    ("data/text/stored.py", "else self.origins[rows],", "else self.origins[: len(rows)],", COLUMNS),
    ("data/text/rows.py", "[values[row] for row in kept] if len(values)", "values if len(values)", COLUMNS),
]
