"""What may be wrong with what is typed."""

from .table import Mistake

NO_TEACHER = ["strategy=supervised"]

# arguments of kdlab train, and words that the message must hold
TRAIN = {
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
    "unknown schedule": (
        ["loss.kd.weight={schedule: linaer, start: 0, end: 1, epochs: 2}"],
        ["loss.kd.weight", "did you mean 'linear'"],
    ),
    "schedule without its end": (
        ["loss.kd.weight={schedule: linear, start: 0, epochs: 2}"],
        ["loss.kd.weight.end", "needs"],
    ),
    "schedule of a switch": (["loss.kd.temperature_squared={schedule: constant, value: 1}"], ["temperature_squared"]),
    "schedule that ends where it may not": (
        ["loss.kd.temperature={schedule: linear, start: 4, end: 0, epochs: 2}"],
        ["loss.kd", "temperature must be greater than 0"],
    ),
    "class that does not exist": (["student._target_=kdlab.models.MPL"], ["student", "did you mean 'MLP'"]),
    "module that does not exist": (["student._target_=nowhere.Net"], ["student", "no module 'nowhere'"]),
    "missing data": (
        ["data=fashion_mnist", "teacher=none", *NO_TEACHER],
        ["Fashion-MNIST", "Looked in", "apt-get install", "data.download=true"],
    ),
    "wrong classes of the student": (["student.classes=7"], ["student", "7 classes", "10"]),
    "wrong classes of the data": (["data.classes=7"], ["data.classes"]),
    "wrong classes of the teacher": (
        ["teacher.overrides=[student.classes=7]".replace("[s", '["s').replace("7]", '7"]')],
        ["teacher", "7 classes"],
    ),
    "network for other inputs": (["student.shape=[1,9,9]"], ["student", "(4, 1, 8, 8)"]),
    "tap that does not exist": (
        ["student=cnn", "loss=[ce,hint]", "loss.hint.student_tap=stage9", 'teacher.overrides=["student=cnn"]'],
        ["stage9", "CNN"],
    ),
    "features without a connector": (
        ["loss=[ce,hint]", "student=cnn", "loss.hint.teacher_tap=embedding"],
        ["loss.hint", "no connector"],
    ),
    "supervised with a teacher's loss": (
        ["strategy=supervised", "loss=[ce,kd]"],
        ["loss.kd needs a teacher", "strategy=offline"],
    ),
    "offline without a teacher": (["teacher=none"], ["needs a teacher", "teacher=trained"]),
    "supervised with a teacher": (["strategy=supervised", "teacher=trained"], ["uses no teacher"]),
    "teacher run that is not there": (["teacher=run", "teacher.run=runs/nothing"], ["runs/nothing", "no run.json"]),
    "teacher run not named": (["teacher=run"], ["teacher.run has no value"]),
    "teacher file that is not there": (["teacher=checkpoint", "teacher.checkpoint=no.ckpt"], ["no.ckpt"]),
    "teacher experiment that is not there": (["teacher.experiment=teacher/nothing"], ["teacher/nothing"]),
    "optimiser's argument": (
        ["+optimizer.momentun=0.9", "optimizer=sgd"],
        ["optimizer.momentun", "did you mean 'momentum'"],
    ),
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
    "network split over devices": (["trainer.strategy=fsdp"], ["trainer.strategy=fsdp is not supported yet", "ddp"]),
    "tap that is never called": (
        [
            "student=network",
            "student._target_=tests.strategies.networks.idle",
            "+student.classes=10",
            "+student.shape=[1,8,8]",
            "loss=[ce,hint]",
            "loss.hint.student_tap=unused",
        ],
        ["unused", "does not call it"],
    ),
    "student that fails in its own way": (
        ["student=network", "student._target_=tests.strategies.networks.Failing"],
        ["student", "KeyError"],
    ),
    "student that fails in train mode alone": (
        ["student=network", "student._target_=tests.strategies.networks.FailingInTraining"],
        ["a step on 4 samples fails", "only in training"],
    ),
    "lazy parameters": (
        ["student=network", "student._target_=torch.nn.LazyLinear", "+student.out_features=10"],
        ["student", "lazy"],
    ),
    "data of another kind": (
        [
            "data._target_=lightning.LightningDataModule",
            "data.augment_seed=1",
            "~data.augment_seed",  # Hydra deletes no null
            "data.replicas=1",
            "~data.replicas",
            "~data.batch_size",
            "~data.validation",
            "~data.split_seed",
            "~data.fraction",
            "~data.omit_classes",
            "~data.drop_last",
            "~data.augment",
        ],
        ["kdlab.data.InMemoryData"],
    ),
    "two ways of a teacher": (["+teacher.run=runs/x"], ["teacher", "one way"]),
    "callback's argument": (
        ["callbacks=ema", "+callbacks.ema.decey=1"],
        ["callbacks.ema.decey", "did you mean 'decay'"],
    ),
}

