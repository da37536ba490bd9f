"""Defects in runs that are trained together: their step, their optimiser, their checkpoints, and which are stacked."""

STEP = {"tests": ("tests/training/test_stack.py",)}
RUNS = {"tests": ("tests/training/test_stacked_runs.py",)}
SLOW = {**RUNS, "slow": True}
KILLED = {"tests": ("tests/sweep/test_scheduler.py",)}
JOBS = {"tests": ("tests/sweep/test_stacking.py",)}

DEFECTS = [
    (
        "training/stack.py",
        "[[values[row] for row in rows] for _, _, values",
        "[[values[0] for row in rows] for _, _, values",
        STEP,
    ),
    ("training/stack.py", "one.weights.items() if weight != 0)", "one.weights.items())", STEP),
    ("training/stack.py", 'if any(not key.endswith(".weight")', 'if False and any(not key.endswith(".weight")', STEP),
    ("training/stack.py", "if len(numbers) < len(values):", "if False:", STEP),
    (
        "training/stack.py",
        "                    buffer.copy_(self.buffers[name][row])\n",
        "                    pass\n",
        RUNS,
    ),
    (
        "training/stacked_optimizer.py",
        "        self._steps += 1\n",
        "        self._steps = self._steps.clamp(min=1)\n",
        STEP,
    ),
    ("training/stacked_optimizer.py", "if not any(self._begun):", "if False:", STEP),
    ("training/stacked_optimizer.py", "elif any(decays):", "elif False:", STEP),
    ("training/stacked_optimizer.py", 'if self._option("nesterov") else buffer', "if False else buffer", STEP),
    ("training/stacked.py", "        self.schedules.write()\n", "", RUNS),
    ("training/stacked.py", "loader.sampler.set_epoch(self.epoch)", "loader.sampler.set_epoch(0)", RUNS),
    (
        "training/stacked.py",
        "fit.epoch_progress.current.completed = self.epoch",
        "fit.epoch_progress.current.completed = epochs",
        RUNS,
    ),
    ("training/stacked.py", "            if active != stacked:\n", "            if not stacked:\n", RUNS),
    ("training/trial.py", "if faster < LEAST and not always:", "if False:", RUNS),
    ("training/trial.py", "1.0 if weight == 0 and objective.counts(name) else weight", "weight", STEP),
    ("training/trial.py", "return found if math.isfinite(found) else math.inf", "return found", STEP),
    ("training/ensure_stacked.py", "fit_stacked(members, trial.together)", "fit_stacked(members)", RUNS),
    ("training/ensure_stacked.py", "            locks.enter_context(locked(", "            (locked(", RUNS),
    ("training/ensure_stacked.py", "saved = one.saved_before + one.saved", "saved = one.saved", RUNS),
    ("training/ensure_stacked.py", "one.member.of_all and stopped is None", "False", RUNS),
    ("training/ensure_stacked.py", "if len(opened_runs) < 2:", "if False:", RUNS),
    ("training/stacked.py", "        if not self.asked[row]:\n", "        if False:\n", RUNS),
    ("sweep/scheduler.py", "if len(worker.jobs) > 1 and left:", "if worker.apart and left:", KILLED),
    ("sweep/stacking.py", 'key=lambda job: job.config["seed"]', "key=lambda job: 0", JOBS),
    ("sweep/stacking.py", "tuple(earlier.place for earlier in job.earlier)", "()", JOBS),
    ("sweep/stacking.py", 'not in ("lr", "weight_decay")', 'not in ("lr", "weight_decay", "eps")', JOBS),
]
