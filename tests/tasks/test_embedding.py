"""Embeddings: the metrics by hand, what a teacher is checked for, and runs without labels."""

import csv
import json

import pytest
import torch

from kdlab import train
from kdlab.batch import Batch
from kdlab.config.compose import compose
from kdlab.data import TextFiles
from kdlab.errors import InputError
from kdlab.measure.embeddings import MOST_SAMPLES, CosineToTeacher, RetrievalAgreement, SimilarityCorrelation
from kdlab.measure.probes import knn_accuracy, linear_probe_accuracy
from kdlab.outputs import Outputs
from kdlab.runs.run import runs_in
from kdlab.tasks import Embedding
from kdlab.training.assemble import assembled
from kdlab.training.probing import vectors_of
from tests.data.text.texts import options, sentences, text_file

TASK = Embedding(16)


def vectors(seed, rows=30, width=16):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def fed(metric, *sides, size=7):
    for parts in zip(*(side.split(size) for side in sides)):
        metric.update(*parts)
    return float(metric.compute())


def test_correlation_is_that_of_all_pairs():
    s = vectors(0)
    t = s + vectors(1)
    units = [torch.nn.functional.normalize(x.double()) for x in (s, t)]
    above = torch.ones(30, 30).triu(1).bool()
    expected = torch.corrcoef(torch.stack([(u @ u.T)[above] for u in units]))[0, 1]
    assert fed(SimilarityCorrelation(16), s, t) == pytest.approx(float(expected), rel=1e-10)
    turned = torch.linalg.qr(vectors(2, 16)).Q
    assert fed(SimilarityCorrelation(16), 3 * s @ turned, s) == pytest.approx(1, abs=1e-6)
    s[3] = 0  # a vector of length 0 has the cosine 0 with all others
    units[0][3] = 0
    expected = torch.corrcoef(torch.stack([(u @ u.T)[above] for u in units]))[0, 1]
    assert fed(SimilarityCorrelation(16), s, t) == pytest.approx(float(expected), rel=1e-10)


def test_correlation_that_is_not_defined():
    same = torch.ones(5, 16)
    assert torch.tensor(fed(SimilarityCorrelation(16), same, vectors(0, 5))).isnan()
    assert torch.tensor(fed(SimilarityCorrelation(16), vectors(1, 2), vectors(0, 2))).isnan()
    with pytest.raises(ValueError, match=r"\(5, 16\).*\(5, 8\)"):
        SimilarityCorrelation(16).update(same, same[:, :8])


def test_cosine():
    s, t = vectors(0), vectors(1)
    expected = torch.nn.functional.cosine_similarity(s, t).mean()
    assert fed(CosineToTeacher(), s, t) == pytest.approx(float(expected), rel=1e-5)


def test_retrieval_agreement():
    s = vectors(0, 40)
    t = s + 0.5 * vectors(1, 40)
    shared = 0
    for row in range(40):
        near = []
        for x in (s, t):
            similar = torch.nn.functional.cosine_similarity(x[row : row + 1], x)
            similar[row] = -2
            near.append(set(similar.topk(10).indices.tolist()))
        shared += len(near[0] & near[1])
    assert fed(RetrievalAgreement(), s, t) == pytest.approx(shared / 400) and 0.3 < shared / 400 < 0.9
    assert fed(RetrievalAgreement(), s, s) == 1
    limited = RetrievalAgreement(most=20)
    assert fed(limited, s, t) == fed(RetrievalAgreement(), s[:20], t[:20]) and MOST_SAMPLES == 10_000
    assert torch.tensor(fed(RetrievalAgreement(), s[:11], t[:11])).isnan(), "all others are neighbours of both"


def test_what_a_teacher_is_checked_for():
    def tested(values):
        test = TASK.chance()
        for part in values.split(7):
            test.update(part, torch.zeros(len(part)))
        return test

    good = tested(vectors(0))
    units = torch.nn.functional.normalize(vectors(0).double())
    assert good.mean_cosine == pytest.approx(float(((units @ units.T).sum() - 30) / (30 * 29)), abs=1e-9)
    assert good.p_value() == 0 and good.least_p_value() == 0 and good.summary.startswith("vectors of 16 numbers")
    for bad in (vectors(0)[:1].repeat(30, 1), torch.zeros(30, 16), torch.full((30, 16), torch.nan)):
        assert tested(bad).p_value() == 1


def test_what_is_stored():
    batch = Batch(None, None, torch.arange(2))
    assert set(TASK.predictions(Outputs(vectors(0, 2)), batch)) == {"logits", "index"}
    labelled = batch.replace(target=torch.tensor([1, 0]))
    assert set(TASK.predictions(Outputs(vectors(0, 2)), labelled)) == {"logits", "index", "target"}


