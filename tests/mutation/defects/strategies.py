"""Defects in the strategies: who teaches whom, in which mode, from which view, how often."""

_ON_POLICY = ("tests/strategies/test_on_policy.py",)

DEFECTS = [
    ("strategies/base.py", "            network.train()         # networks", "            pass         # networks"),
    (
        "strategies/base.py",
        "self.epochs_done = self.current_epoch + batch_index / max(self.trainer.num_training_batches, 1)",
        "self.epochs_done = float(self.current_epoch)",
    ),
    (
        "strategies/base.py",
        "derived_seed(self.seed, self.current_epoch, self.global_rank, _DROPOUT)",
        "derived_seed(self.seed, self.global_rank, _DROPOUT)",
    ),
    (
        "strategies/base.py",
        "derived_seed(self.seed, self.current_epoch, self.global_rank, _DROPOUT)",
        "derived_seed(0, self.current_epoch, self.global_rank, _DROPOUT)",
    ),
    (
        "strategies/measured.py",
        "self._sums[name] = (total + number * (rows if counted else 0.0), count + counted)",
        "self._sums[name] = (total + number, count + 1)",
    ),
    ("strategies/base.py", "self.stepped = self.trainer.global_step != self.steps_done", "self.stepped = True"),
    (
        "strategies/base.py",
        "        return outputs.detach()\n\n    def compare",
        "        return outputs\n\n    def compare",
    ),
    (
        "strategies/base.py",
        "key=lambda name: sign * scores[name][self.task.headline.name])",
        "key=lambda name: -sign * scores[name][self.task.headline.name])",
    ),
    ("strategies/base.py", "        self._metrics.clear()  #", "        pass  #"),
    (
        "strategies/base.py",
        "outputs = outputs if second is None else outputs.with_second(second)",
        "outputs = outputs.with_second(outputs)",
    ),
    (
        "strategies/base.py",
        "loss = objective(student, None if teacher is None else teacher.detach(), rows)",
        "loss = self.objective(student, None if teacher is None else teacher.detach(), rows)",
    ),
    (
        "strategies/cohort.py",
        "            objective.advance(self.epochs_done, self.steps_done)",
        "            objective.advance(0.0)",
    ),
    ("strategies/cohort.py", "return list(self.networks()).index(name) if self._different else 0", "return 0"),
    (
        "strategies/cohort.py",
        'return self.objective if name == "student" else cast(Objective, self.objectives[name])',
        "return self.objective",
    ),
    (
        "strategies/cohort.py",
        "torch.manual_seed(derived_seed(self.seed, _CONNECTORS, number))",
        "torch.manual_seed(derived_seed(self.seed, _CONNECTORS))",
    ),
    ("strategies/cohort.py", "        self.keep = keep\n", '        self.keep = "student"\n'),
    ("strategies/online.py", 'factor = len(self.peers) if self._teachers == "sum" else 1', "factor = 1"),
    (
        "strategies/online.py",
        "[outputs for other, outputs in teaching.items() if other != name]",
        "list(teaching.values())",
    ),
    (
        "strategies/online.py",
        "            if self._turn() in (None, name):\n                average.follow",
        "            if True:\n                average.follow",
    ),
    (
        "strategies/online.py",
        "for name, average in self._each_average() if self.stepped else ():",
        "for name, average in self._each_average():",
    ),
    (
        "strategies/online.py",
        "names[self.steps_done % len(names)] if self._alternating",
        "names[self.current_epoch % len(names)] if self._alternating",
    ),
    (
        "strategies/online.py",
        "                    module.zero_grad(set_to_none=True)",
        "                    module.zero_grad(set_to_none=False)",
    ),
    (
        "strategies/kdcl.py",
        "combined(list(said.values()), self._made(rows)).detach()",
        "combined(list(said.values()), self._made(rows))",
        {"equivalent": "loss_of detaches whatever teaches, and the rules of kdlab.functional detach too"},
    ),
    ("strategies/kdcl.py", "per_sample=self._per_sample, mask=rows.weights", "mask=rows.weights"),
    (
        "strategies/kdcl.py",
        "kdcl_general_weights(errors / counted, self._ridge)",
        "kdcl_general_weights(errors / counted)",
    ),
    (
        "strategies/kdcl.py",
        'functional.kdcl_naive if self._rule == "naive" else functional.kdcl_linear',
        "functional.kdcl_linear",
    ),
    ("strategies/cotrain.py", ".scaled(taught=self._feedback)", ".scaled(taught=1.0)"),
    (
        "strategies/cotrain.py",
        "student if self._feedback else None, rows",
        "student, rows",
        {"equivalent": "without feedback the teacher's own objective has only terms that need no teacher"},
    ),
    (
        "strategies/ema.py",
        "        if self.stepped:\n            self.average.follow",
        "        if True:\n            self.average.follow",
    ),
    ("strategies/ema.py", "self._average_taps, batch, self._view)", "self._average_taps, batch)"),
    (
        "strategies/previous_checkpoint.py",
        "since = self.current_epoch + 1 - self.start",
        "since = self.current_epoch - self.start",
    ),
    ("strategies/previous_checkpoint.py", "since % self.every == 0", "since % 1 == 0"),
    (
        "strategies/ps_kd.py",
        'wide(step.outputs["student"].logits.detach()).log_softmax(-1), batch.index',
        'wide(step.outputs["student"].logits.detach()).softmax(-1), batch.index',
    ),
    ("strategies/ps_kd.py", 'getattr(torch, one_of("store", store, ("float32", "float16")))', "torch.float32"),
    (
        "strategies/dlb.py",
        '(batch.view(1), step.outputs["student"].detach())',
        '(batch, step.outputs["student"].detach())',
    ),
    (
        "strategies/dlb.py",
        "        super().on_train_epoch_start()\n        self._last = None",
        "        super().on_train_epoch_start()",
    ),
    (
        "strategies/dlb.py",
        "else first.normaliser + second.normaliser",
        "else second.normaliser",
    ),
    ("strategies/byot.py", ".scaled(labels=self.deepest_weight)", ".scaled(taught=self.deepest_weight)"),
    (
        "strategies/byot.py",
        "byot_feature(feature, deepest, positive_only=self.positive_only)",
        "byot_feature(feature, deepest, positive_only=True)",
    ),
    (
        "strategies/byot.py",
        "LossParts(taught=self.feature_weight * value, parts",
        "LossParts(taught=value, parts",
    ),
    ("strategies/byot.py", "return stages[:-1] or stages", "return stages"),
    (
        "strategies/one.py",
        "self.loss_of(said[name], ensemble, rows, self.objective_of(name)).named(name)",
        "self.loss_of(said[name], None, rows, self.objective_of(name)).named(name)",
    ),
    ("strategies/one.py", "return stages[-2] if len(stages) > 1 else stages[0]", "return stages[-1]"),
    (
        "strategies/cs_kd.py",
        "partners(target, rows, self.seed, epoch)[shuffled]",
        "partners(target, rows, self.seed)[shuffled]",
    ),
    (
        "strategies/cs_kd.py",
        "partners(target, rows, self.seed, epoch)[shuffled]",
        "partners(target, rows, 0, epoch)[shuffled]",
    ),
    (
        "strategies/cs_kd.py",
        "        with torch.no_grad():\n            return self.observe(",
        "        if True:\n            return self.observe(",
        {"equivalent": "teach detaches what is said; without no_grad it costs memory alone"},
    ),
    ("strategies/born_again.py", "self.earlier = [*earlier, self.teacher]", "self.earlier = [*earlier]"),
    (
        "strategies/optimization.py",
        'intervals = epochs_of(trainer) if self.interval == "epoch"',
        'intervals = epochs_of(trainer) if self.interval == "step"',
    ),
    ("strategies/on_policy.py", "        if drawn >= share:", "        if drawn < share:"),
    ("strategies/on_policy.py", "if self._decided is None or self._decided[0] != self.steps_done:", "if True:"),
    (
        "strategies/on_policy.py",
        "return [name for name, term in losses.items() if _learns_from_own(term)]",
        "return list(losses)",
    ),
    (
        "strategies/on_policy.py",
        "factor = self._divisor * world * self._accumulated / max(self._counted, 1.0)",
        "factor = 1.0",
    ),
    ("strategies/on_policy.py", "(max(float(count), 1.0) / world for count in counts)", "(1.0 for count in counts)"),
    ("strategies/replay.py", "rows = rows[rows[:, -1].argsort(stable=True)]", "rows = rows", {"tests": _ON_POLICY}),
    (
        "strategies/replay.py",
        "            self.reference.fill_(loss)\n        # one",
        "            pass\n        # one",
        {"tests": _ON_POLICY},
    ),
    (
        "strategies/privileged.py",
        "(before[:, None] + torch.arange(width, device=ids.device))",
        "(0 * before[:, None] + torch.arange(width, device=ids.device))",
    ),
]
