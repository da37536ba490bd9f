"""What may be wrong with the files of a run that is there."""

import json
import shutil

import torch

from kdlab.runs.run import Run

from .table import SHORT, Mistake, Place

AGAIN = [*SHORT, "seed=1"]
AFRESH = [*AGAIN, "fresh=true"]
EVALUATE, ELSEWHERE = ["evaluate", "{run}"], ["evaluate", "{run}", "data.evaluation_batch_size=50"]
MEASURE = ["measure", "{run}", "--seconds", "0.01"]
COMPARE = ["compare", "runs", "--out", "out"]


def _spoilt(*changes):
    """Two finished runs, the first one changed."""

    def setup(place: Place) -> None:
        run = place.finished()[0]
        for change in changes:
            change(run)

    return setup


def _record(text: str | bytes):
    return lambda run: (run.path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())


def _cut(name: str, size: int):
    return lambda run: (run.path / name).write_bytes((run.path / name).read_bytes()[:size])


def _written(name: str, text: str):
    return lambda run: (run.path / name).write_text(text)


def _removed(name: str):
    return lambda run: (run.path / name).unlink()


def _entries(**values):
    def change(run: Run) -> None:
        path = run.path / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def _checkpoint(change, which: str = "last"):
    """Changes the content of a checkpoint."""

    def changed(run: Run) -> None:
        content = torch.load(run.checkpoint(which), weights_only=True)
        torch.save(change(content), run.checkpoint(which))

    return changed


def _predictions(run: Run) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(3)}, run.predictions_file)


killed = _entries(status="running")
newer = _entries(format=99, code={"kdlab": "9.0"})
UNFINISHED = ["cannot be resumed", "fresh=true to start over"]
LATER = ["format 99", "reads formats up to 1", "paths.runs=…"]

