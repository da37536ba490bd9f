"""What is the same run, and what is not."""

import copy
import inspect
import json
import os
import re
from importlib import import_module
from pathlib import Path

import pytest

import kdlab
from kdlab.config import keys
from kdlab.config.compose import compose
from kdlab.config.names import readable_name
from kdlab.config.signature import signature
from kdlab.data import Digits
from kdlab.losses import HintonKD
from kdlab.models import MLP
from kdlab.runs import identity
from kdlab.runs.identity import hash_as_spelled, run_hash
from kdlab.runs.run import Run, RunStore
from kdlab.strategies import Offline
from kdlab.training.ensure import ensure


@pytest.fixture(autouse=True)
def nowhere(tmp_path_factory, monkeypatch):
    """A folder without data: what lies in the user's own would count."""
    monkeypatch.chdir(tmp_path_factory.mktemp("nowhere"))


SAME = [
    ["loss.kd.temperature=4"],
    ["loss.kd.temperature=4.0"],
    ["name=elsewhere", "paths.runs=/somewhere", "progress=none"],
    ["logger=tensorboard"],
    ["fresh=true"],
    ["loss.ce.weight=0.1"],  # what the tie gives
    ["~loss.kd.temperature_squared"],  # the constructor's own default
    ["optimizer.lr=1e-2"],
    ["trainer.precision=32"],
    ["teacher.cache=fixed", "teacher.cache_dtype=float32"],
]
OTHER = [
    ["seed=2"],
    ["loss=[kd,ce]"],  # the order of a sum
    ["loss.kd.temperature=5"],
    ["loss.kd.temperature_squared=false"],
    ["teacher.seed=2"],
    ['teacher.overrides=["optimizer.lr=0.1"]'],
    ["threads=2"],
    ["data.split_seed=1"],
    ["trainer.precision=bf16-mixed"],
    ["callbacks=ema"],
    ["student.hidden=[17]"],
    ["data.replicas=2"],
    ["data.replicas=3"],
    ["teacher.cache=fixed", "teacher.cache_dtype=float16"],
    ["teacher.cache=fixed", "teacher.cache_dtype=bfloat16"],
]


@pytest.mark.parametrize("overrides", SAME, ids=str)
def test_the_same_run(overrides):
    assert run_hash(compose(overrides)) == run_hash(compose([]))


def test_every_difference_counts():
    hashes = [run_hash(compose(overrides)) for overrides in [[], *OTHER]]
    assert len(set(hashes)) == len(hashes)


def test_a_teacher_counts_by_its_run_whatever_names_it(taught):
    """Where its runs are kept, and under which name, is no part of what it is."""
    assert run_hash(compose(["teacher=run", f"teacher.run={taught.path}"])) == run_hash(
        compose(["teacher=run", f"teacher.run={taught.path}/"])
    )
    assert run_hash(compose(["teacher=run", f"teacher.run={taught.path}", "teacher.which=best"])) != run_hash(
        compose(["teacher=run", f"teacher.run={taught.path}"])
    )