# tried with the slow tests
MORE = {
    # -- values
    "seed that is no whole number": (["seed=1.5"], ["seed", "whole number", "1.5"]),
    "empty seed": (["seed="], ["seed", "whole number", "''"]),
    "negative seed": (["seed=-1"], ["seed must be at least 0"]),
    "huge seed": (["seed=1180591620717411303424"], ["seed must be", "at most 9223372036854775807"]),
    "more threads than a system has": (["threads=100000"], ["threads must be at least 1 and at most 1024"]),
    "weight NaN": (["loss.kd.weight=nan"], ["loss.kd.weight must be a finite number, got nan"]),
    "weight .nan": (["loss.kd.weight=.nan"], ["loss.kd.weight must be a finite number, got '.nan'"]),
    "weight of infinity": (["loss.kd.weight=inf"], ["loss.kd.weight must be a finite number, got inf"]),
    "weight that is a list": (["loss.kd.weight=[1,2]"], ["loss.kd.weight", "[1, 2]"]),
    "temperature NaN": (["loss.kd.temperature=nan"], ["loss.kd.temperature must be a finite number"]),
    "learning rate of infinity": (["optimizer.lr=inf"], ["optimizer.lr must be a finite number"]),
    "learning rate that is a list": (["optimizer.lr=[1]"], ["optimizer"]),
    "epochs that are no whole number": (
        ["trainer.max_epochs=1.5"],
        ["trainer.max_epochs must be a whole number of at least 1, got 1.5"],
    ),
    "no folder for runs": (["paths.runs="], ["paths.runs must be the name of a folder"]),
    "fraction NaN": (["data.fraction=nan"], ["data.fraction", "finite"]),
    "two values without a sweep": (["seed=1,2"], ["seed=1,2", "--multirun"]),
    "list without its brackets": (["loss=ce,kd"], ["kdlab train -m loss=ce,kd", "'loss=[ce,kd]'"]),
    "switch that is none": (["fresh=maybe"], ["fresh", "true or false", "maybe"]),
    "device that is not there": (["trainer.accelerator=tpuu", *NO_TEACHER], ["trainer", "tpuu"]),
    # -- overrides and options
    "unknown option": (["--multirn"], ["--multirn", "did you mean '--multirun'", "--help"]),
    "what to print that is none": (["--cfg", "jub"], ["--cfg", "jub"]),
    "printing a sweep": (["-m", "--cfg", "job"], ["Only one of", "--multirun", "--cfg"]),
    "override without a value": (["seed"], ["seed", "KEY=VALUE"]),
    "override with a colon": (["loss.kd.temperature:4"], ["loss.kd.temperature:4", "KEY=VALUE"]),
    "override without a key": (["=3"], ["=3", "group"]),
    "spaces around =": (["seed", "=", "3"], ["seed", "KEY=VALUE"]),
    "group by a number": (["student=3"], ["student=3", "student=mlp"]),
    "group by null": (["preset=null"], ["preset=null", "student=mlp"]),
    "group that is added": (["+student=cnn"], ["+student=cnn", "type student=cnn"]),
    "group left empty": (["student="], ["student=", "there are bert"]),
    "group taken away": (["~student"], ["student", "needs a _target_"]),
    "key taken away that another needs": (["~data.classes"], ["student.classes", "'data.classes'", "no such key"]),
    "key that is there added": (["+seed=3"], ["seed", "Could not append"]),
    "key that is not there taken away": (["~loss.kdd"], ["loss.kdd", "does not exist"]),
    "reference to a key that is not there": (["seed=${sed}"], ["seed", "'sed'", "no such key", "did you mean 'seed'"]),
    "reference to a key below that is not there": (
        ["loss.kd.weight=${loss.kd.temprature}"],
        ["loss.kd.weight", "did you mean 'loss.kd.temperature'"],
    ),
    "reference in a circle": (["seed=${seed}"], ["seed", "ecursive"]),
    "environment variable that is not set": (["seed=${oc.env:KDLAB_NOT_SET}"], ["seed", "KDLAB_NOT_SET"]),
    "folder of configs that is not there": (["--config-dir", "mine"], ["mine", "not found"]),
    "file of configs that is not there": (["--config-name", "mine"], ["mine.yaml"]),
    # -- teachers
    "teacher's overrides that are no list": (["teacher.overrides=3"], ["teacher.overrides must be a list", "got 3"]),
    "teacher's override misspelled": (
        ['teacher.overrides=["trainer.max_epcohs=3"]'],
        ["teacher.experiment=teacher/digits", "did you mean 'max_epochs'"],
    ),
    "teacher's experiment by a number": (["teacher.experiment=3"], ["teacher.experiment must be the name"]),
    "teacher's seed in words": (["teacher.seed=x"], ["teacher.seed", "whole number"]),
}

