import pytest
import torch

from kdlab.models import TextEncoder
from kdlab.models.initialisation import chosen_layers, inherit, needs_batch
from kdlab.models.taps import Taps

pytest.importorskip("transformers")
SIZES = {"width": 16, "heads": 4, "intermediate": 24, "vocabulary": 40, "positions": 12, "classes": 3}
IDS = torch.randint(5, 40, (8, 6), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(6) < torch.tensor([6, 3, 4, 6, 5, 2, 6, 6])[:, None]).long()
INPUTS = {"input_ids": IDS * MASK, "attention_mask": MASK}


def new(architecture="bert", seed=0, layers=4, **options):
    torch.manual_seed(seed)
    network = TextEncoder(architecture=architecture, layers=layers, **{**SIZES, **options}).eval()
    with torch.no_grad():  # the library begins with biases of 0 and scales of 1
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return network


def states(network, names):
    with Taps(network, names) as features:
        logits = network(**INPUTS)
    return [features[name] for name in names], logits


def test_which_layers():
    assert chosen_layers("spread", 6, 12) == [1, 3, 5, 8, 10, 12]  # 0, 2, 4, 7, 9, 11 of DistilBERT's authors
    assert chosen_layers("spread", 3, 6) == [1, 3, 6] and chosen_layers("spread", 1, 6) == [1]
    assert chosen_layers("every_second", 6, 12) == [1, 3, 5, 7, 9, 11]
    assert chosen_layers("first", 2, 4) == [1, 2] and chosen_layers("last", 2, 4) == [3, 4]
    assert chosen_layers([2, 2], 2, 4) == [2, 2]


@pytest.mark.parametrize(
    "layers, student, message",
    [
        ("even", 2, "layers must be one of"),
        ("first", 5, r"student.initial.layers=\[1,1,2,3,4\]$"),
        ("every_second", 3, r"every_second of 4 layers are 2, .* student.initial.layers=spread takes \[1, 3, 4\]$"),
        ([0, 1], 2, "counted from 1"),
        ([1, 5], 2, "from 1 to 4"),
        ([1], 2, "must name 2 layers"),
    ],
)
def test_layers_that_do_not_fit(layers, student, message):
    with pytest.raises(ValueError, match=message):
        chosen_layers(layers, student, 4)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "modernbert"])
def test_all_layers_of_the_same_sizes_are_the_teacher(architecture):
    teacher, student = new(architecture), new(architecture, seed=1)
    assert not needs_batch(student, teacher)
    done = inherit(student, teacher, "first")
    assert done.new == [] and done.narrowed == [] and done.layers == [1, 2, 3, 4]
    assert torch.equal(student(**INPUTS), teacher(**INPUTS))


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "modernbert"])
def test_the_first_layers_give_the_teachers_hidden_states(architecture):
    teacher, student = new(architecture), new(architecture, seed=1, layers=2)
    done = inherit(student, teacher, "first")
    assert done.new == []
    (mine,), _ = states(student, ["hidden1"])
    (theirs,), _ = states(teacher, ["hidden1"])
    assert torch.equal(mine, theirs)


def test_chosen_layers_are_copied_and_a_head_of_other_classes_is_new():
    teacher, student = new(), new(seed=1, layers=2, classes=5)
    before = student.network.classifier.weight.clone()
    done = inherit(student, teacher, [2, 4])
    for own, number in ((0, 1), (1, 3)):
        expected = teacher.network.bert.encoder.layer[number].state_dict()
        assert all(
            torch.equal(value, expected[name])
            for name, value in student.network.bert.encoder.layer[own].state_dict().items()
        )
    assert done.new == ["network.classifier.weight", "network.classifier.bias"]
    assert torch.equal(student.network.classifier.weight, before)
    assert torch.equal(student.network.bert.pooler.dense.weight, teacher.network.bert.pooler.dense.weight)


def test_embeddings_and_head_can_stay_new():
    teacher, student = new(), new(seed=1, layers=2, vocabulary=30)
    with pytest.raises(ValueError, match="vocabulary of 30 .* student.initial.embeddings=false"):
        inherit(student, teacher)
    done = inherit(student, teacher, embeddings=False, head=False)
    assert {name.split(".")[1] for name in done.new} == {"bert", "classifier"} and len(done.new) == 5 + 4


def test_bert_becomes_distilbert_with_the_same_hidden_states():
    teacher, student = new(), new("distilbert", seed=1)
    done = inherit(student, teacher, "first")
    assert "segments" in done.lines[0]
    names = [f"hidden{number}" for number in range(5)]
    for mine, theirs in zip(states(student, names)[0], states(teacher, names)[0]):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert all("classifier" in name for name in done.new)


