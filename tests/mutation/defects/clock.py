"""Defects in the clock of a training: its length, where rows end, and the resume inside an epoch."""

ROWS = {"tests": ("tests/training/test_clock.py::test_rows_end_where_they_should",)}
KILLED = "tests/training/test_clock_resume.py::test_killed_inside_an_epoch_it_ends_with_the_same_bits"

DEFECTS = [
    (
        "training/clock.py",
        "                cast(Any, _Loop.restarting).fset(fit, False)",
        "                pass",
        {"tests": (f"{KILLED}[epochs that steps end]",)},
    ),
    (
        "training/clock.py",
        '"strategy": module.inside_epoch()',
        '"strategy": {}',
        {"tests": (f"{KILLED}[the last batch]",)},
    ),
    ("training/clock.py", "                module.follow_metric()\n", "", {"tests": ("tests/training/test_clock.py",)}),
    ("training/clock.py", "trainer.global_step % self.every == 0", "trainer.global_step % self.every == 1", ROWS),
    (
        "training/clock.py",
        "or (last and 0 < (trainer.max_epochs or 0) <= trainer.current_epoch + 1)",
        "or (last and 0 < trainer.max_epochs <= trainer.current_epoch)",
        ROWS,
    ),
    (
        "training/clock.py",
        "or (steps_are_done(trainer) and epoch._should_check_val_epoch())",
        "or False",
        ROWS,
    ),
    (
        "training/clock.py",
        "not torch.equal(self._next, batch.index.cpu())",
        "False",
        {"tests": ("tests/training/test_clock_resume.py::test_data_that_begin_again_fail_the_run",)},
    ),
    (
        "strategies/base.py",
        "            random_numbers.restore(self._random)",
        "            pass",
        {"tests": (f"{KILLED}[the last batch]",)},
    ),
    (
        "strategies/optimization.py",
        "limits.append(math.ceil(max_steps",
        "limits.append(math.floor(max_steps",
        {"tests": ("tests/training/test_clock.py::test_the_horizon_of_a_learning_rate",)},
    ),
    (
        "strategies/optimization.py",
        '"strict": False,',
        '"strict": True,',
        {
            "tests": (
                "tests/training/test_clock.py::test_an_epoch_without_validation_does_not_move_a_rate_that_waits_for_a_metric",
            )
        },
    ),
    (
        "data/loader.py",
        "if number < self.sampler.batches_done:",
        "if number < 0:",
        {"tests": ("tests/training/test_clock_resume.py::test_batches_that_are_done_are_not_loaded",)},
    ),
    ("schedules.py", "self.of, self.unit = of, of.unit", "self.of = of", {"tests": ("tests/test_schedules.py",)}),
]
