"""Mistakes end with exit code 2 and one readable message that names key or file; nothing is trained or written."""

import pytest

NO_TEACHER = ["strategy=supervised"]
SET = "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8]}"

# arguments of kdlab train, and words that the message must hold
MISTAKES = {
    "misspelled key": (["trainer.max_epcohs=3"], ["trainer.max_epcohs", "did you mean 'max_epochs'"]),
    "misspelled new key": (["+trainer.max_epcohs=3"], ["trainer.max_epcohs", "did you mean 'max_epochs'"]),
    "misspelled top-level key": (["+sed=3"], ["sed", "did you mean 'seed'"]),
    "misspelled group choice": (["student=resnet21"], ["student=resnet21", "did you mean 'resnet"]),
    "misspelled loss argument": (["+loss.kd.temprature=3"], ["loss.kd.temprature", "did you mean 'temperature'"]),
    "negative temperature": (["loss.kd.temperature=-1"], ["loss.kd", "temperature", "-1"]),
    "temperature of zero": (["loss.kd.temperature=0"], ["temperature must be greater than 0"]),
    "temperature in words": (["loss.kd.temperature=warm"], ["loss.kd.temperature", "a number", "warm"]),
    "seed in words": (["seed=abc"], ["seed", "whole number", "abc"]),
    "empty weight": (["loss.kd.weight="], ["loss.kd.weight"]),
    "negative weight": (["loss.kd.weight=-0.1"], ["loss.kd.weight", "negative"]),
    "tied weight turns negative": (["loss.kd.weight=9"], ["loss.ce.weight", "tied"]),
    "no loss": (["loss=[]"], ["loss", "no term"]),
    "unknown loss": (["loss=[ce,kdd]"], ["loss=kdd", "did you mean 'kd'"]),
    "unknown schedule": (["loss.kd.weight={schedule: linaer, start: 0, end: 1, epochs: 2}"], ["loss.kd.weight", "did you mean 'linear'"]),
    "schedule without its end": (["loss.kd.weight={schedule: linear, start: 0, epochs: 2}"], ["loss.kd.weight.end", "needs"]),
    "schedule of a switch": (["loss.kd.temperature_squared={schedule: constant, value: 1}"], ["temperature_squared"]),
    "schedule that ends where it may not": (["loss.kd.temperature={schedule: linear, start: 4, end: 0, epochs: 2}"],
                                            ["loss.kd", "temperature must be greater than 0"]),
    "class that does not exist": (["student._target_=kdlab.models.MPL"], ["student", "did you mean 'MLP'"]),
    "module that does not exist": (["student._target_=nowhere.Net"], ["student", "no module 'nowhere'"]),
    "missing data": (["data=fashion_mnist", "teacher=none", *NO_TEACHER], ["Fashion-MNIST", "Looked in", "apt-get install", "data.download=true"]),
    "wrong classes of the student": (["student.classes=7"], ["student", "7 classes", "10"]),
    "wrong classes of the data": (["data.classes=7"], ["data.classes"]),
    "wrong classes of the teacher": (["teacher.overrides=[student.classes=7]".replace("[s", '["s').replace("7]", '7"]')], ["teacher", "7 classes"]),
    "network for other inputs": (["student.shape=[1,9,9]"], ["student", "(4, 1, 8, 8)"]),
    "tap that does not exist": (["student=cnn", "loss=[ce,hint]", "loss.hint.student_tap=stage9",
                                 'teacher.overrides=["student=cnn"]'], ["stage9", "CNN"]),
    "features without a connector": (["loss=[ce,hint]", "student=cnn", "loss.hint.teacher_tap=embedding"], ["loss.hint", "no connector"]),
    "supervised with a teacher's loss": (["strategy=supervised", "loss=[ce,kd]"], ["loss.kd needs a teacher", "strategy=offline"]),
    "offline without a teacher": (["teacher=none"], ["needs a teacher", "teacher=trained"]),
    "supervised with a teacher": (["strategy=supervised", "teacher=trained"], ["no use for a teacher"]),
    "teacher run that is not there": (["teacher=run", "teacher.run=runs/nothing"], ["runs/nothing", "no run.json"]),
    "teacher run not named": (["teacher=run"], ["teacher.run has no value"]),
    "teacher file that is not there": (["teacher=checkpoint", "teacher.checkpoint=no.ckpt"], ["no.ckpt"]),
    "teacher experiment that is not there": (["teacher.experiment=teacher/nothing"], ["teacher/nothing"]),
    "optimiser's argument": (["+optimizer.momentun=0.9", "optimizer=sgd"], ["optimizer.momentun", "did you mean 'momentum'"]),
    "negative learning rate": (["optimizer.lr=-1"], ["optimizer", "-1"]),
    "horizon that is no argument": (["scheduler.horizon=T_mox"], ["scheduler.horizon", "did you mean 'T_max'"]),
    "what kdlab gives itself": (["+trainer.logger=false"], ["trainer.logger", "kdlab gives this"]),
    "no epochs": (["trainer.max_epochs=0"], ["trainer.max_epochs"]),
    "precision that is none": (["trainer.precision=float17", *NO_TEACHER], ["trainer", "float17"]),
    "fraction too large": (["data.fraction=2"], ["data", "fraction", "2"]),
    "class to omit that is none": (["data.omit_classes=[12]"], ["omit_classes", "12"]),
    "batch larger than the data": (["data.batch_size=100000"], ["data.batch_size", "drop_last=false"]),
    "unbalanced bracket": (["loss=[ce,kd"], ["loss=[ce,kd"]),
    "name that climbs out": (["name=../elsewhere"], ["name"]),
    "progress that is none": (["progress=bars"], ["progress", "did you mean 'bar'"]),
    "no validation left": (["data.validation=0.0001"], ["data.validation", "holds out no sample"]),
    "scheduler's argument out of range": (["scheduler=onecycle", "+scheduler.pct_start=2"], ["scheduler", "pct_start"]),
    "milestones that never come": (["scheduler=multistep"], ["scheduler.milestones", "max_epochs=40"]),
    "overfitting batches": (["+trainer.overfit_batches=2"], ["trainer.overfit_batches"]),
    "one batch for a run": (["+trainer.fast_dev_run=true"], ["trainer.fast_dev_run", "debug=fast"]),
    "no batches": (["+trainer.limit_train_batches=0"], ["trainer.limit_train_batches"]),
    "logger's mode": (["logger=wandb", "logger.mode=foo"], ["logger.mode", "auto, online, offline"]),
    "compiler that is none": (["compile=nonsense", "strategy=supervised"], ["compile", "nonsense", "inductor"]),
    "layer without units": (["student.hidden=[0]"], ["student", "hidden"]),
    "layers in words": (["student.hidden=abc"], ["student", "hidden", "abc"]),
    "several machines": (["+trainer.num_nodes=2"], ["trainer.num_nodes"]),
    "tap that is never called": (["student=network", "student._target_=tests.strategies.networks.idle", "+student.classes=10",
                                  "+student.shape=[1,8,8]", "loss=[ce,hint]", "loss.hint.student_tap=unused"], ["unused", "does not call it"]),
    "student that fails in its own way": (["student=network", "student._target_=tests.strategies.networks.Failing"], ["student", "KeyError"]),
    "student that fails in train mode alone": (["student=network", "student._target_=tests.strategies.networks.FailingInTraining"],
                                               ["a step on 4 samples fails", "only in training"]),
    "lazy parameters": (["student=network", "student._target_=torch.nn.LazyLinear", "+student.out_features=10"], ["student", "lazy"]),
    "data of another kind": (["data._target_=lightning.LightningDataModule", "~data.batch_size", "~data.validation", "~data.split_seed",
                              "~data.fraction", "~data.omit_classes", "~data.drop_last", "~data.augment"], ["kdlab.data.InMemoryData"]),
    "two ways of a teacher": (["+teacher.run=runs/x"], ["teacher", "one way"]),
    "callback's argument": (["callbacks=ema", "+callbacks.ema.decey=1"], ["callbacks.ema.decey", "did you mean 'decay'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(kdlab, workplace, monkeypatch, mistake):
    arguments, words = MISTAKES[mistake]
    monkeypatch.setattr("kdlab.data.fashion_mnist.SYSTEM_FOLDER", workplace / "nowhere")
    code, out, err = kdlab("train", *arguments)
    assert code == 2, (out, err)
    assert err.startswith("kdlab: ") and "Traceback" not in out + err
    for word in words:
        assert word in err
    assert not list(workplace.iterdir()), "something was written"


def test_all_problems_are_listed_at_once(kdlab):
    code, out, err = kdlab("train", "seed=abc", "+trainer.max_epcohs=3", "loss.kd.temperature=warm", "+optimizer.lrr=1")
    assert code == 2 and "4 problems" in err
    for key in ("seed", "trainer.max_epcohs", "loss.kd.temperature", "optimizer.lrr"):
        assert key in err


def test_misspelling_in_an_experiment_file(kdlab, workplace):
    folder = workplace / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "wrong.yaml").write_text("# @package _global_\ntrainer: {max_epcohs: 3}\n")
    code, out, err = kdlab("train", "--config-dir", workplace / "mine", "experiment=wrong")
    assert code == 2 and "trainer.max_epcohs" in err and "did you mean 'max_epochs'" in err and "Traceback" not in err
    assert not (workplace / "runs").exists()


def test_a_teacher_no_better_than_chance_stops_the_run(kdlab, workplace, taught):
    """Its weights are there, but they are noise."""
    import torch

    from kdlab.runs.checkpoints import student_weights

    path = workplace / "noise.ckpt"
    weights = student_weights(torch.load(taught.checkpoint("last"), weights_only=True), path)
    torch.manual_seed(0)
    torch.save({name: torch.randn_like(value) for name, value in weights.items()}, path)
    code, out, err = kdlab("train", "teacher=checkpoint", f"teacher.checkpoint={path}",
                           "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [256, 256]}")
    assert code == 2 and "no better than chance" in err and not (workplace / "runs").joinpath("quickstart").exists()


@pytest.mark.parametrize("name", ["torn.ckpt", "torn.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn"], ids=["empty", "torn"])
def test_a_damaged_checkpoint(kdlab, workplace, content, name):
    (workplace / name).write_bytes(content)
    code, out, err = kdlab("train", "teacher=checkpoint", f"teacher.checkpoint={name}",
                           "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8]}")
    assert code == 2 and name in err and "cannot be read" in err


def test_a_checkpoint_of_another_architecture(kdlab, taught):
    code, out, err = kdlab("train", "teacher=checkpoint", f"teacher.checkpoint={taught.checkpoint('last')}",
                           "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8], hidden: [8]}")
    assert code == 2 and "does not fit MLP" in err and "stage1.linear.weight" in err


def test_a_checkpoint_that_is_no_state_dict(kdlab, workplace):
    import torch

    torch.save([1, 2], workplace / "list.ckpt")
    code, out, err = kdlab("train", "teacher=checkpoint", "teacher.checkpoint=list.ckpt",
                           "+teacher.network={_target_: kdlab.models.MLP, classes: 10, shape: [1, 8, 8]}")
    assert code == 2 and "holds no state dict" in err


def test_another_launcher_is_refused(kdlab, workplace, monkeypatch):
    """Each of torchrun's processes would wait for the other's run."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    code, out, err = kdlab("train", "strategy=supervised")
    assert code == 2 and "torchrun" in err and not (workplace / "runs").exists()


def test_a_folder_that_cannot_be_written(kdlab, workplace):
    (workplace / "file").write_text("")
    code, out, err = kdlab("train", "strategy=supervised", "paths.runs=file/runs", "trainer.max_epochs=1")
    assert code == 2 and "paths.runs" in err and "cannot be written" in err


def test_unknown_verb(kdlab):
    code, out, err = kdlab("trian")
    assert code == 2 and "did you mean 'train'" in err