def test_roberta_counts_positions_from_its_padding_on():
    teacher, student = new("roberta"), new("bert", seed=1)
    inherit(student, teacher, "first")
    (mine,), _ = states(student, ["hidden4"])
    (theirs,), _ = states(teacher, ["hidden4"])
    torch.testing.assert_close(mine[MASK.bool()], theirs[MASK.bool()], rtol=1e-4, atol=1e-5)


def with_dead_dimensions(architecture):
    """A teacher of width 16 of which four dimensions, a head and some neurons are always 0. The mean of the others is 0
    wherever a norm reads them."""
    teacher, dead = new(architecture), torch.tensor([1, 5, 9, 13])
    active = torch.tensor([place for place in range(16) if place not in dead])

    def centred(value, dimension):
        value = value.movedim(dimension, 0)
        value[dead] = 0
        value[active] -= value[active].mean(0)

    layers, names = teacher.network.base_model.encoder.layer, teacher.network.state_dict()
    with torch.no_grad():
        for name in names:
            if name.endswith("_embeddings.weight"):
                centred(names[name], 1)
        for layer in layers:
            for linear in (layer.attention.output.dense, layer.output.dense):
                centred(linear.weight, 0), centred(linear.bias, 0)
            value = layer.attention.self.value
            value.weight[4:8], value.bias[4:8] = 0, 0
            layer.intermediate.dense.weight[20:], layer.intermediate.dense.bias[20:] = 0, 0
            layer.output.dense.weight[:, 20:] = 0
        for norm in (
            module for module in teacher.network.base_model.modules() if isinstance(module, torch.nn.LayerNorm)
        ):
            norm.weight[:], norm.weight[dead] = float(norm.weight[0]), 0
            centred(norm.bias, 0)
        for name, value in teacher.network.named_parameters():
            if name in ("classifier.weight", "classifier.out_proj.weight"):
                value[:, dead] = 0
    return teacher


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_narrower_student_of_a_teacher_with_dead_dimensions_gives_its_outputs(architecture):
    teacher = with_dead_dimensions(architecture)
    student = new(architecture, seed=1, width=12, heads=3, intermediate=20)
    before = teacher.network.base_model.embeddings.LayerNorm.weight.max()
    done = inherit(student, teacher, "first", inputs=INPUTS)
    assert done.new == [] and len(done.narrowed) == 3
    scale = student.network.base_model.embeddings.LayerNorm.weight
    torch.testing.assert_close(scale, before * (16 / 12) ** 0.5 * torch.ones(12), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student(**INPUTS), teacher(**INPUTS), rtol=1e-3, atol=1e-4)


def test_norms_are_fitted_to_those_of_the_teacher():
    """The first norm of a narrower student: its mean squared error is less than with the teacher's scale and shift."""
    teacher = new()
    for narrow in ("importance", "projection"):
        student = new(seed=1, width=12, heads=3)
        inherit(student, teacher, "first", narrow=narrow, inputs=INPUTS)
        (mine,), _ = states(student, ["hidden0"])
        (theirs,), _ = states(teacher, ["hidden0"])
        words = [one.network.bert.embeddings.word_embeddings.weight for one in (teacher, student)]
        width = torch.linalg.lstsq(words[0], words[1]).solution  # of the 40 words, the map of 16 dimensions to 12
        wanted = (theirs @ width)[MASK.bool()]
        norm, own = teacher.network.bert.embeddings.LayerNorm, student.network.bert.embeddings.LayerNorm
        plain = (mine[MASK.bool()] - own.bias) / own.weight * (norm.weight @ width.square()) + norm.bias @ width
        errors = [(one - wanted).square().mean().item() for one in (mine[MASK.bool()], plain)]
        assert errors[0] < 0.8 * errors[1], (narrow, errors)


@pytest.mark.parametrize("narrow", ["importance", "projection"])
def test_a_student_of_the_same_width_keeps_it(narrow):
    """Only neurons are left out, and they are dead: the outputs are the teacher's."""
    teacher = new()
    with torch.no_grad():
        for layer in teacher.network.bert.encoder.layer:
            layer.output.dense.weight[:, 20:] = 0
            layer.intermediate.dense.weight[20:], layer.intermediate.dense.bias[20:] = 0, 0
    student = new(seed=1, intermediate=20)
    done = inherit(student, teacher, "first", narrow=narrow, inputs=INPUTS)
    assert done.narrowed == ["neurons 24 to 20 (importance)"]
    torch.testing.assert_close(student(**INPUTS), teacher(**INPUTS), rtol=1e-4, atol=1e-5)


def test_a_network_with_adapters_gives_and_takes_over_layers():
    pytest.importorskip("peft")
    for architecture in ("bert", "modernbert"):
        teacher = new(architecture, lora={"rank": 2})  # its adapters have an effect: new() moves all parameters
        student = new(architecture, seed=1)
        assert inherit(student, teacher, "first").new == []
        torch.testing.assert_close(student(**INPUTS), teacher(**INPUTS), rtol=1e-4, atol=1e-5)
        torch.manual_seed(2)
        adapted = TextEncoder(architecture=architecture, layers=4, **SIZES, lora={"rank": 2}).eval()
        assert inherit(adapted, student, "first").new == []
        torch.testing.assert_close(adapted(**INPUTS), student(**INPUTS), rtol=1e-4, atol=1e-5)


