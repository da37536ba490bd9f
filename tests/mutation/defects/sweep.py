"""Defects in sweeps: what is found, tried again, shared, pruned and told."""

DEFECTS = [
    (
        "sweep/search.py",
        '"maximize" if report.higher_is_better(self.objective) else "minimize"',
        '"minimize" if report.higher_is_better(self.objective) else "maximize"',
    ),
    (
        "sweep/search.py",
        "seed = _optuna(), derived_seed(self.seed, number) % 2**32",
        "seed = _optuna(), derived_seed(number) % 2**32",
    ),
    (
        "sweep/search.py",
        "seed = _optuna(), derived_seed(self.seed, number) % 2**32",
        "seed = _optuna(), derived_seed(self.seed) % 2**32",
    ),
    (
        "sweep/search.py",
        "self.total = max(self._wanted - self._asked, 0) + len(self._begun)",
        "self.total = self._wanted",
    ),
    (
        "sweep/search.py",
        "return not self._begun and self._asked >= self._wanted",
        "return not self._begun and self._asked > self._wanted",
    ),
    ("sweep/search.py", "return not trial.should_prune()", "return True"),
    ("sweep/search.py", "        if outcome.status == PRUNED:\n", "        if outcome.status == FAILED:\n"),
    ("sweep/search.py", "if trial is None or outcome.status == INTERRUPTED:", "if trial is None:"),
    ("sweep/search.py", 'log="log" in value.tags', "log=False"),
    ("sweep/search.py", "start + (stop - 1 - start) // step * step", "stop"),
    ("sweep/search.py", "            self._study.tell(trial, state=self._states.FAIL)\n", ""),
    ("sweep/search.py", "n_startup_trials=self.startup_trials, seed=seed", "seed=seed"),
    (
        "sweep/search.py",
        'not str(objective).startswith(("val/", "train/"))',
        'not str(objective).startswith(("val/", "train/", "test/"))',
    ),
    ("sweep/scheduler.py", "status = FOUND if first.status == TRAINED else first.status", "status = FOUND"),
    ("sweep/scheduler.py", 'if run.finished and not job.config["fresh"]:', "if run.finished:"),
    (
        "sweep/scheduler.py",
        "            if outcome.status not in DONE:\n",
        "            if outcome.status == REFUSED:\n",
    ),
    ("sweep/scheduler.py", "job.attempts <= self.retry", "job.attempts < self.retry"),
    ("sweep/scheduler.py", "        self.slots.give(worker.grant)\n", ""),
    ("sweep/scheduler.py", "job.attempts, job.stack = job.attempts - 1, []", "job.stack = []"),
    (
        "sweep/scheduler.py",
        "if self.fail_fast and any(outcome.status in (FAILED, REFUSED)",
        "if any(outcome.status in (FAILED, REFUSED)",
    ),
    ("sweep/scheduler.py", "self.outcomes += [Outcome(job, NOT_STARTED) for job in waiting]", "pass"),
    ("sweep/scheduler.py", "if run.status == RUNNING and not run.being_trained:", "if False:"),
    ("sweep/slots.py", "min(need.threads * need.world, self.cores)", "min(need.threads, self.cores)"),
    ("sweep/slots.py", "self._granted >= self.workers", "self._granted > self.workers"),
    (
        "sweep/slots.py",
        "key=lambda device: (-self._room[device], device)",
        "key=lambda device: (self._room[device], device)",
    ),
    ("sweep/slots.py", "            self._room[device] += 1", "            self._room[device] += 0"),
    ("sweep/view.py", "rounds = remaining / max(at_work, 1)", "rounds = remaining"),
    (
        "sweep/view.py",
        "done = self.counts[TRAINED] + self.counts[FOUND] + self.counts[PRUNED]",
        "done = self.counts[TRAINED] + self.counts[FOUND]",
    ),
    ("sweep/plan.py", 'not config.get("fresh") and (run := known.finished', "(run := known.finished"),
    ("sweep/job.py", "DONE = (TRAINED, FOUND, PRUNED)", "DONE = (TRAINED, FOUND, PRUNED, FAILED)"),
]