@pytest.fixture
def given(tmp_path):
    """The command line of a short run on texts without labels."""
    return [
        "data=text",
        "task=embedding",
        f"data.train={text_file(tmp_path / 'train.tsv', sentences(120))}",
        "data.label=null",
        "data.classes=16",
        "data.vocabulary=33",
        *(f"data.{name}={value}" for name, value in options(tmp_path).items()),
        *["student=bert", "student.head=embedding", "student.width=8", "student.heads=2"],
        *["student.layers=1", "student.positions=32"],
        "optimizer.lr=0.01",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "progress=none",
        f"paths.runs={tmp_path / 'runs'}",
    ]


TEACHER = ["teacher=network", "teacher._target_=tests.tasks.encoders.fixed_encoder"]


def curve(run):
    with open(run.metrics_file) as file:
        return [
            {name: one for name, one in row.items() if name not in ("seconds", "train/teacher_share")}
            for row in csv.DictReader(file)
        ]


def test_a_run_and_its_kept_answers(given):
    run = train([*given, *TEACHER, "data.teacher_pad_to=length"])
    record = json.loads((run.path / "run.json").read_text())
    assert record["task"]["name"] == "embedding" and record["teacher"]["validation_cosine_to_teacher"] == 1
    assert {"test/similarity_correlation", "test/cosine_to_teacher", "test/retrieval_agreement"} <= set(run.metrics)
    assert float(curve(run)[1]["train/loss"]) < float(curve(run)[0]["train/loss"])
    stored = run.predictions()
    assert stored["last"].shape == (24, 16) and "target" not in stored
    assert run.student.projection.weight.shape == (16, 8)
    kept = train([*given, *TEACHER, "data.teacher_pad_to=length", "teacher.cache=fixed", "name=kept"])
    assert kept.hash == run.hash and curve(kept) == curve(run), "bit for bit"


def test_validation_measures_against_the_teacher(given):
    parts = assembled(compose([*given, *TEACHER]))
    strategy, said = parts.strategy.eval(), {"student": [], "teacher": []}
    with torch.no_grad():
        for batch in parts.data.val_dataloader():
            strategy._measure(batch, "validation")
            said["student"].append(strategy.student(**batch.inputs))
            said["teacher"].append(parts.teacher.network(**batch.inputs))
    found = strategy._measured()["student"]
    mine, theirs = (torch.cat(one) for one in said.values())
    assert found["cosine_to_teacher"] == pytest.approx(fed(CosineToTeacher(), mine, theirs), rel=1e-6)
    assert found["similarity_correlation"] == pytest.approx(fed(SimilarityCorrelation(16), mine, theirs), rel=1e-6)


def test_labels_are_not_read(given):
    """data.classes is the width, also where the data have labels; these are stored with the test vectors."""
    run = train([*given, *TEACHER, "data.label=label", "trainer.max_epochs=1"])
    assert run.predictions()["target"].unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    "more, told",
    [
        (["teacher=none"], "task=embedding reads no labels and measures how close"),
        (["teacher=none", "strategy=supervised"], "this run has none"),
        ([*TEACHER, "strategy=supervised"], "task=embedding reads none; choose strategy=offline"),
        (["teacher=trained"], "would be trained on labels"),
        ([*TEACHER, "loss=[kd]"], r"HintonKD is for classes, .* answers with vectors; for example loss=\[logit_mse\]"),
        ([*TEACHER, "data.classes=8"], "vectors of 16 numbers, and data.classes=8.*set data.classes=16"),
        (
            [*TEACHER, "student.head=classification"],
            "^student.head=classification is no head for task=embedding; student.head=embedding$",
        ),
        ([*TEACHER, "student.classes=4"], "student: the network answers with vectors of 4 numbers"),
        (["teacher=none", "strategy=online", "strategy.peers=1"], "needs? .*teacher|measures how close"),
        ([*TEACHER, "task.measured=[retrieval_agreement]"], "measured on test only"),
    ],
)
def test_refused(given, more, told):
    with pytest.raises(InputError, match=told):
        assembled(compose([*given, *more]))


def test_a_teacher_of_constant_vectors_is_refused(given):
    with pytest.raises(InputError, match="gives the same vector for every sample"):
        train([*given, *TEACHER, "+teacher.constant=true"])


