"""Which tests are the nearest to a file: those that ought to notice a defect in it."""

from __future__ import annotations

from pathlib import PurePosixPath

CONTRACT = tuple(
    f"tests/contract/test_functions.py::test_{name}" for name in ("reference", "equality", "gradients", "mask")
)
MODULES = ("tests/losses", "tests/contract/test_modules.py")

#: file, or folder with / at its end, below kdlab/ -> what pytest is given; the longest that fits counts
NEAREST: dict[str, tuple[str, ...]] = {
    "functional/": ("tests/functional", *CONTRACT, "tests/golden"),
    "losses/": MODULES,
    "objective.py": ("tests/test_objective.py", "tests/test_schedules.py", "tests/losses/test_losses.py"),
    "schedules.py": ("tests/test_schedules.py",),
    "batch.py": ("tests/test_batch.py",),
    "outputs.py": ("tests/test_outputs.py",),
    "counter.py": ("tests/test_counter.py",),
    "metrics.py": ("tests/test_metrics.py", "tests/measure/test_alignment.py"),
    "normalisation.py": ("tests/teachers/test_normalisation.py", "tests/data/images/test_memory.py"),
    "tasks/": ("tests/tasks", "tests/test_metrics.py"),
    "strategies/base.py": tuple(
        f"tests/strategies/test_{name}.py"
        for name in ("base", "hooks", "steps", "guard_rails", "rails", "every_strategy")
    ),
    "strategies/measured.py": tuple(f"tests/strategies/test_{name}.py" for name in ("base", "hooks", "steps", "rails")),
    "strategies/cohort.py": tuple(f"tests/strategies/test_{name}.py" for name in ("online", "kdcl", "steps", "rails")),
    "strategies/optimization.py": ("tests/strategies/test_guard_rails.py", "tests/strategies/test_every_strategy.py"),
    **{
        f"strategies/{name}.py": (f"tests/strategies/test_{name}.py", "tests/strategies/test_arguments.py")
        for name in (
            "class_wise",
            "collaborative",
            "cotrained",
            "last_batch",
            "mean_teacher",
            "one",
            "online",
            "own_teacher",
            "previous_checkpoint",
            "progressive",
        )
    },
    "strategies/born_again.py": (
        "tests/strategies/test_arguments.py",
        "tests/training/test_chains.py",
        "tests/training/test_measured.py",
    ),
    "data/images/augment.py": ("tests/data/images/test_augment.py",),
    "data/base.py": (
        "tests/data/images/test_memory.py",
        "tests/data/test_data_arguments.py",
        "tests/data/images/test_mixing.py",
    ),
    "data/images/memory.py": ("tests/data/images/test_memory.py",),
    "data/loader.py": (
        "tests/data/images/test_memory.py",
        "tests/data/test_groups.py",
        "tests/strategies/test_hooks.py",
    ),
    "data/images/mixing.py": ("tests/data/images/test_mixing.py",),
    "data/images/crops.py": ("tests/data/images/test_crops.py", "tests/data/images/test_image_folder.py"),
    "data/images/image_folder.py": ("tests/data/images/test_image_folder.py",),
    "teachers/": ("tests/teachers",),
    "teachers/average.py": ("tests/teachers/test_average.py",),
    "teachers/per_term.py": ("tests/teachers/test_per_term.py",),
    "teachers/normalisation.py": ("tests/teachers/test_normalisation.py",),
    "training/teacher.py": (
        "tests/training/test_results.py",
        "tests/training/test_kept.py",
        "tests/training/test_ensure.py",
        "tests/teachers",
    ),
    "training/teacher_record.py": ("tests/training/test_results.py", "tests/training/test_ensure.py"),
    "training/results.py": (
        "tests/training/test_results.py",
        "tests/training/test_measured.py",
        "tests/training/test_kept.py",
    ),
    "runs/run.py": ("tests/runs/test_identity.py", "tests/training/test_results.py"),
    "runs/identity.py": ("tests/runs/test_identity.py", "tests/runs/test_files.py"),
    "config/keys.py": ("tests/runs/test_identity.py",),
    "training/recorder.py": (
        "tests/training/test_results.py",
        "tests/training/test_resume.py",
        "tests/training/test_measured.py",
    ),
    "runs/checkpoints.py": (
        "tests/training/test_kept.py",
        "tests/runs/test_files.py",
        "tests/strategies/test_online.py",
    ),
    "runs/files.py": ("tests/runs/test_files.py", "tests/runs/test_identity.py"),
    "runs/known.py": ("tests/runs/test_known.py",),
    "runs/curve.py": (
        "kdlab/runs/curve.py",
        "tests/training/test_resume.py",
        "tests/compare/test_figures.py",
        "tests/studies/test_reproduce.py",
    ),
    "training/ensure.py": ("tests/training/test_ensure.py", "tests/training/test_resume.py"),
    "training/recording.py": ("tests/training/test_ensure.py", "tests/training/test_resume.py"),
    "training/assemble.py": (
        "tests/training/test_ensure.py",
        "tests/training/test_chains.py",
        "tests/strategies/test_online.py",
        "tests/strategies/test_guard_rails.py",
    ),
    "training/initial.py": (
        "tests/training/test_results.py",
        "tests/training/test_kept.py",
        "tests/training/test_stages.py",
    ),
    "training/execute.py": ("tests/training/test_resume.py",),
    "sweep/": ("tests/sweep/test_launcher.py", "tests/sweep/test_view.py"),
    "sweep/scheduler.py": ("tests/sweep/test_scheduler.py", "tests/sweep/test_launcher.py"),
    "sweep/plan.py": ("tests/sweep/test_plan.py", "tests/sweep/test_launcher.py"),
    "sweep/job.py": ("tests/sweep/test_scheduler.py", "tests/sweep/test_launcher.py"),
    "sweep/search.py": ("tests/sweep/test_search.py",),
    "sweep/slots.py": ("tests/sweep/test_slots.py",),
    "sweep/view.py": ("tests/sweep/test_view.py",),
    "library/": ("tests/library",),
    "compare/": (
        "tests/compare/test_table.py",
        "tests/compare/test_collect.py",
        "tests/compare/test_compare.py",
        "tests/compare/test_network_rows.py",
    ),
    "compare/statistics.py": ("tests/compare/test_statistics.py", "tests/compare/test_table.py"),
    "studies/": ("tests/studies/test_reading.py", "tests/studies/test_reproduce.py"),
    "studies/expectations.py": (
        "tests/studies/test_expectations.py",
        "tests/studies/test_rerun.py",
        "tests/studies/test_reproduce.py",
    ),
    "studies/training.py": ("tests/studies/test_training.py", "tests/studies/test_reproduce.py"),
    "studies/records.py": ("tests/studies/test_records.py", "tests/studies/test_reproduce.py"),
    "studies/curves.py": ("tests/studies/test_curves.py", "tests/studies/test_reproduce.py"),
    "measure/alignment.py": ("tests/measure/test_alignment.py",),
    "measure/fidelity.py": ("tests/measure/test_fidelity.py",),
    "measure/flops.py": ("tests/measure/test_flops.py",),
    "measure/memory.py": ("tests/measure/test_peak_memory.py",),
    "measure/size.py": ("tests/measure/test_size.py",),
    "measure/speed.py": ("tests/measure/test_speed.py",),
}


def nearest(file: str) -> tuple[str, ...]:
    """What pytest is given for a file ``kdlab/…``: its own doctests, and the tests that are named above."""
    below = PurePosixPath(file).relative_to("kdlab").as_posix()
    fits = [name for name in NEAREST if below == name or name.endswith("/") and below.startswith(name)]
    if not fits:
        raise SystemExit(f"tests/mutation/nearest.py names no tests for {file}")
    return tuple(dict.fromkeys((file, *NEAREST[max(fits, key=len)])))
