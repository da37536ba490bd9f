"""Samples without labels beside labelled ones."""

import pytest
import torch

import kdlab
from kdlab.batch import Count
from kdlab.config.compose import compose
from kdlab.data import TextFiles
from kdlab.data.loader import Share
from kdlab.errors import InputError
from kdlab.functional import cross_entropy, hinton_kd
from kdlab.losses import CrossEntropy, HintonKD
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.runs.curve import MetricsFile
from kdlab.strategies.measured import MeanLosses
from kdlab.training.assemble import assembled
from tests.data.text.texts import BagOfTokens, options, overrides, sentences, text_file, trained_bag


def texts(tmp_path, rank=0, world=1, accumulate=1, **more):
    further = tmp_path / "further.txt"
    further.write_text("\n".join(text for text, _ in sentences(30)))
    given = {"unlabelled": str(further), **more}
    data = TextFiles(text_file(tmp_path / "t.tsv"), **options(tmp_path, **given))
    data.share = Share(rank, world, accumulate)
    data.setup()
    return data


def test_all_of_them_are_trained_on(tmp_path):
    data = texts(tmp_path)
    labelled, train = data.labelled_samples(), data.part("train")
    assert data.train_size == 48 + 30 and int(labelled.sum()) == 48
    assert set(range(48, 78)) <= set(train.tolist()) and int(data.part("validation").max()) < 48
    assert "data: 44 of 74 training samples have a label" in data.notes()
    for batch in data.train_dataloader():
        assert torch.equal(batch.labelled, batch.index < 48)
        assert batch.target[~batch.labelled].eq(0).all() and batch.labelled_normaliser == max(batch.labelled.sum(), 1)
    assert all(batch.labelled is None for batch in (*data.val_dataloader(), *data.test_dataloader()))


@pytest.mark.parametrize("world, accumulate", [(1, 1), (1, 3), (2, 1), (2, 3)])
def test_each_term_is_the_mean_over_its_rows(tmp_path, world, accumulate):
    objective = Objective({"ce": CrossEntropy(), "kd": HintonKD(2.0)}, {"ce": 0.5, "kd": 2.0})
    teacher = trained_bag().requires_grad_(False)
    torch.manual_seed(0)
    student = BagOfTokens().requires_grad_(False)

    def parts(batch):
        given = Outputs(student(**batch.inputs)), Outputs(teacher(**batch.inputs))
        return torch.stack([*objective(*given, batch).parts.values()]).double()

    whole = list(texts(tmp_path).train_dataloader())
    shares = [list(texts(tmp_path, rank, world, accumulate).train_dataloader()) for rank in range(world)]
    for step in range(0, len(shares[0]) - accumulate + 1, accumulate):
        mine = whole[step : step + accumulate]
        known = [(student(**one.inputs)[one.labelled], one.target[one.labelled]) for one in mine]
        ce = cross_entropy(torch.cat([one for one, _ in known]), torch.cat([one for _, one in known])).mean()
        kd = torch.cat([hinton_kd(student(**one.inputs), teacher(**one.inputs), 2.0) for one in mine]).mean()
        shared = sum(parts(one) for share in shares for one in share[step : step + accumulate]) / (world * accumulate)
        assert torch.allclose(shared, torch.stack([ce, kd]).double(), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_curve_has_the_mean_over_the_rows_that_a_term_saw(tmp_path, accumulate):
    """The student does not move, so each term has one value for each sample."""
    typed = overrides(tmp_path, "data.labelled=5", "optimizer.lr=0", "trainer.max_epochs=1", "optimizer.weight_decay=0")
    run = kdlab.train([*typed, f"trainer.accumulate_grad_batches={accumulate}", "scheduler=none"])
    (row,) = MetricsFile(run.metrics_file).load().rows
    parts = assembled(compose(typed))
    batches, student, teacher = list(parts.data.train_dataloader()), run.student, trained_bag()
    held = [int(batch.labelled.sum()) for batch in batches]
    assert sum(held) == 5 and 0 in held and len(set(held)) > 2 and len(held) % 4, "the batches differ, one has no label"
    with torch.no_grad():
        ce = [cross_entropy(student(**one.inputs)[one.labelled], one.target[one.labelled]) for one in batches]
        kd = [hinton_kd(student(**one.inputs), teacher(**one.inputs), 4.0) for one in batches]
    assert row["train/loss_ce"] == pytest.approx(torch.cat(ce).mean().item(), rel=1e-5)
    assert row["train/loss_kd"] == pytest.approx(torch.cat(kd).mean().item(), rel=1e-5)


def test_a_row_of_the_curve_without_labels_has_no_mean_over_them():
    losses = MeanLosses()
    losses.add({"ce": 0.0, "kd": 2.0}, 4.0, None, {"ce": Count(1.0, 0.0)})
    assert losses.means(torch.as_tensor, "cpu") == {"kd": 2.0}


def test_a_part_of_the_labels(tmp_path):
    few, more = (texts(tmp_path, unlabelled=None, labelled=count) for count in (10, 21))
    one, other = few.labelled_samples(), more.labelled_samples()
    assert int(one.sum()) == 10 and int(other.sum()) == 21 and bool((one <= other).all())
    assert few._both()[0].target[one].bincount().tolist() == [5, 5] and len(few.part("train")) == 44
    dropped = texts(tmp_path, unlabelled=None, labelled=10, rest="dropped")
    assert dropped.labelled_samples() is None and torch.equal(dropped.part("train"), one.nonzero().flatten())
    assert torch.equal(dropped.part("validation"), few.part("validation"))
    with pytest.raises(InputError, match="data.labelled=45: only 44 training samples have a label"):
        texts(tmp_path, labelled=45)


def test_numbers_to_predict(tmp_path):
    rows = [(text, place / 7) for place, (text, _) in enumerate(sentences(40))]
    path = text_file(tmp_path / "v.tsv", rows)
    data = TextFiles(path, **options(tmp_path, labelled=8))
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert int(data.labelled_samples().sum()) == 8 and batch.target.isfinite().all()


def test_a_run_and_what_is_refused(tmp_path):
    few = "data.labelled=10"
    run = kdlab.train(overrides(tmp_path, few, "data.teacher_pad_to=length", "teacher.cache=fixed"))
    assert run.finished
    for wrong, told in (
        ("strategy=cs_kd", "strategy: ClassWise needs a label of every sample"),
        ("loss=[ce,kd,crd]", "loss.crd: "),
    ):
        more = ["teacher=none"] if wrong.startswith("strategy") else []
        with pytest.raises(InputError) as error:
            assembled(compose(overrides(tmp_path, few, wrong, *more, teacher=not more)))
        assert told in str(error.value), str(error.value)
    dropped = overrides(tmp_path, few, "data.rest=dropped", "loss=[ce,kd]")
    assert assembled(compose(dropped)).data.train_dataloader().first(2).labelled is None