@pytest.mark.slow
def test_a_sweep_asks_its_teacher_once(kdlab, given):
    """Two temperatures of the loss on similarities share the kept answers, those on validation and test, too."""
    taught = [*given, *TEACHER, "data.teacher_pad_to=length", "loss=[hidden_cosine,similarity_kl]"]
    code, out, err = kdlab("train", "-m", *taught, "loss.similarity_kl.temperature=0.05,0.5", "progress=lines")
    assert code == 0, err
    runs = runs_in([next(one for one in given if one.startswith("paths.runs=")).partition("=")[2]])
    assert len(runs) == 2 and sum(run.record["cache"]["computed"] for run in runs) == 1
    assert len({run.metrics["test/similarity_correlation"] for run in runs}) == 2
    assert "similarity_correlation" in out
    alone = train([*taught, "loss.similarity_kl.temperature=0.05", "name=alone"])
    (kept,) = (run for run in runs if run.hash == alone.hash)
    assert curve(kept) == curve(alone), "bit for bit"


def test_probes_by_hand():
    train_vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0]])
    target = torch.tensor([0, 0, 1, 1, 1])
    asked = torch.tensor([[1.0, 0.3], [1.0, 0.0], [0.0, 1.0]])
    # one neighbour: classes 1, 0, 1; three: 0, 0, 1
    assert knn_accuracy(train_vectors, target, asked, torch.tensor([1, 0, 1]), 1) == 1
    assert knn_accuracy(train_vectors, target, asked, torch.tensor([1, 0, 1]), 3) == pytest.approx(2 / 3)
    # two neighbours of (1, 0.16): one of each class, and the nearer one decides
    assert knn_accuracy(train_vectors, target, torch.tensor([[1.0, 0.16]]), torch.tensor([1]), 2) == 1
    assert linear_probe_accuracy(train_vectors, target, asked, torch.tensor([0, 0, 1])) >= 2 / 3


def test_a_probe_reads_the_labels_that_are_given(tmp_path):
    """With data.labelled, so many; the samples of a further file have none."""
    further = text_file(tmp_path / "further.tsv", [("a film",)], header=("text",))
    data = TextFiles(text_file(tmp_path / "t.tsv"), **options(tmp_path, labelled=10, unlabelled=further))
    data.setup()
    batches, count = data.in_order("train"), len(data.part("train"))

    def answer(batch):
        return Outputs(batch.index[:, None].float())

    found, target = vectors_of(answer, batches, count, data.labelled_samples())
    known = data.labelled_samples().nonzero().flatten()
    assert found[:, 0].long().tolist() == known.tolist() and len(known) == 10
    assert target.tolist() == data._both()[0].target[known].tolist()
    assert len(vectors_of(answer, batches, count)[0]) == count - 1, "all but the further one"


def test_evaluate_and_measure(kdlab, given):
    """A run without labels: its own scores, other data, probes by labels, and the time of texts of given lengths."""
    run = train([*given, *TEACHER, "trainer.max_epochs=1"])
    code, out, err = kdlab("evaluate", run.path)
    assert code == 0 and f"retrieval_agreement  {run.metrics['test/retrieval_agreement']:.4f}" in out, err
    code, out, err = kdlab("evaluate", run.path, "data.evaluation_batch_size=7")
    assert code == 0 and f"similarity_correlation  {run.metrics['test/similarity_correlation']:.4f}" in out, err
    code, out, err = kdlab("evaluate", run.path, "--probe")
    assert code == 2 and "data.label=label" in err
    code, out, err = kdlab("evaluate", run.path, "--probe", "data.label=label")
    assert code == 0, err
    found = dict(line.rsplit("  ", 1) for line in out.strip().splitlines()[1:])
    names = {f"{who} {name}" for who in ("student", "teacher") for name in ("knn_accuracy", "linear_probe_accuracy")}
    assert set(found) == names and all(0 <= float(value) <= 1 for value in found.values())
    code, out, err = kdlab("measure", run.path, "--batches", "1,2", "--lengths", "8,24", "--seconds", "0.01")
    assert code == 0 and "tokens" in out, err
    lengths = run.measurements["lengths"]
    assert list(lengths) == ["8", "24"] and list(lengths["8"]) == ["1", "2"]
    assert lengths["24"]["2"]["peak_inference_bytes"] > lengths["8"]["2"]["peak_inference_bytes"]
    code, out, err = kdlab("export", run.path, "--to", "hf")
    assert code == 2 and "maps the encoder's vectors by a linear layer" in err
    code, out, err = kdlab("measure", run.path, "--batches", "1", "--lengths", "64", "--seconds", "0.01")
    assert code == 2 and "positions for 32" in err
