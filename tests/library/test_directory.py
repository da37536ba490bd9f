"""With a directory: the files of a run, resuming, identity, and what reads it."""

import copy

import lightning as L
import pytest
import torch

import kdlab
from kdlab.errors import InputError
from kdlab.runs.curve import MetricsFile

from .problem import curve_of, loader, network, samples, states_equal, trained

ARGUMENTS = dict(epochs=4, progress="none", lr=0.05)


@pytest.fixture(scope="module")
def teacher():
    return trained(network(2, 32))


def kept(teacher, directory, student=None, name="mine", shuffled=5, **options):
    train = loader(shuffle=True, generator=torch.Generator().manual_seed(shuffled))
    return kdlab.distill(
        student or network(), teacher, train, loader(40, 3), loader(50, 4), directory=directory, name=name,
        **{**ARGUMENTS, **options},
    )  # fmt: skip


class Stop(L.Callback):
    """Ends the process, as it were, inside an epoch."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error

    def on_train_batch_end(self, trainer, *arguments):
        if trainer.current_epoch == self.epoch:
            raise self.error


def test_the_files_of_a_run(teacher, workplace):
    made = kept(teacher, "runs/a")
    names = {"run.json", "config.yaml", "metrics.csv", "checkpoints", "predictions.safetensors"}
    assert {path.name for path in made.path.iterdir()} == names
    run = kdlab.load(made.path)
    assert run.finished and run.metrics == made.metrics and run.record["made_by"] == "kdlab.distill"
    assert MetricsFile(run.metrics_file).load().rows == made.curve and len(made.curve) == 4
    found = run.predictions()
    x, y = samples(50, 4)
    assert torch.equal(found["target"], y) and torch.equal(found["index"], torch.arange(50))
    torch.testing.assert_close(found["last"], made.student(x).detach(), rtol=1e-5, atol=1e-5)
    config = run.config
    assert config["student"]["class"] == "torch.nn.modules.container.Sequential"
    assert config["loss"]["kd"]["temperature"] == 4.0 and config["loss"]["ce"]["weight"] == pytest.approx(0.1)
    assert config["data"]["train"] == {"dataset": "TensorDataset", "samples": 96, "batches": 6, "batch_size": 16}
    assert states_equal(run.load_into(network(9)), made.student)
    assert states_equal(run.load_into(network(9), "best"), made.best)


def test_without_test_there_are_no_predictions(teacher, workplace):
    made = kdlab.distill(network(), teacher, loader(), directory="runs/a", name="mine", **ARGUMENTS)
    assert not (made.path / "predictions.safetensors").exists() and (made.path / "metrics.csv").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_resumed_to_the_same_bits(teacher, workplace, error):
    """Stopped in the third epoch; the loader has a generator of its own, the network has dropout."""

    def student():
        net = network()
        net.insert(2, torch.nn.Dropout(0.3))
        return net

    whole = kept(teacher, "runs/whole", student())
    with pytest.raises(error):
        kept(teacher, "runs/stopped", student(), trainer={"callbacks": [Stop(2, error)]})
    run = kdlab.load("runs/stopped")
    assert run.status == ("interrupted" if error is KeyboardInterrupt else "failed")
    assert len(MetricsFile(run.metrics_file).load().rows) == 2
    # callbacks count in a description, so the same call is one with the callback
    made = kept(teacher, "runs/stopped", student(), trainer={"callbacks": [Stop(99, error)]})
    assert states_equal(made.student, whole.student) and curve_of(made.curve) == curve_of(whole.curve)
    assert made.metrics == whole.metrics and len(made.record["resumed"]) == 1 and run.status == "finished"


def test_without_a_directory_an_interrupt_leaves_nothing(teacher, workplace):
    with pytest.raises(KeyboardInterrupt):
        kdlab.distill(network(), teacher, loader(), **ARGUMENTS, trainer={"callbacks": [Stop(1)]})
    assert list(workplace.iterdir()) == []


def test_a_finished_run_is_found(teacher, workplace):
    first = kept(teacher, "runs/a")
    written = (first.path / "run.json").stat().st_mtime_ns
    again = kept(teacher, "runs/a", student := network(77))
    # the student that is given gets the weights of the run
    assert again.student is student and states_equal(student, first.student) and states_equal(again.best, first.best)
    assert again.metrics == first.metrics and again.curve == first.curve
    assert (first.path / "run.json").stat().st_mtime_ns == written
    anew = kept(teacher, "runs/a", fresh=True, epochs=1)
    assert len(anew.curve) == 1 and anew.record["hash"] != first.record["hash"]


def test_another_run_is_not_overwritten(teacher, workplace):
    kept(teacher, "runs/a")
    other = copy.deepcopy(teacher)
    other[0].weight.data += 0.1
    for options, message in (
        ({"seed": 2}, "its seed is 1, and here it is 2"),
        ({"name": "other"}, "its name is 'mine', and here it is 'other'"),
        ({"loss": {"ce": {}, "kd": {"temperature": 8}}}, "its loss.kd.temperature is 4.0, and here it is 8"),
        ({"student": network(1, 7)}, "its student.parameters is"),
        ({"teacher": other}, "its teacher has other weights"),
    ):
        arguments = {"teacher": teacher, "directory": "runs/a", **options}
        with pytest.raises(InputError, match=f"directory: runs/a holds another run .{message}") as caught:
            kept(**arguments)
        assert "fresh=True" in str(caught.value)
    assert kdlab.load("runs/a").finished


def test_directories_that_are_refused(teacher, workplace, taught):
    with pytest.raises(InputError, match=r'directory: give a name= too, for example name="my_experiment"'):
        kept(teacher, "runs/a", name=None)
    (workplace / "photos").mkdir()
    (workplace / "photos" / "me.png").touch()
    for fresh in (False, True):
        with pytest.raises(InputError, match="photos holds files, and they are no run"):
            kept(teacher, "photos", fresh=fresh)
        with pytest.raises(InputError, match="holds a run of kdlab train; take another directory="):
            kept(teacher, taught.path, fresh=fresh)
    assert (workplace / "photos" / "me.png").exists() and taught.finished


def test_two_seeds_and_a_baseline_are_compared(teacher, kdlab):
    """Runs of one name and description are repetitions; the teacher is a row of its own."""
    import kdlab as package

    for seed in (1, 2):
        kept(teacher, f"runs/kd{seed}", network(seed), seed=seed)
        package.distill(
            network(seed), None, loader(), loader(40, 3), loader(50, 4), strategy="supervised", seed=seed,
            directory=f"runs/alone{seed}", name="mine", **ARGUMENTS,
        )  # fmt: skip
    kept(teacher, "runs/twin", network(1), seed=1)
    code, out, err = kdlab("compare", "runs", "--report")
    assert code == 0, err
    assert "offline ce+kd" in out and "student baseline" in out and "teacher" in out
    assert "the same run as runs/kd1, counted once: runs/twin" in out
    table = package.compare.compare("runs")
    rows = {row.label: row for row in table.rows}
    assert {label: sorted(row.values) for label, row in rows.items() if row.values} == {
        "offline ce+kd": [1, 2],
        "supervised ce": [1, 2],
    }
    code, out, _ = kdlab("runs", "list", "runs")
    assert code == 0 and out.count("finished") == 5


def test_two_experiments_are_two_rows_with_their_names(teacher, workplace):
    """Also of one description, as of two networks whose code differs."""
    for name in ("first", "second"):
        for seed in (1, 2):
            kept(teacher, f"runs/{name}{seed}", network(seed), name=name, seed=seed, epochs=1)
    rows = [row for row in kdlab.compare.compare("runs").rows if row.values]
    assert sorted(row.label for row in rows) == [f"offline ce+kd  experiment={name}" for name in ("first", "second")]
    assert all(sorted(row.values) == [1, 2] for row in rows)


def test_threads_and_loggers_are_no_part_of_the_identity(teacher, workplace):
    from lightning.pytorch.loggers import CSVLogger

    first = kept(teacher, "runs/a", epochs=1)
    torch.set_num_threads(2)
    again = kept(teacher, "runs/a", epochs=1, trainer={"logger": CSVLogger("logs")})
    assert again.record["hash"] == first.record["hash"] and again.record["threads"] == 1


def test_what_needs_a_recipe_says_what_to_do(teacher, kdlab):
    made = kept(teacher, "runs/a")
    run = made.path
    code, out, err = kdlab("evaluate", run)
    assert code == 0 and f"accuracy  {made.metrics['test/accuracy']:.4f}" in out
    for arguments in (
        ("evaluate", run, "data.fraction=0.5"),
        ("measure", run),
        ("train", "teacher=run", f"teacher.run={run}", "trainer.max_epochs=1"),
    ):
        code, out, err = kdlab(*arguments)
        assert code != 0 and "was made by kdlab.distill" in out + err, (arguments, out, err)
        assert "load_into(network)" in out + err and "Traceback" not in out + err
