"""What is kept of a language model's answers: the codecs of rows, and a teacher whose answers are found by sample and
position."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.cache import CachedRows, Contents, Store
from kdlab.cache.cached import LOGITS
from kdlab.cache.refusals import CannotKeep
from kdlab.cache.rows import row_codec
from kdlab.config.keys import CACHE_CODECS
from kdlab.errors import InputError
from kdlab.models.head import LanguageHead
from kdlab.outputs import LazyLogits
from kdlab.tasks import CausalLM
from kdlab.teachers import Frozen

VOCABULARY, WIDTH, LENGTH, TEXTS = 11, 4, 7, 9
CODECS = {
    "dense": {"name": "dense"},
    "hidden": {"name": "hidden"},
    "top_k": {"name": "top_k", "k": 3, "temperature": 1.0},
    "sampled": {"name": "sampled", "samples": 20, "exponent": 0.7, "temperature": 1.0},
}
CONTENTS = Contents({}, "w", {}, {}, "", "fixed", None, 4, "cpu, 1 threads", torch.__version__)
TASK = CausalLM(VOCABULARY)


class Model(nn.Module):
    """Hidden states of the tokens read so far, and a head; lazy where it is asked to be."""

    calls = 0

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embedding, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        with torch.no_grad():
            self.head.weight.mul_(4)

    def lazily(self):
        from contextlib import nullcontext

        return nullcontext()

    def head_alone(self):
        return LanguageHead(self.head.weight, self.head.bias, VOCABULARY)

    def forward(self, input_ids):
        Model.calls += 1
        return LazyLogits(self.embedding(input_ids).cumsum(1), self.head, tuple(self.head.parameters()))


def texts():
    """Tokens ``(N, T)`` and labels: texts of unequal length with a prompt, one of them with no token to predict."""
    ids = torch.randint(0, VOCABULARY, (TEXTS, LENGTH), generator=torch.Generator().manual_seed(5))
    labels = ids.clone()
    for row in range(TEXTS):
        labels[row, : row % 3] = -100
        labels[row, LENGTH - row % 4 :] = -100
    labels[4] = -100
    return ids, labels


def batch(rows, split="train", width=LENGTH):
    ids, labels = texts()
    rows = torch.tensor(rows)
    return Batch({"input_ids": ids[rows][:, :width]}, labels[rows][:, :width], rows, split=split)


def teacher(folder, codec, dtype="float32"):
    store = Store.of(folder, "t", replace(CONTENTS, codec=CODECS[codec], dtype=dtype))
    return CachedRows(lambda: Frozen(Model(), TASK), store, True, TASK)


def filled(folder, codec, dtype="float32"):
    """A teacher that has asked and kept all, in batches of another size and order, one sample twice."""
    one = teacher(folder, codec, dtype)
    one.write("train", one.asked([batch([0, 1, 2, 3]), batch([4, 5, 6, 7]), batch([8, 0])], 0, "cpu"), {})
    return teacher(folder, codec, dtype)


def rows_of(outputs, given):
    return TASK.align(outputs, given)


def numbers(outputs):
    """All numbers of an answer at the rows."""
    if outputs.sparse is None:
        return [outputs.logits]
    return [value for value in vars(outputs.sparse).values() if isinstance(value, torch.Tensor)]


def test_every_codec_of_the_config_exists():
    assert set(CODECS) == set(CACHE_CODECS)
    for name, options in CACHE_CODECS.items():
        assert row_codec({"name": name, **options}, "float32").name == name


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("codec", CODECS)
def test_answers_are_found_by_sample_and_position(tmp_path, codec, dtype):
    """In any order, in batches of any size, of shorter texts; what is read is what the network's answer becomes."""
    stored, asked = filled(tmp_path, codec, dtype), teacher(tmp_path / "empty", codec, dtype)
    before = Model.calls
    alone = {row: numbers(rows_of(stored.teach(batch([row])), batch([row]))) for row in range(TEXTS)}
    for given in (batch([5, 2, 8, 0]), batch([7, 4, 1]), batch([3, 7], width=6), batch([4])):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = rows_of(stored.teach(given), given)
            live = rows_of(asked.teach(given), given)
        assert stored.slot_of(given) == "train"
        for mine, theirs in zip(numbers(found), numbers(live)):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
        if given.labels.shape[1] == LENGTH and found.sparse is not None and codec == "top_k":
            for place, mine in enumerate(numbers(found)):
                assert torch.equal(mine, torch.cat([alone[int(row)][place] for row in given.index]))
    assert not stored.is_loaded and Model.calls > before, "only the teacher without answers was asked"


@pytest.mark.parametrize("codec", ["dense", "hidden"])
def test_exact_codecs_give_the_logits_of_the_live_teacher(tmp_path, codec):
    stored, live, given = filled(tmp_path, codec), Frozen(Model(), TASK), batch([0, 1, 2, 3])
    found = rows_of(stored.teach(given), given)
    assert found.is_lazy == (codec == "hidden") and not stored.is_loaded
    assert torch.equal(found.logits, rows_of(live.teach(given), given).logits)
    assert stored.store.measured["train"]["error"] == 0.0