def test_a_checkpoint_counts_by_its_content(tmp_path):
    first, second, third = (tmp_path / name for name in ("a.ckpt", "b.ckpt", "c.ckpt"))
    first.write_bytes(b"one"), second.write_bytes(b"one"), third.write_bytes(b"three")
    hashes = [
        run_hash(compose(["teacher=checkpoint", f"teacher.checkpoint={path}"])) for path in (first, second, third)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_group_is_the_same_over_seeds(workplace):
    import kdlab

    small = ["strategy=supervised", "trainer.max_epochs=1", "progress=none"]
    records = [kdlab.train([*small, f"seed={seed}"]).record for seed in (1, 2)]
    assert records[0]["group"] == records[1]["group"] and records[0]["hash"] != records[1]["hash"]


def test_readable_name():
    config = compose(["student=resnet8", "seed=3"])
    assert readable_name(config) == "offline-ce+kd-resnet8-s3"
    run = RunStore("runs").run(config)
    assert run.path.name == f"offline-ce+kd-resnet8-s3-{run_hash(config)}" and str(run.path.parent) == "runs/quickstart"


def test_a_run_is_found_under_another_readable_name(tmp_path):
    """A run that a sweep made is recognised by the single command with the same values."""
    config = compose([])
    elsewhere = tmp_path / "quickstart" / f"renamed-{run_hash(config)}"
    elsewhere.mkdir(parents=True)
    assert RunStore(tmp_path).run(config).path == elsewhere


def test_record_holds_where_a_result_came_from(taught):
    record = taught.record
    for key in (
        "command",
        "overrides",
        "choices",
        "seed",
        "threads",
        "code",
        "versions",
        "hardware",
        "status",
        "metrics",
        "durations",
        "teacher_share",
        "parameters",
        "weights",
        "began",
        "ended",
    ):
        assert key in record, key
    assert record["code"]["kdlab"] == "0.1.0" and record["versions"]["torch"] and record["hardware"]["cores"] >= 1
    assert record["status"] == "finished" and record["weights"] == {"ce": 1.0} and record["teacher_share"] == 0
    assert 0.9 < record["metrics"]["test/accuracy"] <= 1 and record["metrics"]["best_epoch"] <= 5


def test_run_gives_back_the_student_and_its_predictions(taught):
    import torch

    from kdlab.data import Digits

    student, predictions = taught.student, taught.predictions()
    assert type(student).__module__ == "kdlab.models.mlp" and not student.training
    batch = next(iter(Digits(batch_size=8).test_dataloader()))
    with torch.no_grad():
        assert torch.allclose(student(batch.inputs), predictions["last"], atol=1e-5)
    accuracy = (predictions["last"].argmax(-1) == predictions["target"]).float().mean().item()
    assert accuracy == pytest.approx(taught.metrics["test/accuracy"])
    assert predictions["index"].tolist() == list(range(359))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_record_says_so(tmp_path, content):
    from kdlab.errors import InputError

    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match="run.json"):
        _ = Run(tmp_path).record


def test_the_order_of_named_peers_counts():
    """It says whose first weights, view and turn are whose."""
    first, second = (
        ["strategy=online", *(f"+student@strategy.peers.{name}={name.replace('wide', 'mlp_wide')}" for name in names)]
        for names in (("mlp", "wide"), ("wide", "mlp"))
    )
    assert run_hash(compose(first)) != run_hash(compose(second))


# -- upgrades: hashes of before still stand for the same runs ----------------------------------------------------------

# made by kdlab 0.1.0 at commit 34bb334; a hash that differs here orphans every run that its users have
FIRST = {
    "": "ae26c92af93abc19",
    "seed=2": "bccdf2ae928aa6ee",
    "strategy=supervised student=cnn": "c253523373eb6764",
    "loss=[ce,dkd]": "c68c8e4956389329",
    "strategy=online": "12755719bd5f31c2",
    "strategy=byot student=cnn": "17f88a598928e923",
    "strategy=born_again strategy.generation=2": "e1212df11b277f6c",
    "strategy=ema scheduler=onecycle": "249b11ec1697ea03",
    "teacher=ensemble": "e19a512443ef1c41",
    "mixing=cutmix optimizer=sgd student=resnet8": "e3769ad5d20d3f31",
    "data=cifar100 student=wrn_16_2 loss=[ce,crd]": "079e174b0f352296",
    "data=image_folder data.classes=4 strategy=supervised student=resnet8": "9f15b269d016cf96",
    "experiment=stages/fitnets": "ca4597e0df1d6711",
}


@pytest.mark.parametrize("overrides", FIRST, ids=str)
def test_the_hash_is_the_first_one(overrides):
    assert run_hash(compose(overrides.split())) == FIRST[overrides]


