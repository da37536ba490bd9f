"""Defects in the direct step: what it leaves out of Lightning's own."""

STEP = {"tests": ("tests/training/test_direct_step.py::test_it_is_lightnings_step",)}
LOGGERS = {"tests": ("tests/training/test_direct_step.py::test_loggers_get_the_same_numbers",)}
MUST = {"tests": ("tests/training/test_direct_step.py::test_lightning_steps_where_it_must",)}

DEFECTS = [
    ("training/direct_step.py", "        if trainer.gradient_clip_val:\n", "        if False:\n", STEP),
    ("training/direct_step.py", "        optimizer.zero_grad()\n", "", STEP),
    ("training/direct_step.py", "        if self._rate_moves:\n", "        if False:\n", STEP),
    ("training/direct_step.py", "        if epoch._num_ready_batches_reached():\n", "        if False:\n", STEP),
    ("training/direct_step.py", "        with self._context():\n", "        if True:\n", STEP),
    ("training/direct_step.py", "            and trainer.max_steps == -1\n", "", STEP),
    ("training/direct_step.py", '        hooks["on_after_backward"]()\n', "", STEP),
    ("training/direct_step.py", "        self._epoch._batches_that_stepped += 1", "        pass", LOGGERS),
    ("training/direct_step.py", "        logged.update_train_step_metrics()\n", "", LOGGERS),
    ("training/direct_step.py", "    if trainer.accumulate_grad_batches != 1:\n", "    if False:\n", MUST),
    (
        "training/direct_step.py",
        "            raise EndedEarly(SKIPPED)\n",
        "            pass\n",
        {"tests": ("tests/training/test_direct_step.py::test_a_hook_that_ends_an_epoch_fails_the_run",)},
    ),
]