MISTAKES = [
    # -- run.json
    Mistake(
        "run.json cut short",
        AGAIN,
        ["run.json cannot be read", "move"],
        given="run.json cut short",
        setup=_spoilt(_cut("run.json", 200)),
    ),
    Mistake(
        "run.json cut short, afresh",
        AFRESH,
        ["run.json cannot be read", "move"],
        given="run.json cut short",
        setup=_spoilt(_cut("run.json", 200)),
    ),
    Mistake(
        "run.json that is no JSON",
        AGAIN,
        ["run.json cannot be read", "move"],
        given="run.json is text",
        setup=_spoilt(_record("hello")),
    ),
    Mistake(
        "run.json of bytes",
        AGAIN,
        ["run.json cannot be read", "move"],
        given="run.json is bytes",
        setup=_spoilt(_record(b"\xff\xfe\x00")),
    ),
    Mistake(
        "run.json of something else",
        AGAIN,
        ["run.json is not a record of kdlab", "move"],
        given="run.json is a list",
        setup=_spoilt(_record("[1]")),
    ),
    Mistake(
        "run.json that says only that it is finished",
        AGAIN,
        ["run.json is not a record of kdlab", "hash"],
        given="run.json has nothing but a status",
        setup=_spoilt(_record('{"status": "finished"}')),
    ),
    Mistake(
        "run.json of no known status",
        AGAIN,
        ["run.json is not a record of kdlab", "status"],
        given="its status is 'done'",
        setup=_spoilt(_entries(status="done")),
    ),
    Mistake(
        "run of a later version", AGAIN, ["kdlab 9.0", *LATER], given="run.json has format 99", setup=_spoilt(newer)
    ),
    Mistake(
        "run of a later version, killed",
        AGAIN,
        LATER,
        given="run.json has format 99, running",
        setup=_spoilt(killed, newer),
    ),
    Mistake("run of a later version, afresh", AFRESH, LATER, given="run.json has format 99", setup=_spoilt(newer)),
    Mistake("run of a later version, evaluated", EVALUATE, LATER, given="run.json has format 99", setup=_spoilt(newer)),
    Mistake(
        "run of a later version, removed",
        ["runs", "rm", "{run}", "--yes"],
        LATER,
        given="run.json has format 99",
        setup=_spoilt(newer),
    ),
    Mistake(
        "run of a later version as a teacher",
        ["train", "teacher=run", "teacher.run={run}"],
        LATER,
        given="run.json has format 99",
        setup=_spoilt(newer),
    ),
    Mistake(
        "damaged run among others, listed",
        ["runs"],
        ["damaged", "finished", "run.json cannot be read"],
        code=0,
        stream="out",
        given="run.json cut short",
        setup=_spoilt(_cut("run.json", 200)),
    ),
    Mistake(
        "damaged run among others, compared",
        COMPARE,
        ["student baseline", "could not be read", "run.json cannot be read"],
        code=0,
        stream="out",
        given="run.json cut short",
        setup=_spoilt(_cut("run.json", 200)),
    ),
    Mistake(
        "run of a later version among others, compared",
        COMPARE,
        ["student baseline", "could not be read", "format 99"],
        code=0,
        stream="out",
        given="run.json has format 99",
        setup=_spoilt(newer),
    ),
    Mistake(
        "damaged run, compared to another",
        ["runs", "diff", "{other}", "{run}"],
        ["run.json cannot be read"],
        given="run.json cut short",
        setup=_spoilt(_cut("run.json", 200)),
    ),
    Mistake(
        "nothing but damaged runs, compared",
        ["compare", "{run}"],
        ["no finished run", "could not be read", "run.json"],
        given="run.json cut short",
        setup=_spoilt(_cut("run.json", 200)),
    ),
    # -- config.yaml
    Mistake(
        "config.yaml that is missing",
        ELSEWHERE,
        ["config.yaml cannot be read", "move"],
        given="config.yaml was removed",
        setup=_spoilt(_removed("config.yaml")),
    ),
    Mistake(
        "config.yaml that is no YAML",
        ELSEWHERE,
        ["config.yaml cannot be read", "line 1", "move"],
        given="config.yaml ends in a bracket",
        setup=_spoilt(_written("config.yaml", "data: [")),
    ),
    Mistake(
        "config.yaml that is empty",
        ELSEWHERE,
        ["config.yaml is not the config of a run", "move"],
        given="config.yaml is empty",
        setup=_spoilt(_written("config.yaml", "")),
    ),
    Mistake(
        "config.yaml of something else, compared",
        COMPARE,
        ["student baseline", "could not be read", "config.yaml"],
        code=0,
        stream="out",
        given="config.yaml is a list",
        setup=_spoilt(_written("config.yaml", "- 1\n")),
    ),
    Mistake(
        "config.yaml of a teacher",
        ["train", "teacher=checkpoint", "teacher.checkpoint={run}/checkpoints/last.ckpt"],
        ["config.yaml is not the config of a run"],
        given="config.yaml is a list",
        setup=_spoilt(_written("config.yaml", "- 1\n")),
    ),
    # -- metrics.csv and predictions.safetensors
    Mistake(
        "metrics.csv that holds words",
        ["runs"],
        ["finished", "damaged"],
        code=0,
        stream="out",
        given="metrics.csv is text",
        setup=_spoilt(_written("metrics.csv", "epoch,loss\na,b\n")),
    ),
    Mistake(
        "predictions that are missing",
        EVALUATE,
        ["no predictions.safetensors", "fresh=true"],
        given="predictions.safetensors was removed",
        setup=_spoilt(_removed("predictions.safetensors")),
    ),
    Mistake(
        "predictions cut short",
        EVALUATE,
        ["predictions.safetensors cannot be read", "fresh=true"],
        given="predictions.safetensors cut short",
        setup=_spoilt(_cut("predictions.safetensors", 500)),
    ),
    Mistake(
        "predictions of something else",
        EVALUATE,
        ["does not hold a run's predictions"],
        given="other tensors in predictions.safetensors",
        setup=_spoilt(_predictions),
    ),
    # -- checkpoints
    Mistake(
        "checkpoint cut short",
        AGAIN,
        ["last.ckpt cannot be read", *UNFINISHED],
        given="killed; last.ckpt cut short",
        setup=_spoilt(killed, _cut("checkpoints/last.ckpt", 3000)),
    ),
    Mistake(
        "checkpoint of another network copied in",
        AGAIN,
        ["last.ckpt is of another network", "stage1.linear.weight", *UNFINISHED],
        given="killed; last.ckpt is of another network",
        setup=_spoilt(
            killed,
            _checkpoint(
                lambda content: {**content, "state_dict": {name: torch.zeros(2, 2) for name in content["state_dict"]}}
            ),
        ),
    ),
    Mistake(
        "checkpoint of another library",
        AGAIN,
        ["last.ckpt is no checkpoint of a run of kdlab", *UNFINISHED],
        given="killed; last.ckpt is a state dict",
        setup=_spoilt(killed, _checkpoint(lambda content: content["state_dict"])),
    ),
    Mistake(
        "checkpoint without the optimiser",
        AGAIN,
        ["last.ckpt", "it holds no optimizer_states", *UNFINISHED],
        given="killed; weights only in last.ckpt",
        setup=_spoilt(
            killed,
            _checkpoint(lambda content: {key: value for key, value in content.items() if key != "optimizer_states"}),
        ),
    ),
    Mistake(
        "best checkpoint that is missing",
        AGAIN,
        ["there is no checkpoint", "best.ckpt", *UNFINISHED],
        given="killed; best.ckpt was removed",
        setup=_spoilt(killed, _removed("checkpoints/best.ckpt")),
    ),
    Mistake(
        "best checkpoint cut short",
        AGAIN,
        ["best.ckpt cannot be read", *UNFINISHED],
        given="killed; best.ckpt cut short",
        setup=_spoilt(killed, lambda run: _split(run), _cut("checkpoints/best.ckpt", 3000)),
    ),
    Mistake(
        "checkpoints that are missing, evaluated",
        ELSEWHERE,
        ["there is no checkpoint"],
        given="checkpoints/ was removed",
        setup=_spoilt(lambda run: shutil.rmtree(run.path / "checkpoints")),
    ),
    # -- evaluation and comparison of what is whole
    Mistake(
        "unknown metric",
        [*COMPARE, "--metric", "acuracy"],
        ["'acuracy'", "they have accuracy", "did you mean 'accuracy'"],
        given="two runs",
        setup=_spoilt(),
    ),
    Mistake(
        "baseline that is no row",
        [*COMPARE, "--baseline", "supervized ce"],
        ["no row is called so", "did you mean 'supervised ce'"],
        given="two runs",
        setup=_spoilt(),
    ),
    Mistake(
        "further metric that is none",
        [*COMPARE, "--further", "nll,eec"],
        ["further", "'eec'", "did you mean 'ece'"],
        given="two runs",
        setup=_spoilt(),
    ),
    Mistake(
        "comparison written where nothing can be",
        ["compare", "runs", "--out", "file/out"],
        ["file/out cannot be written", "--out"],
        given="file is a file",
        setup=lambda place: (place.finished(), (place.folder / "file").write_text("")),
    ),
    Mistake(
        "measuring a run that is not finished",
        MEASURE,
        ["no finished run", "(running)"],
        given="a killed run",
        setup=_spoilt(killed),
    ),
    Mistake(
        "measuring a checkpoint cut short",
        MEASURE,
        ["no run could be measured", "last.ckpt cannot be read"],
        given="last.ckpt of 100 bytes",
        setup=_spoilt(_cut("checkpoints/last.ckpt", 100)),
    ),
    Mistake(
        "measuring runs of which one has no checkpoint",
        ["measure", "runs", *MEASURE[2:]],
        ["not measured", "there is no checkpoint"],
        code=1,
        stream="out",
        given="last.ckpt of the first was removed",
        setup=_spoilt(_removed("checkpoints/last.ckpt")),
    ),
    Mistake(
        "measuring on a device that is none",
        [*MEASURE, "--device", "tpu"],
        ["--device must be cpu or a GPU", "'tpu'"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "measuring on a GPU that is not there",
        [*MEASURE, "--device", "cuda:99"],
        ["--device=cuda:99", "GPU"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "evaluation with another seed",
        [*EVALUATE, "seed=2"],
        ["only data can be overridden", "seed=2"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "evaluation on other shapes",
        [*EVALUATE, "data=fashion_mnist"],
        ["[1, 8, 8]", "[1, 28, 28]"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "evaluation on data that are none",
        [*EVALUATE, "data=digitz"],
        ["data=digitz", "did you mean 'digits'"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "evaluation with a misspelled key",
        [*EVALUATE, "data.batchsize=3"],
        ["data.batchsize", "did you mean 'batch_size'"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "evaluation with an unbalanced bracket",
        [*EVALUATE, "data.omit_classes=[1"],
        ["data.omit_classes=[1"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake("evaluation without a key", [*EVALUATE, "~data.fraction"], ["data=…"], given="a run", setup=_spoilt()),
    Mistake(
        "evaluation of a checkpoint that is none",
        [*EVALUATE, "--which", "lst"],
        ["--which", "last", "best"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "bias that is none",
        [*EVALUATE, "--bias", "3:2"],
        ["--bias must be CLASS=NUMBER", "3:2"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "bias NaN", [*EVALUATE, "--bias", "3=nan"], ["--bias must be CLASS=NUMBER"], given="a run", setup=_spoilt()
    ),
    Mistake(
        "bias of a class that is none",
        [*EVALUATE, "--bias", "12=1"],
        ["there is no class 12"],
        given="a run",
        setup=_spoilt(),
    ),
    Mistake(
        "difference to a path that is none",
        ["runs", "diff", "{run}", "runs/nothing"],
        ["runs/nothing is no run directory"],
        given="a run",
        setup=_spoilt(),
    ),
    # -- folders
    Mistake(
        "file in the place of the folder of runs",
        AGAIN,
        ["paths.runs", "runs/quickstart cannot be written", "paths.runs=…"],
        given="runs is a file",
        setup=lambda place: (place.folder / "runs").write_text(""),
    ),
    Mistake(
        "file in the place of a run's folder",
        [*AGAIN, "name=mine"],
        ["runs/mine cannot be written"],
        given="runs/mine is a file",
        setup=lambda place: (place.finished(), (place.folder / "runs" / "mine").write_text("")),
    ),
]


def _split(run: Run) -> None:
    """last and best as two files, where they were links to one."""
    for which in ("last", "best"):
        content = run.checkpoint(which).read_bytes()
        run.checkpoint(which).unlink()
        run.checkpoint(which).write_bytes(content)
