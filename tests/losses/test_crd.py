import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.nn.functional import normalize

from kdlab.batch import Batch
from kdlab.functional.crd import negatives, rows_are_gathered
from kdlab.losses import CRD, Probe, crd
from kdlab.outputs import Outputs

TARGET = torch.tensor([5, 5, 7, 9, 7, 5, 9, 5])


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def outputs(rows, width, seed):
    return Outputs(torch.zeros(rows, 3), {"embedding": tensor(rows, width, seed=seed)})


def prepared(target=TARGET, rows=None, **options):
    torch.manual_seed(0)
    loss = CRD(**{"dimensions": 6, "negatives": 50, **options})
    loss.prepare(Probe(outputs(2, 4, 1), outputs(2, 5, 2), None, 3, 8, target, rows))
    return loss


@pytest.mark.parametrize("target", [TARGET, None])
@pytest.mark.parametrize("rows", [None, torch.tensor([6, 0, 1, 2, 4])])
def test_negatives_are_all_samples_of_other_classes_in_use_and_equally_often(target, rows):
    loss, index = prepared(target, rows), torch.tensor([0, 2, 6])
    torch.manual_seed(1)
    drawn = negatives(index, loss.label, loss.order, loss.first, loss.count, 4000)
    label = torch.arange(8) if target is None else target
    for own, found in zip(index.tolist(), drawn):
        others = [row for row in (range(8) if rows is None else rows.tolist()) if label[row] != label[own]]
        counts = found.bincount(minlength=8)
        assert counts.nonzero().flatten().tolist() == sorted(others)
        assert (counts[others] - 4000 / len(others)).abs().max() < 5 * (4000 / len(others)) ** 0.5


def test_a_step_moves_the_samples_own_rows_and_sets_z_once():
    loss = prepared(momentum=0.25).train()
    before, index = loss.teacher_memory.clone(), torch.tensor([4, 1, 6])
    batch = Batch(None, None, index)
    values = loss(outputs(3, 4, 3), outputs(3, 5, 4), batch)
    assert values.shape == (3,) and values.isfinite().all()
    embedding = normalize(loss.teacher_embedding(tensor(3, 5, seed=4)), dim=1).detach()
    torch.testing.assert_close(loss.teacher_memory[index], normalize(0.25 * before[index] + 0.75 * embedding, dim=1))
    kept = [row for row in range(8) if row not in index.tolist()]
    assert torch.equal(loss.teacher_memory[kept], before[kept])
    first = loss.normalisers.clone()
    assert (first > 0).all()
    loss(outputs(3, 4, 5), outputs(3, 5, 6), batch)
    assert torch.equal(loss.normalisers, first)
    values.mean().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in loss.parameters())


def test_z_of_each_side_is_against_the_memory_of_the_other():
    """By hand: n times the mean of exp(v m / tau), over the memories as they were before the step."""
    loss = prepared(temperature=0.5).train()
    memories = loss.teacher_memory.clone(), loss.student_memory.clone()
    contrast = torch.tensor([[0, 2, 3], [1, 4, 6]])
    mine, theirs = tensor(2, 4, seed=3), tensor(2, 5, seed=4)
    loss.contrast(Outputs(None, {"embedding": mine}), Outputs(None, {"embedding": theirs}), contrast[:, 0], contrast)
    embeddings = normalize(loss.student_embedding(mine), dim=1), normalize(loss.teacher_embedding(theirs), dim=1)
    scores = [torch.einsum("bd,bkd->bk", v, memory[contrast]) / 0.5 for v, memory in zip(embeddings, memories)]
    expected = [8 * score.exp().mean() for score in scores]
    torch.testing.assert_close(loss.normalisers.float(), torch.stack(expected).detach(), rtol=1e-5, atol=0)
    assert abs(expected[0] - expected[1]) > 0.01


def test_memories_and_z_are_in_the_checkpoint_and_the_table_is_not():
    loss = prepared().train()
    loss(outputs(3, 4, 3), outputs(3, 5, 4), Batch(None, None, torch.arange(3)))
    assert {"student_memory", "teacher_memory", "normalisers"} < set(loss.state_dict())
    assert not {"label", "order", "first", "count"} & set(loss.state_dict())
    again = prepared()
    again.load_state_dict(loss.state_dict())
    torch.manual_seed(3)
    values = loss.eval()(outputs(3, 4, 5), outputs(3, 5, 6), Batch(None, None, torch.arange(3)))
    torch.manual_seed(3)
    assert torch.equal(again.eval()(outputs(3, 4, 5), outputs(3, 5, 6), Batch(None, None, torch.arange(3))), values)


def counting(monkeypatch):
    """The calls that compute or reduce Z, as they come."""
    calls = []
    for name in ("contrastive_normaliser", "_mean"):
        function = getattr(crd, name)
        monkeypatch.setattr(
            crd,
            name,
            lambda *arguments, name=name, function=function: calls.append(name) or function(*arguments),
        )
    return calls


