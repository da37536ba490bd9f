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
from kdlab.models import TextEncoder
from kdlab.models.taps import Taps
from kdlab.outputs import Outputs

pytest.importorskip("transformers")

IDS = torch.tensor([[2, 5, 7, 9, 3], [2, 8, 3, 0, 0], [2, 6, 4, 3, 0]])
MASK = (IDS != 0).long()
BATCH = Batch(inputs=IDS, target=torch.tensor([0, 1, 0]), index=torch.arange(3), mask=MASK)
WIDE = {"width": 24, "layers": 4}
#: the same taps of BERT as module paths
PATHS = {
    "student_tap": "network.bert.encoder.layer.{layer}",
    "teacher_tap": "network.bert.encoder.layer.{layer}",
}
ATTENTION_PATHS = {name: f"{path}.attention.self.{{part}}" for name, path in PATHS.items()}
HIDDEN_PATHS = {name.replace("_tap", "_hidden"): path for name, path in PATHS.items()}


def bert(seed, **options):
    torch.manual_seed(seed)
    sizes = {"layers": 2, "width": 16, "heads": 4, "intermediate": 20, "vocabulary": 11, "positions": 8, "classes": 2}
    return TextEncoder(architecture="bert", **{**sizes, **options}).eval()


def outputs(network, taps):
    with Taps(network, taps) as features:
        return Outputs(network(IDS, MASK), dict(features))


SMALL = {"student_layers": [1, 2], "teacher_layers": [2, 4]}
LOSSES = {
    "hidden_mse": lambda: HiddenMSE("hidden2", "hidden4"),
    "hidden_cosine": lambda: HiddenCosine("hidden2", "hidden4", average="samples"),
    "pkd": lambda: PKD(**SMALL),
    "tinybert": lambda: TinyBERT(student_layers=2, teacher_layers=4),
    "minilm": lambda: MiniLM(student_layer=2, teacher_layer=4),
    "minilmv2": lambda: MiniLMv2(student_layer=2, teacher_layer=4, heads=8),
    "attention_mse": lambda: AttentionMSE(**SMALL),
    "attention_ce": lambda: AttentionCE(**SMALL, over_heads="mean", average="samples"),
    "sequence_mmd": lambda: SequenceMMD(["hidden1", "hidden2"], ["hidden1", "hidden4"]),
}


@pytest.fixture(scope="module")
def student():
    return bert(0)


@pytest.fixture(scope="module")
def teacher():
    return bert(1, **WIDE)


def prepared(name, student, teacher):
    loss = LOSSES[name]() if isinstance(name, str) else name
    mine, theirs = outputs(student, loss.student_taps), outputs(teacher, loss.teacher_taps)
    torch.manual_seed(2)
    loss.prepare(Probe(mine, theirs, teacher, classes=2, train_size=3, student_network=student))
    return loss, mine, theirs


@pytest.mark.parametrize("name", LOSSES)
def test_it_trains_a_student_of_another_width(name, teacher):
    network = bert(0)
    loss, _, theirs = prepared(name, network, teacher)
    optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=2e-3)
    values = []
    for _ in range(8):
        optimizer.zero_grad()
        value = loss(outputs(network, loss.student_taps), theirs, BATCH)
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
        loss, mine, theirs = prepared(HiddenMSE("hidden2", "hidden4", average), student, teacher)
        values[average] = loss(mine, theirs, BATCH)
    lengths = MASK.sum(1)
    assert values["samples"].shape == (3,) and values["tokens"].shape == MASK.shape
    torch.testing.assert_close(values["samples"] * lengths, (values["tokens"] * MASK).sum(1))


