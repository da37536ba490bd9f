"""Defects in the losses: which switch reaches the function, what is read from whom."""

DEFECTS = [
    (
        "losses/logits.py",
        "return functional.logit_mse(student.logits, teacher.logits, self.temperature, "
        "mean_over_classes=self.mean_over_classes)",
        "return functional.logit_mse(student.logits, teacher.logits, mean_over_classes=self.mean_over_classes)",
    ),
    (
        "losses/logits.py",
        "teacher.logits, self.temperature, mean_over_classes=self.mean_over_classes)",
        "teacher.logits, self.temperature)",
    ),
    (
        "losses/logits.py",
        "values + self._values(student.second_view.logits, batch)",
        "values + self._values(student.logits, batch)",
    ),
    (
        "losses/logits.py",
        "functional.cross_entropy(logits, target, self.label_smoothing, smoothing_over=self.smoothing_over)",
        "functional.cross_entropy(logits, target, smoothing_over=self.smoothing_over)",
    ),
    (
        "losses/logits.py",
        "return type(self).function(student.logits, teacher.logits, self.temperature, self.temperature_squared)",
        "return type(self).function(teacher.logits, student.logits, self.temperature, self.temperature_squared)",
    ),
    (
        "losses/logits.py",
        "functional.hard_label(student.logits, teacher.logits)",
        "functional.hard_label(teacher.logits, student.logits)",
    ),
    (
        "losses/logits.py",
        "student_temperature=self.student_temperature, softened=self.softened",
        "softened=self.softened",
    ),
    (
        "losses/temperature.py",
        "functional.standardise(one.logits, self.epsilon)",
        "functional.standardise(one.logits)",
    ),
    (
        "losses/temperature.py",
        "None if teacher is None else self._standardised(teacher)",
        "teacher",
    ),
    (
        "losses/temperature.py",
        "return outputs.map(lambda one: one.replace(answer=functional.standardise(one.logits, self.epsilon)))",
        "return outputs.replace(answer=functional.standardise(outputs.logits, self.epsilon))",
    ),
    ("losses/temperature.py", "        return self.loss.readings()", "        return {}"),
    (
        "losses/temperature.py",
        "torch.cat([student.logits.detach(), teacher.logits], dim=-1)",
        "torch.cat([student.logits, teacher.logits], dim=-1)",
    ),
    (
        "losses/temperature.py",
        "functional.ctkd(student.logits, teacher.logits, temperature, self.reversal)",
        "functional.ctkd(student.logits, teacher.logits, temperature)",
    ),
    (
        "losses/decoupled.py",
        "batch.labels, self.alpha, self.beta, self.temperature,\n                              temperature_squared",
        "batch.labels, self.beta, self.alpha, self.temperature,\n                              temperature_squared",
    ),
    ("losses/decoupled.py", "batch.labels, self.temperature, self.gamma)", "batch.labels, self.temperature)"),
    ("losses/decoupled.py", "rank_by_logarithm=self.rank_by_logarithm, mask=batch.weights", "mask=batch.weights"),
    (
        "losses/features.py",
        "adapted = self.connector(student.features[self.student_taps[0]])",
        "adapted = self.connector(student.features[self.student_taps[0]].detach())",
    ),
    (
        "losses/features.py",
        "self.connector = connector(student.shape[1:], teacher.shape[1:], normalise=self.normalise)",
        "self.connector = connector(student.shape[1:], teacher.shape[1:])",
    ),
    (
        "losses/features.py",
        "attention_transfer(mine, theirs, self.power, self.form)",
        "attention_transfer(mine, theirs, self.power)",
    ),
    ("losses/features.py", "start = excess + math.log(-math.expm1(-excess))", "start = self.variance"),
    ("losses/relations.py", "for n in range(len(mine) - 1))", "for n in range(len(mine) - 2))"),
    (
        "losses/relations.py",
        "self.teacher_embedding(teacher.features[self.teacher_taps[0]].flatten(1))",
        "self.student_embedding(teacher.features[self.teacher_taps[0]].flatten(1))",
    ),
    (
        "losses/relations.py",
        '{"distance_weight": self.distance_weight, "angle_weight": self.angle_weight}',
        '{"distance_weight": self.angle_weight, "angle_weight": self.distance_weight}',
    ),
    (
        "losses/crd.py",
        "memory[index] = moved(memory, index, embedding[first], self.momentum)",
        "memory[index] = moved(memory, index, embedding[first], 1 - self.momentum)",
    ),
    (
        "losses/crd.py",
        "for v, memory in ((mine, teacher_memory), (theirs, student_memory))",
        "for v, memory in ((mine, student_memory), (theirs, teacher_memory))",
    ),
    (
        "losses/crd.py",
        "rows = torch.arange(probe.train_size) if probe.train_rows is None else probe.train_rows.cpu()",
        "rows = torch.arange(probe.train_size)",
    ),
    (
        "losses/crd.py",
        "        if self.training:\n            self._remember(",
        "        if True:\n            self._remember(",
    ),
    ("losses/correlation.py", "self.temperature, self.beta, self.gamma,", "self.temperature, self.gamma, self.beta,"),
    (
        "losses/correlation.py",
        "student.second_view.logits, teacher.second_view.logits, self.temperatures,",
        "student.second_view.logits, teacher.logits, self.temperatures,",
    ),
    (
        "losses/base.py",
        'tuple(f"{name}.{number}" for number in self.fixed)',
        "self.fixed",
        {"tests": ("tests/losses/test_needs.py",)},
    ),
    (
        "losses/temperature.py",
        'self.declare(replace(loss.needs.inside("loss"), reads_logits=False))',
        'self.declare(loss.needs.inside("loss"))',
        {"tests": ("tests/losses/test_needs.py",)},
    ),
]
