"""``teacher.cache=auto`` in a sweep."""

import json
import re
from types import SimpleNamespace

import pytest

from kdlab.cache.sharing import Sharing
from kdlab.sweep.job import Job
from kdlab.sweep.sharing import share_answers

QUICK = ["trainer.max_epochs=2", 'teacher.overrides=["trainer.max_epochs=3"]', "progress=lines"]


def jobs_of(*sharings):
    jobs = [Job(str(number), [], {"teacher": {"run": "x", "cache": "auto"}}, "0") for number in range(len(sharings))]
    lines = share_answers(jobs, [None if one is None else {"sharing": one} for one in sharings])
    return [job.config["teacher"]["cache"] for job in jobs], lines


def test_views_are_kept_where_another_job_asks_for_them():
    views = Sharing("views", keys=("a",))
    assert jobs_of(views, views, Sharing("views", keys=("b",)), None) == (["views", "views", "auto", "auto"], [])
    assert jobs_of(Sharing("views", keys=("a", "b")), views)[0] == ["views", "views"], "one member in common"
    assert jobs_of(Sharing("fixed", keys=("a",)))[0] == ["fixed"], "one job asks 30 times for the same"


def test_why_a_teacher_stays_live_is_said_once():
    mixed = Sharing(why="data.mixing mixes")
    assert jobs_of(mixed, mixed) == (
        ["auto", "auto"],
        ["teacher.cache=auto: data.mixing mixes; the teacher is asked in every step"],
    )
    assert jobs_of(mixed) == (["auto"], []) and jobs_of(Sharing(), Sharing()) == (["auto", "auto"], [])


def test_a_search_keeps_views_for_the_trials_to_come():
    job = Job("0", [], {"teacher": {"run": "x"}}, "0")
    share_answers([job], [{"sharing": Sharing("views", keys=("a",))}], more=True)
    assert job.config["teacher"] == {"run": "x", "cache": "views", "cache_auto": True}


def records(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("runs/quickstart/*/run.json"))]


def test_a_sweep_asks_its_teacher_once(kdlab, workplace):
    code, out, err = kdlab("train", "-m", "loss.kd.temperature=2,4", "loss.kd.weight=0.5,1", *QUICK)
    assert code == 0, err
    assert re.search(
        r"^teacher's answers: 4 runs needed 8 passes over the training samples; 1 was made \([\d.]+ s\), which saved "
        r"about [\d.]+ s$",
        out.strip().splitlines()[-1],
    )
    assert sorted(one["cache"]["computed"] for one in records(workplace)) == [0, 0, 0, 1]
    assert {one["cache"]["mode"] for one in records(workplace)} == {"fixed"}
    code, out, err = kdlab("train", "-m", "loss.kd.temperature=8,9", *QUICK)
    assert code == 0 and out.strip().endswith(
        "2 runs needed 4 passes over the training samples; earlier runs had kept them all"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("more", "made"), [([], 4), (["data.augment_seed=1"], 2)])
def test_seeds_share_where_the_augmentation_has_a_seed_of_its_own(kdlab, workplace, more, made):
    sweep = ["loss.kd.temperature=2,4", "seed=1,2", "data.augment.flip=0.5", *more, *QUICK]
    code, out, err = kdlab("train", "-m", *sweep)
    assert code == 0, err
    assert sum(one["cache"]["computed"] for one in records(workplace)) == made
    assert f"4 runs needed 8 passes over the training samples; {made} were made" in out


def test_saved_needs_runs_that_can_be_read(tmp_path):
    from kdlab.sweep.sharing import saved

    outcome = SimpleNamespace(status="failed", job=SimpleNamespace(place=("a", "b", "c")))
    assert saved([outcome]) == ""
