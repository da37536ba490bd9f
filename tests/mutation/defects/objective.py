"""Defects in the weighted sum, its schedules, batches and outputs."""

DEFECTS = [
    ("objective.py", "return _added(self.labels, self.taught)", "return self.labels"),
    (
        "objective.py",
        "LossParts(self.labels * labels, self.taught * taught, self.parts, self.counts)",
        "LossParts(self.labels * taught, self.taught * taught, self.parts, self.counts)",
    ),
    (
        "objective.py",
        "return LossParts(labels, taught, parts, counts)",
        "return LossParts(labels, taught * len(several), parts, counts)",
    ),
    (
        "objective.py",
        "weighted, parts = self.weights[name] * value, {name: value.detach()}",
        "weighted, parts = self.weights[name] * value, {name: self.weights[name] * value.detach()}",
    ),
    (
        "objective.py",
        "value = reduce(values, *batch.weighting(term.per, values.numel(), student.mask))",
        "value = reduce(values, batch.weighting(term.per, values.numel(), student.mask)[0])",
    ),
    (
        "objective.py",
        "value = reduce(values, *batch.weighting(term.per, values.numel(), student.mask))",
        "value = reduce(values, None, batch.weighting(term.per, values.numel(), student.mask)[1])",
    ),
    (
        "objective.py",
        'values = values.flatten() if term.per == "position" else values',
        'values = values.mean(1) if term.per == "position" else values',
    ),
    ("objective.py", 'if term.per == "batch" and values.dim():', "if False:"),
    ("batch.py", "rows_are_samples = self.sample_normaliser is None and", "rows_are_samples ="),
    (
        "batch.py",
        "return None if mask is None else mask.flatten().float(), self.position_normaliser",
        "return None if mask is None else mask.flatten().float(), self.normaliser",
    ),
    (
        "batch.py",
        "return None if mask is None else mask.flatten().float(), self.position_normaliser",
        "return None, self.position_normaliser",
    ),
    ("objective.py", "said = None if teacher is None else teacher.by_term.get(name, teacher)", "said = teacher"),
    (
        "objective.py",
        "            value = schedule.after(epoch, step)",
        "            value = schedule.after(int(epoch), step)",
    ),
    (
        "objective.py",
        "return self.weights[name] != 0 or any(True for _ in self.terms[name].parameters())",
        "return self.weights[name] > 0",
    ),
    ("objective.py", "masked = (batch.weights == 0)[:, None]", "masked = (batch.weights < 0)[:, None]"),
    (
        "objective.py",
        "[name for name, term in self.losses.items() if not term.needs_teacher], student, None, batch)",
        "self.terms, student, None, batch)",
        {"equivalent": "without a teacher the terms that need one are left out anyway"},
    ),
    (
        "schedules.py",
        "return self.start + (self.end - self.start) * done",
        "return self.end + (self.start - self.end) * done",
    ),
    ("schedules.py", "(1 + math.cos(math.pi * done)) / 2", "math.cos(math.pi * done)"),
    ("schedules.py", "(math.floor(epoch) + 1) / self.epochs", "math.floor(epoch) / self.epochs"),
    (
        "schedules.py",
        "return self.value if epoch < self.epochs else 0.0",
        "return self.value if epoch <= self.epochs else 0.0",
    ),
    ("schedules.py", "return self.end * math.exp(-5 *", "return self.end * math.exp(-2 *"),
    (
        "batch.py",
        "self.share * own + (1 - self.share) * values(self.partner_target)",
        "(1 - self.share) * own + self.share * values(self.partner_target)",
    ),
    ("batch.py", "inputs=self.further_views[number - 1]", "inputs=self.further_views[0]"),
    (
        "outputs.py",
        "second = None if self.second is None else self.second.map(change)",
        "second = self.second",
    ),
    (
        "outputs.py",
        "features = {name: value.detach() for name, value in one.features.items()}",
        "features = dict(one.features)",
    ),
]
