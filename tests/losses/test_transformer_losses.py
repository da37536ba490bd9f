import pytest
import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import (
    PKD,
    AttentionCE,
    AttentionMSE,
    HiddenCosine,
    HiddenMSE,
    MiniLM,
    MiniLMv2,
    Probe,
    SequenceFSP,
    SequenceMMD,
    TinyBERT,
)
from kdlab.models.taps import Taps
from kdlab.outputs import Outputs

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 8, 3, 0, 0], [2, 6, 4, 3, 0]])
MASK = (IDS != 0).long()
BATCH = Batch(inputs=IDS, target=torch.tensor([0, 1, 0]), index=torch.arange(3), mask=MASK)
WIDE = {"hidden_size": 24, "num_hidden_layers": 4}


def bert(seed, **options):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        **{
            "vocab_size": 11,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 20,
            "max_position_embeddings": 8,
            "num_labels": 2,
            "attn_implementation": "eager",
            **options,
        }
    )
    return transformers.BertForSequenceClassification(config).eval()


def outputs(network, taps, **options):
    with Taps(network, taps) as features:
        answer = network(input_ids=IDS, attention_mask=MASK, **options)
        return Outputs(answer.logits, dict(features)), answer


LAYER, ATTENTION = "bert.encoder.layer.{layer}", "bert.encoder.layer.{layer}.attention.self.{part}"
SMALL = {"student_layers": [0, 1], "teacher_layers": [1, 3]}
HEADS = {"student_heads": 4, "teacher_heads": 4}
LOSSES = {
    "hidden_mse": lambda: HiddenMSE(LAYER.format(layer=1), LAYER.format(layer=3)),
    "hidden_cosine": lambda: HiddenCosine(LAYER.format(layer=1), LAYER.format(layer=3), average="samples"),
    "pkd": lambda: PKD(**SMALL),
    "tinybert": lambda: TinyBERT(student_layers=2, teacher_layers=4, heads=4),
    "minilm": lambda: MiniLM(student_layer=1, teacher_layer=3, heads=4),
    "minilmv2": lambda: MiniLMv2(student_layer=1, teacher_layer=3, heads=8),
    "attention_mse": lambda: AttentionMSE(**SMALL, **HEADS),
    "attention_ce": lambda: AttentionCE(**SMALL, **HEADS, over_heads="mean", average="samples"),
    "sequence_mmd": lambda: SequenceMMD(
        [LAYER.format(layer=0), LAYER.format(layer=1)], [LAYER.format(layer=0), LAYER.format(layer=3)]
    ),
}


@pytest.fixture(scope="module")
def student():
    return bert(0)


@pytest.fixture(scope="module")
def teacher():
    return bert(1, **WIDE)


def test_scores_from_taps_are_the_models_own_attention(student):
    taps = [ATTENTION.format(layer=1, part=part) for part in ("query", "key")]
    seen, answer = outputs(student, taps, output_attentions=True)
    scores = functional.attention_scores(*[seen.features[tap] for tap in taps], heads=4)
    probabilities = scores.masked_fill(MASK[:, None, None, :] == 0, -torch.inf).softmax(-1)
    torch.testing.assert_close(probabilities, answer.attentions[1], rtol=1e-5, atol=1e-6)


def test_hidden_taps_are_the_models_own_hidden_states(student):
    seen, answer = outputs(student, ["bert.embeddings", LAYER.format(layer=0)], output_hidden_states=True)
    torch.testing.assert_close(seen.features["bert.embeddings"], answer.hidden_states[0])
    torch.testing.assert_close(seen.features[LAYER.format(layer=0)], answer.hidden_states[1])


def prepared(name, student, teacher):
    loss = LOSSES[name]() if isinstance(name, str) else name
    mine, theirs = outputs(student, loss.student_taps)[0], outputs(teacher, loss.teacher_taps)[0]
    torch.manual_seed(2)
    loss.prepare(Probe(mine, theirs, teacher, classes=2, train_size=3))
    return loss, mine, theirs


@pytest.mark.parametrize("name", LOSSES)
def test_it_trains_a_student_of_another_width(name, teacher):
    network = bert(0)
    loss, _, theirs = prepared(name, network, teacher)
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=2e-3)
    values = []
    for _ in range(8):
        optimizer.zero_grad()
        value = loss(outputs(network, loss.student_taps)[0], theirs, BATCH)
        assert value.shape in ((), (3,), MASK.shape)
        value.mean().backward()
        assert all(parameter.grad is not None for parameter in loss.parameters())
        optimizer.step()
        values.append(value.mean().item())
    assert values[-1] < values[0], values


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_nothing(name, student, teacher):
    """The mask of the outputs goes before that of the batch; positions that do not count do not matter."""
    loss, mine, theirs = prepared(name, student, teacher)
    value = loss(mine, theirs, BATCH)
    # [CLS] is position 0 and the mask of scores and of states is along their positions: every tap is (B, T, D)
    spoilt = mine.replace(
        features={tap: x.masked_fill((MASK == 0)[..., None], 50.0) for tap, x in mine.features.items()}, mask=MASK
    )
    torch.testing.assert_close(loss(spoilt, theirs, BATCH.replace(mask=None)), value)
    if name != "pkd":
        assert not torch.allclose(loss(mine, theirs, BATCH.replace(mask=None)), value)