def test_embeddings_that_are_the_heads_too_can_stay_new():
    """The matrix of words and the output layer of masked words are one."""
    teacher, student = (new(head="masked_lm", classes=None, seed=seed) for seed in (0, 1))
    words = student.network.bert.embeddings.word_embeddings.weight
    before = words.clone()
    done = inherit(student, teacher, "first", embeddings=False)
    assert torch.equal(words, before) and "network.bert.embeddings.word_embeddings.weight" in done.new


def test_a_layer_that_maps_vectors_to_another_width_is_new():
    teacher, student = (new(head="embedding", classes=classes) for classes in (None, 5))
    assert inherit(student, teacher, "first").new == ["projection.weight", "projection.bias"]


def test_dimensions_that_are_never_active_are_left_out_without_a_change():
    """A head and neurons that are 0."""
    teacher = new()
    with torch.no_grad():
        for layer in teacher.network.bert.encoder.layer:
            layer.intermediate.dense.weight[8:], layer.intermediate.dense.bias[8:] = 0, 0
            layer.output.dense.weight[:, 8:] = 0
            for linear in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
                linear.weight[4:8], linear.bias[4:8] = 0, 0
            layer.attention.output.dense.weight[:, 4:8] = 0
    student = new(seed=1, intermediate=8)
    done = inherit(student, teacher, "first", inputs=INPUTS)
    assert done.narrowed == ["neurons 24 to 8 (importance)"] and done.new == []
    torch.testing.assert_close(student(**INPUTS), teacher(**INPUTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("narrow", ["importance", "projection"])
def test_a_narrower_student_is_nearer_to_the_teacher_than_a_random_one(narrow):
    teacher = new()
    sizes = {"layers": 4, "width": 12, "heads": 3, "intermediate": 20}
    student, random = new(seed=1, **sizes), new(seed=1, **sizes)
    done = inherit(student, teacher, "first", narrow=narrow, inputs=INPUTS)
    assert done.new == [] and done.narrowed[0] == f"width 16 to 12 ({narrow})"
    assert "heads 4 to 3 (importance)" in done.narrowed and "neurons 24 to 20 (importance)" in done.narrowed
    (theirs,), logits = states(teacher, ["hidden4"])
    theirs = theirs[MASK.bool()]

    def unexplained(network):
        (mine,), _ = states(network, ["hidden4"])
        mine = torch.nn.functional.pad(mine[MASK.bool()], (0, 1), value=1.0)
        fitted = mine @ torch.linalg.lstsq(mine, theirs).solution
        return ((theirs - fitted) ** 2).mean() / theirs.var()

    assert unexplained(student) < 0.75 * unexplained(random)
    assert torch.equal(student(**INPUTS), student(**INPUTS)) and logits.shape == (8, 3)


def test_a_selection_takes_the_most_active_dimensions():
    teacher, student = new(), new(seed=1, layers=1, width=8, heads=2)
    with torch.no_grad():
        for norm in (m for m in teacher.modules() if isinstance(m, torch.nn.LayerNorm)):
            norm.weight[:], norm.bias[:] = 0.1, 0.0
            norm.weight[4:12] = 2.0
    inherit(student, teacher, [3], inputs=INPUTS)
    words = "embeddings.word_embeddings.weight"
    own, theirs = (network.network.bert.state_dict()[words] for network in (student, teacher))
    assert torch.equal(own, theirs[:, 4:12])


def test_the_projection_is_onto_principal_components():
    from kdlab.models.narrowing import _components

    torch.manual_seed(0)
    rows = torch.randn(200, 2).double() @ torch.tensor([[3.0, 0, 0, 1], [0, 2.0, 0, 0]]).double()
    basis = _components(rows, 2)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2).double())
    torch.testing.assert_close(rows @ basis @ basis.T, rows)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"width": 32},
            "student has width 32 and the teacher 16; .*student.width=16 student.heads=4 student.intermediate=24$",
        ),
        ({"heads": 8}, "student has heads 8 and the teacher 4"),
        ({"intermediate": 30}, "student has neurons 30"),
        ({"architecture": "modernbert"}, "layers of modernbert fit only a modernbert"),
    ],
)
def test_students_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        inherit(new(seed=1, **options), new(), "first", inputs=INPUTS)


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="teacher is a Linear; choose"):
        inherit(new(), torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="narrow must be one of"):
        inherit(new(), new(), narrow="pca")
    with pytest.raises(ValueError, match="needs inputs"):
        inherit(new(width=8, heads=2), new(), "first")