def test_z_is_computed_and_reduced_at_the_first_training_step_only(monkeypatch):
    calls, batch, once = counting(monkeypatch), Batch(None, None, torch.arange(3)), ["contrastive_normaliser"] * 2
    loss, fresh = prepared(), {name: value.clone() for name, value in prepared().state_dict().items()}
    loss.eval()(outputs(3, 4, 3), outputs(3, 5, 4), batch)
    assert calls == once and (loss.normalisers == 0).all()
    calls.clear()
    for _ in range(3):
        loss.train()(outputs(3, 4, 3), outputs(3, 5, 4), batch)
        loss.eval()(outputs(3, 4, 3), outputs(3, 5, 4), batch)
    assert calls == [*once, "_mean"]
    again = prepared()
    again.load_state_dict(loss.state_dict())
    again.train()(outputs(3, 4, 3), outputs(3, 5, 4), batch)
    assert calls == [*once, "_mean"] and torch.equal(again.normalisers, loss.normalisers)
    loss.load_state_dict(fresh)  # from before the first batch: Z is to be set again
    loss.train()(outputs(3, 4, 3), outputs(3, 5, 4), batch)
    assert calls == 2 * [*once, "_mean"] and (loss.normalisers > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_with_thousands_of_negatives_low_precision_costs_little(dtype):
    """The value is about 10, between sums of 18000 each; Z is beyond float16."""
    batch = Batch(None, None, torch.arange(3))
    values = []
    for enabled in (False, True):
        loss = prepared(negatives=16384).double() if not enabled else prepared(negatives=16384)
        torch.manual_seed(1)
        student, teacher = outputs(3, 4, 3), outputs(3, 5, 4)
        if not enabled:
            student, teacher = (
                Outputs(x.logits, {"embedding": x.features["embedding"].double()}) for x in (student, teacher)
            )
        with torch.autocast("cpu", dtype, enabled=enabled):
            values.append(loss(student, teacher, batch))
        values[-1].mean().backward()
        assert all(
            parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0 for parameter in loss.parameters()
        )
    assert values[1].dtype == torch.float32
    # the embeddings are of low precision
    torch.testing.assert_close(values[1].double(), values[0], rtol=0.05, atol=0.0)


def test_z_stays_in_float32_in_a_half_module():
    loss = prepared()
    loss.normalisers += 1e6
    for dtype in (torch.float16, torch.bfloat16):
        loss.to(dtype)
        assert (
            loss.normalisers.dtype == torch.float32
            and (loss.normalisers == 1e6).all()
            and loss.student_memory.dtype == dtype
        )
    assert loss.double().normalisers.dtype == torch.float64


def test_a_dead_feature_has_a_finite_gradient():
    loss = prepared().train()
    nn.init.zeros_(loss.student_embedding.bias)
    dead = torch.zeros(3, 4, requires_grad=True)
    loss(
        Outputs(torch.zeros(3, 3), {"embedding": dead}), outputs(3, 5, 4), Batch(None, None, torch.arange(3))
    ).mean().backward()
    assert (dead.grad == 0).all() and all(parameter.grad.abs().max() < 1e3 for parameter in loss.parameters())


def test_in_evaluation_nothing_moves():
    loss = prepared().eval()
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss(outputs(3, 4, 3), outputs(3, 5, 4), Batch(None, None, torch.arange(3)))
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_one_class_has_no_negatives():
    with pytest.raises(ValueError, match="one class"):
        prepared(torch.zeros(8, dtype=torch.long))


@pytest.mark.parametrize(
    "options, name",
    [
        ({"dimensions": 0}, "dimensions"),
        ({"negatives": 0}, "negatives"),
        ({"temperature": 0}, "temperature"),
        ({"momentum": 1.5}, "momentum"),
    ],
)
def test_bad_arguments_name_themselves(options, name):
    with pytest.raises(ValueError, match=name):
        CRD(**options)


# -- several processes -------------------------------------------------------------------------------------------------

# one sample is on both
STUDENT, TEACHER, INDEX = (
    tensor(5, 4, seed=3),
    tensor(5, 5, seed=4),
    torch.tensor([4, 1, 6, 1, 0]),
)
PARTS = (slice(0, 3), slice(3, 5))


def part(loss, rows):
    """One step on some of the samples, against fixed negatives."""
    contrast = torch.stack([INDEX[rows], torch.full_like(INDEX[rows], 2), torch.full_like(INDEX[rows], 3)], 1)
    student, teacher = (
        Outputs(torch.zeros(1), {"embedding": STUDENT[rows]}),
        Outputs(torch.zeros(1), {"embedding": TEACHER[rows]}),
    )
    loss.contrast(student, teacher, INDEX[rows], contrast)
    return {name: value for name, value in loss.state_dict().items() if "memory" in name or name == "normalisers"}


def process(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    loss = prepared()
    if rank == 0:  # a batch of the evaluation that the other process has not: nobody may wait for it
        part(loss.eval(), PARTS[rank])
    torch.save(part(loss.train(), PARTS[rank]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_memories_of_one(tmp_path):
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = part(prepared().train(), slice(None))
    for name in ("student_memory", "teacher_memory"):
        torch.testing.assert_close(first[name], alone[name])
    each = [part(prepared().train(), rows)["normalisers"] for rows in PARTS]
    torch.testing.assert_close(first["normalisers"], (each[0] + each[1]) / 2)


def test_few_rows_are_gathered_and_many_are_not_with_one_result(monkeypatch):
    """The gathered rows are copies, so the memories may move before the gradient is taken."""
    found, index, rows = [], torch.tensor([4, 1]), torch.tensor([[4, 2, 3], [1, 6, 3]])
    for gathered in (True, False):
        loss = prepared().train()
        if gathered:
            assert rows_are_gathered(loss.student_memory, rows) and not rows_are_gathered(
                loss.student_memory, rows.repeat(1, 2)
            )
        else:
            for module in ("kdlab.functional.crd", "kdlab.losses.crd"):
                monkeypatch.setattr(f"{module}.rows_are_gathered", lambda memory, contrast: False)
        values = loss.contrast(outputs(2, 4, 3), outputs(2, 5, 4), index, rows)
        values.sum().backward()
        found.append(
            [
                values.detach(),
                *(parameter.grad for parameter in loss.parameters()),
                loss.student_memory,
                loss.normalisers,
            ]
        )
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)