def test_averages_over_tokens_and_over_samples(student, teacher):
    values = {}
    for average in ("tokens", "samples"):
        loss, mine, theirs = prepared(
            HiddenMSE(LAYER.format(layer=1), LAYER.format(layer=3), average), student, teacher
        )
        values[average] = loss(mine, theirs, BATCH)
    lengths = MASK.sum(1)
    assert values["samples"].shape == (3,) and values["tokens"].shape == MASK.shape
    torch.testing.assert_close(values["samples"] * lengths, (values["tokens"] * MASK).sum(1))


def test_the_layers_of_tinybert():
    loss = TinyBERT(
        "s{layer}.{part}", "t{layer}.{part}", "S{layer}", "T{layer}", "S", "T", student_layers=2, teacher_layers=4
    )
    assert loss.student_taps == ("s0.query", "s0.key", "s1.query", "s1.key", "S", "S0", "S1")
    assert loss.teacher_taps == ("t1.query", "t1.key", "t3.query", "t3.key", "T", "T1", "T3")
    assert TinyBERT(teacher_hidden="T{layer}", student_layers=2, layer_map=[0, 2]).teacher_taps[-2:] == ("T0", "T2")


def test_tinybert_can_count_padding_as_its_authors_do(student, teacher):
    loss, mine, theirs = prepared(
        TinyBERT(student_layers=2, teacher_layers=4, heads=4, count_padding=True, hidden_weight=0.0), student, teacher
    )
    masked = (MASK == 0)[:, None, None, :]
    scores = [
        functional.attention_scores(
            outputs.features[ATTENTION.format(layer=layer, part="query")],
            outputs.features[ATTENTION.format(layer=layer, part="key")],
            4,
        )
        - 1e4 * masked
        for outputs, layers in ((mine, (0, 1)), (theirs, (1, 3)))
        for layer in layers
    ]
    torch.testing.assert_close(loss(mine, theirs, BATCH), functional.tinybert(scores[:2], scores[2:], [], []))


def test_a_classifiers_vectors_have_a_value_a_sample():
    s, t = (
        Outputs(torch.zeros(3, 2), {"embedding": torch.randn(3, 4)}),
        Outputs(torch.zeros(3, 2), {"embedding": torch.randn(3, 4)}),
    )
    for loss, function in ((HiddenMSE(), functional.hidden_mse), (HiddenCosine(), functional.hidden_cosine)):
        loss.prepare(Probe(s, t, None, 2, 3))
        assert list(loss.parameters()) == []
        assert torch.equal(loss(s, t, BATCH), function(s.features["embedding"], t.features["embedding"]))


def test_sequence_fsp_of_equal_widths(student):
    taps = [LAYER.format(layer=0), LAYER.format(layer=1)]
    loss, mine, theirs = prepared(SequenceFSP(taps, taps), student, bert(1))
    values = loss(mine, theirs, BATCH)
    states = [x.features[tap] for x in (mine, theirs) for tap in taps]
    assert torch.equal(values, functional.sequence_fsp(*states, mask=MASK)) and values.shape == (3,)


def test_widths_that_differ_are_refused_where_no_connector_helps(student, teacher):
    with pytest.raises(ValueError, match=r"\(3, 5, 16\).*\(3, 5, 24\)"):
        prepared(SequenceFSP([LAYER.format(layer=0)] * 2, [LAYER.format(layer=0)] * 2), student, teacher)


def test_maps_are_referred_to_the_hint():
    maps = Outputs(torch.zeros(3, 2), {"embedding": torch.zeros(3, 4, 2, 2)})
    with pytest.raises(ValueError, match="hint"):
        HiddenMSE().prepare(Probe(maps, maps, None, 2, 3))


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: HiddenMSE(average="mean"), "average"),
        (lambda: PKD(student_layers=[0]), "student_layers"),
        (lambda: PKD(student_tap="layer.{number}"), "student_tap"),
        (lambda: TinyBERT(student_layers=5), "teacher_layers must be a multiple"),
        (lambda: TinyBERT(layer_map=[1, 2]), "layer_map"),
        (lambda: AttentionMSE(over_heads="max"), "over_heads"),
        (lambda: AttentionMSE(student_parts=["q", "k", "v"]), "student_parts"),
        (lambda: AttentionCE(teacher_heads=0), "teacher_heads"),
        (lambda: MiniLM(teacher_parts=["query"]), "teacher_parts"),
        (lambda: MiniLMv2(heads=0), "heads"),
        (lambda: MiniLMv2(relations={}), "relations"),
        (lambda: SequenceMMD(student_taps=["a"]), "student_taps"),
    ],
)
def test_bad_arguments_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()