def test_the_layers_of_tinybert():
    loss = TinyBERT(
        "s{layer}.{part}", "t{layer}.{part}", "S{layer}", "T{layer}", "S", "T", student_layers=2, teacher_layers=4
    )
    assert loss.student_taps == ("s1.query", "s1.key", "s2.query", "s2.key", "S", "S1", "S2")
    assert loss.teacher_taps == ("t2.query", "t2.key", "t4.query", "t4.key", "T", "T2", "T4")
    assert TinyBERT(teacher_hidden="T{layer}", student_layers=2, layer_map=[1, 3]).teacher_taps[-2:] == ("T1", "T3")
    from_zero = TinyBERT(first_layer=0, student_layers=2, teacher_layers=4)
    assert from_zero.student_taps[-2:] == ("hidden0", "hidden1") and from_zero.teacher_taps[-1] == "hidden3"


TWINS = {
    "pkd": lambda: PKD(**PATHS, student_layers=[0, 1], teacher_layers=[1, 3]),
    "tinybert": lambda: TinyBERT(
        **ATTENTION_PATHS,
        **HIDDEN_PATHS,
        student_embedding="network.bert.embeddings",
        teacher_embedding="network.bert.embeddings",
        student_layers=2,
        teacher_layers=4,
        heads=4,
        first_layer=0,
    ),
    "minilm": lambda: MiniLM(**ATTENTION_PATHS, student_layer=1, teacher_layer=3, heads=4),
    "attention_mse": lambda: AttentionMSE(
        **ATTENTION_PATHS, student_layers=[0, 1], teacher_layers=[1, 3], student_heads=4, teacher_heads=4
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_module_paths_and_taps_are_the_same(name, student, teacher):
    values = [prepared(one, student, teacher) for one in (name, TWINS[name]())]
    assert torch.equal(*(loss(mine, theirs, BATCH) for loss, mine, theirs in values))


def test_heads_are_those_of_the_networks(student, teacher):
    assert prepared("minilm", student, teacher)[0].heads == 4
    other = bert(1, width=24, layers=4, heads=6)
    loss = prepared(AttentionMSE(**SMALL, over_heads="mean"), student, other)[0]
    assert (loss.student_scores.heads, loss.teacher_scores.heads) == (4, 6)
    for name in ("minilm", "tinybert"):
        with pytest.raises(ValueError, match="same number of attention heads, got 4 and 6"):
            prepared(name, student, other)
        loss = LOSSES[name]()
        mine, theirs = outputs(student, loss.student_taps), outputs(teacher, loss.teacher_taps)
        with pytest.raises(ValueError, match="heads=null takes .* give the number, for example heads=12"):
            loss.prepare(Probe(mine, theirs, None, classes=2, train_size=3))


def test_tinybert_can_count_padding_as_its_authors_do(student, teacher):
    loss, mine, theirs = prepared(
        TinyBERT(student_layers=2, teacher_layers=4, count_padding=True, hidden_weight=0.0), student, teacher
    )
    masked = (MASK == 0)[:, None, None, :]
    scores = [
        functional.attention_scores(
            outputs.features[f"query{layer}"],
            outputs.features[f"key{layer}"],
            4,
        )
        - 1e4 * masked
        for outputs, layers in ((mine, (1, 2)), (theirs, (2, 4)))
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
    taps = ["hidden1", "hidden2"]
    loss, mine, theirs = prepared(SequenceFSP(taps, taps), student, bert(1))
    values = loss(mine, theirs, BATCH)
    states = [x.features[tap] for x in (mine, theirs) for tap in taps]
    assert torch.equal(values, functional.sequence_fsp(*states, mask=MASK)) and values.shape == (3,)


def test_widths_that_differ_are_refused_where_no_connector_helps(student, teacher):
    with pytest.raises(ValueError, match=r"\(3, 5, 16\).*\(3, 5, 24\)"):
        prepared(SequenceFSP(["hidden1"] * 2, ["hidden1"] * 2), student, teacher)


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
        (lambda: TinyBERT(first_layer=2), "first_layer"),
        (lambda: TinyBERT(heads=0), "heads"),
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