LANGUAGE = [
    "task=causal_lm",
    "data=causal_text",
    "data.train=FILE",
    "data.tokenizer=NAME",
    "data.vocabulary=128256",
    "strategy=supervised",
]
OTHERS = [
    Mistake(
        "several at once",
        ["train", "seed=abc", "+trainer.max_epcohs=3", "loss.kd.temperature=warm", "+optimizer.lrr=1"],
        ["4 problems", "seed", "trainer.max_epcohs", "loss.kd.temperature", "optimizer.lrr"],
    ),
    Mistake("unknown verb", ["trian"], ["there is no verb 'trian'", "did you mean 'train'"]),
    Mistake("no verb", [], ["usage: kdlab VERB"], stream="out"),
    Mistake(
        "check of an experiment that is not there",
        ["check", "teacher/digit"],
        ["did you mean 'teacher/digits'"],
        stream="out",
    ),
    Mistake("check with an unknown option", ["check", "--all"], ["--all", "kdlab check --help"]),
    Mistake(
        "memory of no run",
        ["check", "--memory"],
        ["--memory needs the overrides of a run", "student.pretrained=meta-llama/Llama-3.1-8B"],
    ),
    Mistake(
        "memory of what is no language model",
        ["check", "--memory", "student=mlp"],
        ["--memory is for causal language models", "task=causal_lm"],
        stream="out",
    ),
    Mistake(
        "memory of a model of unknown sizes",
        ["check", "--memory", *LANGUAGE, "student=causal", "student.pretrained=meta-llama/Llama-3.1-9B"],
        ["'meta-llama/Llama-3.1-9B' are not known without a download", "did you mean"],
        stream="out",
    ),
    Mistake("comparison of nothing", ["compare"], ["folder", "kdlab compare --help"]),
    Mistake("comparison of a folder that is not there", ["compare", "nothing"], ["there is no folder nothing"]),
    Mistake("comparison of an empty folder", ["compare", "."], ["no runs in ."]),
    Mistake(
        "evaluation of a run that is not there", ["evaluate", "nothing"], ["nothing is no run directory", "run.json"]
    ),
    Mistake("measuring nothing", ["measure"], ["RUN_OR_FOLDER", "kdlab measure --help"]),
    Mistake("measuring what is not there", ["measure", "nothing"], ["there is no folder nothing"]),
    Mistake("measuring an empty folder", ["measure", "."], ["no runs in ."]),
    Mistake(
        "measuring by batches that are none",
        ["measure", ".", "--batches", "1,0"],
        ["--batches", "whole numbers", "'1,0'"],
    ),
    Mistake("measuring for no time", ["measure", ".", "--seconds", "-1"], ["--seconds", "greater than 0", "'-1'"]),
    Mistake("runs of a folder that is not there", ["runs", "nothing"], ["there is no folder nothing"]),
    Mistake("misspelled verb of runs", ["runs", "shwo", "x"], ["shwo", "did you mean 'show'"]),
    Mistake("difference with one run", ["runs", "diff", "x"], ["runs diff", "second"]),
    Mistake("difference of what is no run", ["runs", "diff", "x", "y"], ["x is no run directory"]),
    Mistake("removal of what is no run", ["runs", "rm", "x", "--yes"], ["x is no run directory"]),
]


MISTAKES = [
    *(Mistake(what, ["train", *arguments], words) for what, (arguments, words) in {**TRAIN, **MORE}.items()),
    *OTHERS,
]