def test_the_measured_error_is_that_of_the_kept_distribution(tmp_path):
    """The mass of the others is shared equally; for samples the direction is the other one, since the first is
    infinite. Bytes are those of the file."""
    every = batch([0, 1, 2, 3, 4, 5, 6, 7, 8])
    p = rows_of(Frozen(Model(), TASK).teach(every), every).logits.double().softmax(-1)
    top = p.topk(3)
    kept = ((1 - top.values.sum(1)) / 8)[:, None].expand(-1, VOCABULARY).scatter(1, top.indices, top.values)
    stored = filled(tmp_path, "top_k").store
    measured = stored.measured["train"]
    assert measured["of"] == "KL(live || kept)" and measured["tokens"] == len(p)
    assert measured["error"] == pytest.approx((p * (p / kept).log()).sum(1).mean().item(), rel=1e-5)
    assert measured["bytes"] == stored.files()["train", LOGITS].stat().st_size
    one = filled(tmp_path, "sampled")
    drawn = rows_of(one.teach(every), every).sparse
    share = torch.zeros_like(p).scatter_add(1, drawn.ids, drawn.weights.double())
    share /= share.sum(1, keepdim=True)
    expected = torch.where(share > 0, share * (share / p).log(), 0.0).sum(1).mean().item()
    assert one.store.measured["train"]["error"] == pytest.approx(expected, rel=1e-4)
    assert one.store.measured["train"]["of"] == "KL(kept || live)"
    half = filled(tmp_path, "hidden", "float16").store.measured["train"]["error"]
    assert 0 < half < 1e-5


def test_the_manifest_keeps_its_checksum(tmp_path):
    one = filled(tmp_path, "top_k")
    one.store.measure("test", {"tokens": 1, "bytes": 2, "error": 0.0, "of": ""})
    again = Store(one.store.path)
    assert set(again.measured) == {"train", "test"} and again.manifest()["measured"]["test"]["bytes"] == 2


@pytest.mark.parametrize("exponent", [1.0, 0.6, 1.5])
def test_samples_are_unbiased(exponent):
    """The mean over many samples' numbers, class by class: within 5 standard errors of p."""
    number, logits = 40_000, torch.tensor([[2.0, 1.0, 0.0, -1.0, -3.0]])
    codec = row_codec({"name": "sampled", "samples": 6, "exponent": exponent, "temperature": 2.0}, "float32")
    stored, _ = codec.encode(logits.expand(number, -1), torch.arange(number), torch.arange(number) % 13)
    target = codec.decode(stored, lambda values: values, None, 5)
    drawn = torch.zeros(number, 5, dtype=torch.float64).scatter_add(1, target.ids, target.weights.double())
    p = (logits / 2).double().softmax(-1)[0]
    z = (drawn.mean(0) - p) / (drawn.std(0) / number**0.5)
    assert z.abs().max() < 5, z
    assert target.entropy[0].item() == pytest.approx(-(p * p.log()).sum().item(), rel=1e-5)
    # so is the gradient, which is linear in the samples, and the value
    student = torch.tensor([[0.3, -0.2, 0.9, 0.0, 0.1]], dtype=torch.float64)
    z_student = student.expand(number, -1).clone().requires_grad_()
    values = functional.sampled_forward_kl(z_student, target.ids, target.weights, target.entropy, 2.0)
    values.sum().backward()
    exact = student.clone().requires_grad_()
    dense = functional.forward_kl(exact, logits.double(), 2.0)
    dense.sum().backward()
    error = (z_student.grad.mean(0) - exact.grad[0]) / (z_student.grad.std(0) / number**0.5)
    assert error.abs().max() < 5, error
    assert abs(values.mean().item() - dense.item()) < 5 * values.std().item() / number**0.5
    assert (values < 0).any(), "a single estimate may be negative"


def test_samples_are_a_function_of_sample_and_position():
    codec = row_codec({**CODECS["sampled"], "samples": 8}, "float32")
    logits = torch.zeros(4, 50)
    stored, _ = codec.encode(logits, torch.tensor([3, 3, 4, 3]), torch.tensor([0, 1, 0, 0]))
    found = codec.decode(stored, lambda values: values, None, 50).ids.tolist()
    assert found[0] == found[3] and len({tuple(one) for one in found}) == 3


def test_a_first_class_whose_weight_underflows_in_half_precision(tmp_path):
    """The first class of each row has so small a weight that float16 makes it 0: the loss is that of float32."""
    logits, student = torch.tensor([[-30.0, 5.0, 4.0, 3.0]]), torch.tensor([[4.0, 0.0, 0.5, 1.0]])
    found = []
    for dtype in ("float32", "float16"):
        codec = row_codec({"name": "sampled", "samples": 200, "exponent": 0.1, "temperature": 1.0}, dtype)
        target = codec.decode(codec.encode(logits, *torch.zeros(2, 1).long())[0], lambda values: values, None, 4)
        assert target.ids[0, 0] == 0 and (target.weights[0, 0] == 0) == (dtype == "float16")
        found.append(functional.sampled_forward_kl(student, target.ids, target.weights, target.entropy).item())
    assert found[1] == pytest.approx(found[0], abs=5e-3)