STUDIES = sorted(Path(__file__).parents[2].glob("experiments/*/results/runs.jsonl"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parts[-3])
def test_the_studies_in_git_have_the_hashes_of_their_configs(path):
    """The first teacher and the last run of every study: enough to see that a class of theirs counts as it did. Files
    count by their content, so a study of files that are not in git needs KDLAB_STUDY_DATA, the folder that has them."""
    from kdlab.studies.training import composed

    lines = path.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in (lines[0], lines[-1])]
    data = os.environ.get("KDLAB_STUDY_DATA", "data")  # an absolute path
    configs = composed([record["overrides"] for record in records], [f"paths.data={data}"])
    for file in {config["data"].get("train") for config in configs} - {None}:
        if not Path(file).exists():
            pytest.skip(f"there is no {file}")
    assert [run_hash(config) for config in configs] == [record["hash"] for record in records]


@pytest.fixture
def with_new_argument(monkeypatch):
    """Give a class one more argument, as the next version of kdlab might: ``brightness=0.5``."""

    def give(cls):
        before = cls.__init__

        def init(self, *args, brightness: float = 0.5, **options):
            before(self, *args, **options)

        parameters = inspect.signature(before).parameters
        added = inspect.Parameter("brightness", inspect.Parameter.KEYWORD_ONLY, default=0.5, annotation=float)
        named = [value for value in parameters.values() if value.kind is not value.VAR_KEYWORD]
        init.__signature__ = inspect.Signature(
            [*named, added, *(value for value in parameters.values() if value.kind is value.VAR_KEYWORD)]
        )
        monkeypatch.setattr(cls, "__init__", init)
        signature.cache_clear()

    yield give
    signature.cache_clear()


@pytest.mark.parametrize(
    ("cls", "key"), [(HintonKD, "loss.kd"), (Digits, "data"), (Offline, "strategy"), (MLP, "student")]
)
def test_an_argument_added_later_counts_where_it_differs_from_its_default(cls, key, with_new_argument):
    before = run_hash(compose([]))
    with_new_argument(cls)
    assert "brightness" in signature(f"kdlab.{cls.__module__.split('.')[1]}.{cls.__name__}").defaults
    assert run_hash(compose([])) == before
    assert run_hash(compose([f"+{key}.brightness=0.5"])) == before
    assert run_hash(compose([f"+{key}.brightness=0.25"])) != before


def test_the_run_of_before_an_argument_was_added_is_found(workplace, with_new_argument):
    small = ["trainer.max_epochs=1", "progress=none", 'teacher.overrides=["trainer.max_epochs=1"]']
    before = kdlab.train(small)
    for cls in (HintonKD, Digits, Offline, MLP):  # the teacher's run has them too
        with_new_argument(cls)
    heard = []
    again = ensure(compose(small), heard.append)
    assert again.path == before.path and heard == [f"finished already: {before.path}"]


def test_a_key_added_later_counts_where_it_differs_from_its_default(monkeypatch):
    before = compose([])
    monkeypatch.setitem(keys.ADDED, "cache", {"kind": "exact", "smooth": 0})
    monkeypatch.setitem(keys.ADDED, "trainer.max_steps", -1)
    after = copy.deepcopy(before)
    for config in (after, after["teacher"]["config"]):
        config.update(
            cache={"smooth": 0.0, "kind": "exact"},
            trainer={**config["trainer"], "max_steps": -1},
        )
    assert run_hash(after) == run_hash(before)
    for change in (
        {"cache": {"kind": "exact", "smooth": 1}},
        {"trainer": {**after["trainer"], "max_steps": 10}},
    ):
        assert run_hash({**after, **change}) != run_hash(before)


