"""metrics.csv: what a curve is over."""

from kdlab.runs.curve import MetricsFile, unit_of, unit_of_all

EPOCHS = {"trainer": {"max_epochs": 2}}
STEPS = {"trainer": {"max_epochs": 2, "every_n_train_steps": 5}}


def test_a_curve_over_epochs_or_steps(tmp_path):
    file = MetricsFile(tmp_path / "metrics.csv")
    file.rows = [
        {"epoch": 0, "step": 5, "val/nll": 0.5},
        {"epoch": 0, "step": 10},
        {"epoch": 1, "step": 15, "val/nll": 0.25},
    ]
    file.write()
    read = MetricsFile(file.path).load()
    assert file.path.read_text().splitlines() == ["epoch,step,val/nll", "0,5,0.5", "0,10,", "1,15,0.25"]
    assert read.curve("val/nll") == {1: 0.5, 2: 0.25} and read.curve("val/nll", "step") == {5: 0.5, 15: 0.25}
    read.rows = [{"epoch": 0, "val/nll": 0.5}]
    assert read.curve("val/nll", "step") == {}, "a file of another program"


def test_the_unit_of_runs():
    assert (unit_of(EPOCHS), unit_of(STEPS), unit_of({})) == ("epoch", "step", "epoch")
    assert unit_of_all([EPOCHS, EPOCHS]) == "epoch" and unit_of_all([EPOCHS, STEPS]) == "step"