def test_a_vocabulary_smaller_than_k_is_kept_whole(tmp_path):
    codec = row_codec({"name": "top_k", "k": 64, "temperature": 1.0}, "float32")
    logits = torch.randn(3, VOCABULARY)
    stored, error = codec.encode(logits, torch.arange(3), torch.arange(3))
    target = codec.decode(stored, lambda values: values, None, VOCABULARY)
    assert target.ids.shape == (3, VOCABULARY) and target.log_tail.isneginf().all() and not error.any()
    student = torch.randn(3, VOCABULARY, dtype=torch.float64)
    q, p = functional.tail_bucket(student, target.ids, target.log_probabilities, target.log_tail)
    torch.testing.assert_close(functional.reverse_kl(q, p), functional.reverse_kl(student, logits), atol=1e-6, rtol=0)


@pytest.mark.parametrize("classes", [49_152, 65_536, 65_537, 151_936])
def test_the_last_words_of_large_vocabularies_keep_their_numbers(classes):
    codec = row_codec({"name": "top_k", "k": 2, "temperature": 1.0}, "float32")
    logits = torch.zeros(1, classes)
    logits[0, classes - 1], logits[0, 0] = 9.0, 8.0
    stored, _ = codec.encode(logits, torch.tensor([0]), torch.tensor([0]))
    assert codec.decode(stored, lambda values: values, None, classes).ids.tolist() == [[classes - 1, 0]]
    assert stored["ids"].element_size() == (2 if classes <= 65_536 else 4)


def test_rounded_log_probabilities_are_normalised():
    codec = row_codec({"name": "top_k", "k": 3, "temperature": 1.0}, "bfloat16")
    stored, _ = codec.encode(torch.randn(50, 20) * 3, torch.arange(50), torch.arange(50))
    target = codec.decode(stored, lambda values: values, None, 20)
    mass = torch.cat([target.log_probabilities, target.log_tail[:, None]], 1).exp().sum(1)
    assert stored["log_probabilities"].dtype == torch.bfloat16 and (mass - 1).abs().max() < 1e-6


def test_splits_that_need_all_logits_are_not_kept_in_part(tmp_path):
    one, given = filled(tmp_path, "top_k"), batch([1, 2], "validation")
    assert one.slot_of(given) is None and one.teach(given).sparse is None and one.is_loaded
    assert filled(tmp_path, "hidden").slot_of(given) == "validation"


def test_other_tokens_of_a_sample_are_not_answered_from_the_store(tmp_path):
    """As where a prompt has another length: the network is asked, and a warning says so."""
    one, given = filled(tmp_path, "top_k"), batch([1, 2])
    moved = given.replace(target=given.target.roll(1, 1))
    with pytest.warns(UserWarning, match="it has no answers to some tokens of train"):
        found = one.teach(moved)
    assert one.is_loaded and rows_of(found, moved).sparse is not None
    with pytest.warns(UserWarning, match="no answers to some tokens"):
        filled(tmp_path, "top_k").teach(given.replace(index=torch.tensor([1, 77])))


def test_what_cannot_be_kept(tmp_path):
    with pytest.raises(InputError, match="cache_codec=top_k keeps the answers at tokens, and no features .hidden1."):
        teacher(tmp_path, "top_k").watch(["hidden1"])
    dense = Frozen(nn.Embedding(VOCABULARY, VOCABULARY), CausalLM(VOCABULARY))
    dense.task.network_outputs = lambda network, given: __import__("kdlab").Outputs(network(given.inputs["input_ids"]))
    one = teacher(tmp_path, "hidden")
    one._make = lambda: dense
    with pytest.raises(CannotKeep, match="hidden states and head are not known; teacher.cache_codec=top_k"):
        one.asked([batch([0, 1])], 0, "cpu")


@pytest.mark.parametrize("codec", CODECS)
def test_a_teacher_of_another_vocabulary_is_refused(tmp_path, codec):
    """As a live one is: what is kept of a part of its words does not show how many there were."""
    one = teacher(tmp_path, codec)
    one.task = CausalLM(VOCABULARY + 2)
    for ask in (lambda: one.teach(batch([0, 1])), lambda: one.asked([batch([0, 1])], 0, "cpu")):
        with pytest.raises(InputError, match="^teacher: the network answers with 11 .*, but the data have 13; "):
            ask()


def test_the_codec_is_part_of_the_key_and_older_caches_keep_theirs():
    keys = {replace(CONTENTS, codec=one).key for one in [*CODECS.values(), {**CODECS["top_k"], "k": 4}, None]}
    assert len(keys) == 6 and "codec" not in CONTENTS.as_record()