# the defaults of arguments that were added after the first hashes: one more line for each. A line never changes: with
# another default the same hash would stand for other results. Whoever must change a default gives the argument another
# name
#: the classes of data sets, which share the arguments of their base
DATA = (
    *("CIFAR10", "CIFAR100", "ClassificationData", "Data", "Diabetes", "DigitAttributes", "Digits", "FashionMNIST"),
    *("ImageFolder", "InMemory", "InMemoryData", "MNIST"),
)
#: of data sets of texts
TEXTS = {
    **dict.fromkeys(("augment", "augment_seed", "class_names", "labelled", "mixing", "pad_token", "replicas")),
    "masking": None,
    **dict.fromkeys(("teacher_tokenizer", "text_pair", "threshold", "tokenizer_revision")),
    "batch_size": 128,
    "buckets": False,
    "drop_last": True,
    "evaluation_batch_size": 1000,
    "faulty": "refuse",
    "folder": "data",
    "fraction": 1.0,
    "label": "label",
    "label_kind": "auto",
    "length": 128,
    "omit_classes": (),
    "pad_to": "longest",
    "rest": "unlabelled",
    "split_seed": 0,
    "teacher_pad_to": "same",
    "test_fraction": 0.2,
    "text": "text",
    "truncate": True,
    "validation": 0.1,
}
FILES = {
    **dict.fromkeys(("columns", "quotes", "test", "unlabelled", "validation_file")),
    "encoding": "utf-8",
    "errors": "strict",
}
HUB = {
    **dict.fromkeys(("config", "revision", "unlabelled_split", "validation_split")),
    "test_split": "test",
    "train_split": "train",
}
SUMS = {
    "largest": 99,
    "samples": 2000,
    "test_samples": 1000,
    "length": 16,
    "pad_to": "longest",
    "teacher_pad_to": "same",
    "buckets": False,
    "folder": "data",
    "batch_size": 64,
    "evaluation_batch_size": 500,
    "validation": 0.1,
    "split_seed": 0,
    "fraction": 1.0,
    "drop_last": True,
}
STRATEGY = {"epochs": None, "generation": 0, "seed": 1, "taps": None}
ON_POLICY = {
    "capacity": 1000,
    "longest": 32,
    "overlap": 8,
    "rise": 0.1,
    "share": 0.5,
    "teacher_mix": 0.0,
    "temperature": 1.0,
    "tolerance": 0.1,
    "warm_up": 0.0,
    **STRATEGY,
}
CAUSAL = {**TEXTS, **dict.fromkeys(("answer", "in_memory", "messages", "prompt")), "end": True, "packed": False}
LATER = {
    **{f"data.CausalText.{key}": value for key, value in CAUSAL.items()},
    **{f"data.CausalTextFiles.{key}": value for key, value in {**CAUSAL, **FILES}.items()},
    **{f"data.HuggingFaceCausalTexts.{key}": value for key, value in {**CAUSAL, **HUB}.items()},
    **{f"data.TextData.{key}": value for key, value in TEXTS.items()},
    **{f"data.TextFiles.{key}": value for key, value in {**TEXTS, **FILES}.items()},
    **{f"data.HuggingFaceTexts.{key}": value for key, value in {**TEXTS, **HUB}.items()},
    **{f"data.Sums.{key}": value for key, value in SUMS.items()},
    **{f"strategies.OnPolicy.{key}": value for key, value in ON_POLICY.items()},
    **{f"strategies.Privileged.{key}": value for key, value in ON_POLICY.items()},
    "losses.Probe.label_blocks": None,
    "strategies.Step.batch": None,
    "strategies.Privileged.decay": 0.95,
    "strategies.Privileged.teaches": "average",
    "losses.PolicyGradient.clip": 100.0,
    "losses.PolicyGradient.discount": 0.95,
    "losses.PolicyGradient.length": "remaining",
    "losses.PolicyGradient.single_step": 1.0,
    "data.Data.augment": None,
    "data.Data.batch_size": 128,
    "data.Data.drop_last": True,
    "data.Data.evaluation_batch_size": 1000,
    "data.Data.fraction": 1.0,
    "data.Data.mixing": None,
    "data.Data.split_seed": 0,
    "data.Data.validation": 0.1,
    "data.Diabetes.augment": None,
    "data.Diabetes.batch_size": 128,
    "data.Diabetes.drop_last": True,
    "data.Diabetes.evaluation_batch_size": 1000,
    "data.Diabetes.fraction": 1.0,
    "data.Diabetes.mixing": None,
    "data.Diabetes.split_seed": 0,
    "data.Diabetes.validation": 0.1,
    "data.DigitAttributes.augment": None,
    "data.DigitAttributes.batch_size": 128,
    "data.DigitAttributes.drop_last": True,
    "data.DigitAttributes.evaluation_batch_size": 1000,
    "data.DigitAttributes.fraction": 1.0,
    "data.DigitAttributes.mixing": None,
    "data.DigitAttributes.split_seed": 0,
    "data.DigitAttributes.validation": 0.1,
    "data.ImageFolder.bits": None,
    "data.ImageFolder.exif_rotation": False,
    "data.ImageFolder.validation_folder": None,
    "data.ImageFolder.value_range": None,
    "data.InMemory.augment": None,
    "data.InMemory.batch_size": 128,
    "data.InMemory.drop_last": True,
    "data.InMemory.evaluation_batch_size": 1000,
    "data.InMemory.fraction": 1.0,
    "data.InMemory.mixing": None,
    "data.InMemory.split_seed": 0,
    "data.InMemory.validation": 0.1,
    **{f"data.{name}.{key}": None for name in DATA for key in ("augment_seed", "replicas")},
    "data.MaskTokens.probability": 0.15,
    "data.MaskTokens.masked": 0.8,
    "data.MaskTokens.random": 0.1,
    "losses.BinaryCrossEntropy.mean_over_labels": True,
    "losses.SimilarityKL.student_taps": "embedding",
    "losses.SimilarityKL.teacher_taps": "embedding",
    "losses.SimilarityKL.temperature": 0.1,
    "losses.Probe.student_network": None,
    "losses.SigmoidKD.mean_over_labels": True,
    "losses.TinyBERT.first_layer": 1,
    "losses.SigmoidKD.temperature": 1.0,
    "losses.SigmoidKD.temperature_squared": True,
    "models.HuggingFaceClassifier.classes": None,
    **{
        f"models.TextEncoder.{name}": None
        for name in ("pretrained", "architecture", "classes", "vocabulary", "layers", "width", "heads", "intermediate")
    },
    **{f"models.TextEncoder.{name}": None for name in ("options", "padding", "revision")},
    **{f"models.TextEncoder.{name}": False for name in ("normalise", "allow_pickle", "trust_remote_code")},
    "models.TextEncoder.lora": None,
    "models.TextEncoder.head": "classification",
    "models.TextEncoder.positions": 512,
    "models.TextEncoder.pooling": "mean",
    "models.TextEncoder.attention": "sdpa",
    **dict.fromkeys(
        f"models.CausalModel.{name}"
        for name in (
            *("architecture", "attention", "bits", "heads", "intermediate", "keep_layers", "key_value_heads", "layers"),
            *("head_width", "lora", "options", "pretrained", "revision", "vocabulary", "width"),
        )
    ),
    **{f"models.CausalModel.{name}": False for name in ("allow_pickle", "gradient_checkpointing", "trust_remote_code")},
    "models.CausalModel.positions": 512,
    "models.CausalModel.tied": True,
    "teachers.Frozen.class_order": None,
    "teachers.Served.in_flight": 8,
    "teachers.Served.key_variable": "OPENAI_API_KEY",
    "teachers.Served.model": None,
    "teachers.Served.protocol": "prompt",
    "teachers.Served.retries": 8,
    "teachers.Served.timeout": 60.0,
    "teachers.Served.top_k": 20,
    "teachers.Served.vocabulary": None,
}


def test_defaults_of_arguments_added_later_do_not_change():
    found = {}
    for package in ("data", "losses", "models", "strategies", "teachers"):
        for name, thing in vars(import_module(f"kdlab.{package}")).items():
            if callable(thing) and getattr(thing, "__module__", "").startswith(f"kdlab.{package}."):
                defaults = signature(f"kdlab.{package}.{name}").defaults
                first = identity._first_arguments().get(identity._name_of(thing), ())
                found |= {
                    f"{package}.{thing.__qualname__}.{key}": value
                    for key, value in defaults.items()
                    if key not in first and identity._plain(value)
                }
    assert found == LATER


@pytest.mark.parametrize(
    "overrides",
    [["experiment=hinton2015/student"], ["teacher.seed=null"], ["teacher.seed=${seed}"], ["strategy=born_again"]],
    ids=str,
)
def test_runs_whose_teachers_have_their_seed_are_one_group(overrides):
    first, second, other = (
        compose([*overrides, f"seed={seed}", *more]) for seed, more in ((1, []), (2, []), (2, ["optimizer.lr=0.5"]))
    )
    assert identity.group_hash(first) == identity.group_hash(second) != identity.group_hash(other)
    assert (
        run_hash(first) != run_hash(second)
        and first["teacher"]["config"]["seed"] == 1
        and second["teacher"]["config"]["seed"] == 2
    )


# -- one value, one hash -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "counts"), [("16", "16-mixed"), ("bf16", "bf16-mixed"), ("32", "32-true"), ("64", "64-true")]
)
def test_spellings_of_a_precision_are_one_run(spelled, counts):
    assert run_hash(compose([f"trainer.precision={spelled}"])) == run_hash(compose([f"trainer.precision={counts}"]))
    assert (run_hash(compose([f"trainer.precision={counts}"])) == run_hash(compose([]))) == (counts == "32-true")


def test_a_run_of_before_the_spellings_counted_as_one_is_found(tmp_path):
    config = compose(["trainer.precision=bf16"])
    older = tmp_path / "quickstart" / f"readable-{hash_as_spelled(config)}"
    older.mkdir(parents=True)
    assert RunStore(tmp_path).run(config).path == older and hash_as_spelled(config) != run_hash(config)
    assert hash_as_spelled(compose(["trainer.precision=bf16-mixed"])) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["strategy=born_again", "strategy.generation=1"],
        ["initial=same_but", 'student.initial.same_but=["initial=none","seed=5"]'],
    ],
)
def test_the_runs_before_it_counted_as_they_were_spelled_too(overrides):
    config = compose([*overrides, "trainer.precision=bf16"])
    node = config["student"].get("initial") or config["teacher"]
    earlier, older = hash_as_spelled(node["config"]), hash_as_spelled(config)
    kept = identity.canonical(config, {})
    assert earlier in str(kept) and run_hash(node["config"]) not in str(kept) and older == identity._digest(kept)


# -- every leaf counts -------------------------------------------------------------------------------------------------

CONFIGS = {
    "default": [],
    "images": ["data=image_folder", "data.classes=4", "student=resnet8", "strategy=supervised", "mixing=cutmix"],
    "everything": [
        "student=cnn",
        "loss=[ce,kd,attention,crd]",
        "mixing=mixup",
        "optimizer=sgd",
        "scheduler=multistep",
        "callbacks=ema",
        "data.fraction=0.5",
        "trainer.accumulate_grad_batches=2",
        "compile=aot_eager",
        "trainer=ddp_cpu",
    ],
    "peers": ["strategy=online", "+student@strategy.peers.wide=mlp_wide", "strategy.decay=0.9", "scheduler=onecycle"],
    "schedule": ["loss.kd.temperature={schedule: linear, start: 8, end: 2, epochs: 10}"],
    "ensemble": ["teacher=ensemble", "teacher.weights=[2,1,1]"],
}


def leaves(node, place=()):
    """Every value of a config that is no container, and every empty container, with its place. Beside the config of an
    earlier run stands only how it was asked for."""
    if isinstance(node, dict) and node:
        for key, value in ({"config": node["config"]} if "config" in node else node).items():
            yield from leaves(value, (*place, key))
    elif isinstance(node, list) and node:
        for number, value in enumerate(node):
            yield from leaves(value, (*place, number))
    else:
        yield place, node


def changed(config, place, value):
    result = copy.deepcopy(config)
    node = result
    for key in place[:-1]:
        node = node[key]
    if value is None and place[-1] in ("teacher", "initial"):
        node[place[-1]] = {"_target_": "my.network"}
    else:
        changes = {
            bool: lambda: not value,
            int: lambda: value + 7,
            float: lambda: value + 0.123,
            str: lambda: f"{value}x",
        }
        node[place[-1]] = changes.get(type(value), lambda: ["changed"])()
    return result


def does_not_count(config, place) -> bool:
    """As kdlab/runs/README.md says."""
    while "config" in place:  # what does not count of a run does not count of the run that teaches it
        place = place[place.index("config") + 1 :]
    names = place[0] in ("choices", "overrides", "name", "paths", "fresh", "progress", "logger")
    return names or place in (("data", "workers"), ("teacher", "cache"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_leaf_of_a_config_counts(name):
    config = compose(CONFIGS[name])
    before, places = run_hash(config), list(leaves(config))
    assert len(places) > 40
    wrong = [
        place
        for place, value in places
        if (run_hash(changed(config, place, value)) == before) != does_not_count(config, place)
    ]
    assert not wrong


def test_what_does_not_count_is_what_the_readme_says():
    tops = {"choices", "overrides", "name", "paths", "fresh", "progress", "logger"}
    assert keys.NOT_IDENTITY == {*tops, "data.vocabulary", "teacher.cache", "teacher.cache_gb", "teacher.cache_auto"}
    text = (Path(__file__).parents[2] / "kdlab" / "runs" / "README.md").read_text(encoding="utf-8")
    said = re.search(r"The hash is over the whole composed config.*?\n\n", text, re.DOTALL)[0]
    assert all(
        f"`{key}`" in said
        for key in (*tops - {"choices", "overrides"}, "data.workers", "data.vocabulary", "teacher.cache")
    )


@pytest.mark.parametrize(
    ("key", "first", "second"),
    [
        ("teacher.weights", [1.0, 2.0], [2.0, 1.0]),
        ("teacher.average", "probabilities", "logits"),
        ("teacher.members.a.network.hidden", [32], [64]),
        ("teacher.members.a.normalisation", None, {"mean": [0.5], "std": [0.5]}),
        ("teacher.members.b.normalisation", {"mean": [0.5], "std": [0.5]}, {"mean": [0.5], "std": [0.25]}),
        ("teacher.members.a.part", None, "ema"),
        ("student.initial.part", None, "ema"),
        ("student.initial.new_head", False, True),
        ("student.initial.losses", False, True),
        ("student.initial.weights", True, False),
        ("student.initial.network.hidden", [32], [64]),
    ],
)
def test_nodes_of_teachers_and_of_first_weights_count(tmp_path, key, first, second):
    """They are not counted as they stand, but by what they name; what else they say counts too."""
    file = tmp_path / "weights.pt"
    file.write_bytes(b"weights")
    network = {"_target_": "kdlab.models.MLP", "hidden": [32]}
    node = {"checkpoint": str(file), "network": network}
    config = {
        **compose(["strategy=supervised"]),
        "teacher": {"members": {"a": node, "b": node}, "average": "probabilities", "weights": None},
    }
    config["student"]["initial"] = {**node, "weights": True, "losses": False}
    hashes = []
    for value in (first, second):
        own = copy.deepcopy(config)
        *path, last = key.split(".")
        inner = own
        for part in path:
            inner = inner[part]
        inner[last] = value
        hashes.append(run_hash(own))
    assert hashes[0] != hashes[1]


def test_options_that_kdlab_has_added_do_not_change_the_hash_of_data_of_ones_own():
    config = compose(["data=digits", "data._target_=mine.Digits", "strategy=supervised", "teacher=none"])
    before = copy.deepcopy(config)
    for key in ("augment_seed", "replicas"):
        assert before["data"].pop(key) is None
    assert run_hash(before) == run_hash(config)
    config["data"]["replicas"] = 2
    assert run_hash(before) != run_hash(config)
