"""A causal language model that begins with layers of a larger one: exact where it can be, nearer to it where not, and
what is refused."""

import pytest
import torch
from torch.nn import functional as F

from kdlab.models import CausalModel
from kdlab.models.decoder_layers import MODULES
from kdlab.models.decoder_narrowing import _Fit, normalised
from kdlab.models.initialisation import inherit, needs_batch
from kdlab.models.taps import Taps

ROTARY = [kind for kind in MODULES if kind != "gpt2"]
SIZES = {"vocabulary": 40, "layers": 3, "width": 32, "heads": 4, "intermediate": 48, "positions": 24}
IDS = torch.randint(0, 40, (10, 9), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(9) < torch.tensor([9, 5, 7, 9, 3, 9, 9, 8, 9, 9])[:, None]).long()
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
TOKENS = MASK.bool()


def new(architecture="llama", seed=0, **options):
    torch.manual_seed(seed)
    sizes = {**SIZES, **({} if architecture == "gpt2" else {"key_value_heads": 2}), **options}
    network = CausalModel(architecture=architecture, **sizes).eval()
    with torch.no_grad():  # the library begins with small weights, biases of 0 and scales of 1
        for value in network.parameters():
            value.add_(0.3 * torch.randn_like(value))
    return network


def close(mine, theirs, tolerance=1e-4):
    torch.testing.assert_close(mine[TOKENS], theirs[TOKENS], rtol=tolerance, atol=tolerance)


# -- nothing is narrowed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", MODULES)
def test_all_layers_of_the_same_sizes_are_the_teacher(architecture, tied):
    teacher, student = (new(architecture, seed, tied=tied) for seed in (0, 1))
    assert not needs_batch(student, teacher)
    done = inherit(student, teacher, "first", narrow="projection")
    assert done.new == [] and done.narrowed == [] and done.layers == [1, 2, 3]
    assert torch.equal(student(**INPUTS), teacher(**INPUTS))


@pytest.mark.parametrize("architecture", MODULES)
def test_the_first_layers_give_the_teachers_hidden_states(architecture):
    teacher, student = new(architecture), new(architecture, 1, layers=2)
    assert inherit(student, teacher, "first").new == []
    with Taps(student, ["hidden1"]) as mine, Taps(teacher, ["hidden1"]) as theirs:
        student(**INPUTS), teacher(**INPUTS)
    assert torch.equal(mine["hidden1"], theirs["hidden1"])


def test_a_teachers_padded_columns_and_a_tied_teacher_give_a_head_of_its_own():
    teacher = new(vocabulary=44)
    teacher.vocabulary = 40  # of the tokenizer
    student = new(seed=1, tied=False, layers=3)
    assert inherit(student, teacher, "first").new == []
    close(student(**INPUTS), teacher(**INPUTS), 1e-5)
    wider = new(seed=1, vocabulary=47)
    wider.vocabulary = 40
    assert inherit(wider, teacher, "first").new == []
    close(wider(**INPUTS), student(**INPUTS), 1e-5)


def test_embeddings_and_head_can_stay_new():
    teacher, student = new(tied=False), new(seed=1, tied=False, vocabulary=30)
    with pytest.raises(ValueError, match="vocabulary of 30 tokens and the teacher one of 40"):
        inherit(student, teacher)
    done = inherit(student, teacher, embeddings=False, head=False)
    assert done.new == ["network.model.embed_tokens.weight", "network.lm_head.weight"]
    tied = new(seed=1, vocabulary=30)
    assert inherit(tied, teacher, embeddings=False).new == ["network.model.embed_tokens.weight"]


# -- narrower, and exact -----------------------------------------------------------------------------------------------


@torch.no_grad()
def in_a_subspace(architecture, basis, **options):
    """A teacher whose stream has no part outside of a basis ``(D, d)``."""
    teacher = new(architecture, **options)
    onto, state = basis @ basis.T, teacher.network.state_dict()
    for name, value in state.items():
        if name.endswith(("embed_tokens.weight", "wte.weight", "wpe.weight")):
            value.copy_(3 * value @ onto)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            value.copy_(onto @ value)
        elif name.endswith(("c_proj.weight", "c_proj.bias")):  # of GPT-2, transposed
            value.copy_(value @ onto)
    return teacher


@torch.no_grad()
def kill(teacher, group, neurons):
    """Make the values of a group of heads, and some neurons, always 0."""
    for layer in teacher.network.model.layers:
        layer.self_attn.v_proj.weight[group] = 0
        if layer.self_attn.v_proj.bias is not None:
            layer.self_attn.v_proj.bias[group] = 0
        layer.mlp.up_proj.weight[neurons] = 0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ROTARY)
def test_dimensions_that_are_always_zero_are_left_out_without_a_change(architecture, tied):
    """Dimensions of the stream, the second of two groups of heads, and neurons."""
    kept = torch.tensor([place for place in range(32) if place % 4 != 1])
    teacher = in_a_subspace(architecture, torch.eye(32)[:, kept], tied=tied)
    kill(teacher, slice(8, 16), slice(40, 48))
    sizes = {"width": 24, "heads": 2, "key_value_heads": 1, "head_width": 8, "intermediate": 40}
    student = new(architecture, 1, tied=tied, **sizes)
    assert needs_batch(student, teacher)
    done = inherit(student, teacher, "first", inputs=INPUTS)
    assert done.new == [] and done.narrowed == [
        "width 32 to 24 (importance)",
        "heads 4 to 2 (importance)",
        "heads of keys and values 2 to 1 (importance)",
        "neurons 48 to 40 (importance)",
    ]
    mine, theirs = (one.network.model.norm.weight for one in (student, teacher))
    torch.testing.assert_close(mine, theirs[kept] * (32 / 24) ** 0.5, rtol=1e-4, atol=1e-5)
    close(student(**INPUTS), teacher(**INPUTS), 1e-3)


def random_basis(count, centred=False):
    rows = torch.randn(32, count, generator=torch.Generator().manual_seed(3))
    return torch.linalg.qr(rows - rows.mean(0) if centred else rows).Q


@pytest.mark.parametrize("architecture", ROTARY)
def test_a_projection_of_a_stream_that_lies_in_a_subspace_changes_nothing(architecture):
    """Whatever the scales of the norms are: they go into the layers that read them."""
    teacher = in_a_subspace(architecture, random_basis(20), tied=False)
    student = new(architecture, 1, tied=False, width=20, head_width=8)
    done = inherit(student, teacher, "first", narrow="projection", inputs=INPUTS)
    assert done.new == [] and done.narrowed == ["width 32 to 20 (projection)"] and done.lines == []
    torch.testing.assert_close(
        student.network.model.norm.weight, torch.full((20,), (32 / 20) ** 0.5), rtol=1e-3, atol=0
    )
    close(student(**INPUTS), teacher(**INPUTS), 1e-3)


def test_a_shared_head_takes_no_scale():
    teacher = in_a_subspace("llama", random_basis(20))
    student = new(seed=1, width=20, head_width=8)
    assert "student.tied=false" in inherit(student, teacher, "first", narrow="projection", inputs=INPUTS).lines[0]
    with Taps(student, ["hidden2"]) as mine, Taps(teacher, ["hidden2"]) as theirs:
        logits, wanted = student(**INPUTS), teacher(**INPUTS)
    mine, theirs = mine["hidden2"][TOKENS], theirs["hidden2"][TOKENS]
    basis = torch.linalg.lstsq(theirs, mine).solution
    torch.testing.assert_close(theirs @ basis, mine, rtol=1e-3, atol=1e-3)  # all before the last norm is exact
    assert not torch.allclose(logits[TOKENS], wanted[TOKENS], rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        teacher.network.model.norm.weight[:] = 0.7
    inherit(student, teacher, "first", narrow="projection", inputs=INPUTS)
    close(student(**INPUTS), teacher(**INPUTS), 1e-3)


@pytest.mark.parametrize("narrow", ["importance", "projection"])
def test_gpt2_subtracts_the_mean(narrow):
    """The stream has the mean 0, so that a layer norm of fewer dimensions subtracts the same. The projection has
    components of centred inputs and needs one dimension more than the stream has."""
    kept = torch.arange(20)
    if narrow == "importance":
        centred = torch.eye(20) - 1 / 20
        basis = torch.zeros(32, 19)
        basis[kept] = torch.linalg.eigh(centred).eigenvectors[:, 1:]
    else:
        basis = random_basis(19, centred=True)
    teacher = in_a_subspace("gpt2", basis)
    with torch.no_grad():
        teacher.network.transformer.ln_f.weight[:] = 0.7  # its head shares the embeddings
        teacher.network.transformer.ln_f.bias[:] = 0
    student = new("gpt2", 1, width=20, heads=4)
    with torch.no_grad():  # the dimensions of heads that go: 8 to 5
        for layer in teacher.network.transformer.h:
            thirds = layer.attn.c_attn.weight.view(32, 3, 4, 8), layer.attn.c_attn.bias.view(3, 4, 8)
            thirds[0][..., 5:], thirds[1][..., 5:] = 0, 0
    done = inherit(student, teacher, "first", narrow=narrow, inputs=INPUTS)
    assert done.new == [] and done.narrowed == [f"width 32 to 20 ({narrow})", "width of a head 8 to 5 (importance)"]
    close(student(**INPUTS), teacher(**INPUTS), 2e-3)


def test_positions_of_gpt2_that_the_teacher_has_not_are_new():
    teacher, student = new("gpt2"), new("gpt2", 1, positions=30)
    before = student.network.transformer.wpe.weight[24:].clone()
    assert "the teacher has 24 positions; those after them are new" in inherit(student, teacher, "first").lines[0]
    assert torch.equal(student.network.transformer.wpe.weight[24:], before)
    close(student(**INPUTS), teacher(**INPUTS), 1e-6)


def test_scores_that_are_divided_by_the_number_of_the_layer():
    options = {"options": {"scale_attn_by_inverse_layer_idx": True}}
    teacher, student = new("gpt2", **options), new("gpt2", 1, layers=1, **options)
    inherit(student, teacher, [3])
    mine, theirs = (one.network.transformer.h[place].attn.c_attn for one, place in ((student, 0), (teacher, 2)))
    torch.testing.assert_close(mine.weight[:, :32] * 3, theirs.weight[:, :32])
    assert torch.equal(mine.weight[:, 32:], theirs.weight[:, 32:])


# -- what is chosen ----------------------------------------------------------------------------------------------------


def test_groups_stay_whole_and_lose_the_least_active_heads():
    """Six heads in three groups. The values of the second group are nearly 0."""
    teacher = new(heads=6, width=48, key_value_heads=3, layers=1)
    layer = teacher.network.model.layers[0].self_attn
    with torch.no_grad():
        layer.v_proj.weight[8:16] *= 1e-3
        layer.q_proj.weight.normal_(0, 1), layer.k_proj.weight.normal_(0, 1)
    whole = new(seed=1, heads=4, width=48, key_value_heads=2, layers=1, head_width=8)
    assert inherit(whole, teacher, inputs=INPUTS).narrowed == [
        "heads 6 to 4 (importance)",
        "heads of keys and values 3 to 2 (importance)",
    ]
    mine = whole.network.model.layers[0].self_attn
    places = torch.tensor([0, 1, 4, 5])
    assert torch.equal(mine.q_proj.weight.view(4, 8, 48), layer.q_proj.weight.view(6, 8, 48)[places])
    assert torch.equal(mine.o_proj.weight.view(48, 4, 8), layer.o_proj.weight.view(48, 6, 8)[:, places])
    for name in ("k_proj", "v_proj"):
        theirs = getattr(layer, name).weight.view(3, 8, 48)
        assert torch.equal(getattr(mine, name).weight.view(2, 8, 48), theirs[[0, 2]])
    one_each = new(seed=1, heads=3, width=48, key_value_heads=3, layers=1, head_width=8)
    inherit(one_each, teacher, inputs=INPUTS)
    with Taps(teacher, ["o"], {"o": "network.model.layers.0.self_attn.o_proj.input"}) as features:
        teacher(**INPUTS)
    most = features["o"][TOKENS].abs().mean(0).view(3, 2, 8).sum(-1).argmax(1)
    expected = layer.q_proj.weight.view(3, 2, 8, 48)[torch.arange(3), most]
    assert torch.equal(one_each.network.model.layers[0].self_attn.q_proj.weight.view(3, 8, 48), expected)


def test_the_fit_of_a_norm_is_that_of_least_squares():
    torch.manual_seed(0)
    x, wanted, fit = torch.randn(20, 3).double(), torch.randn(20, 3).double(), _Fit()
    x[:, 2] = 0
    for part in (slice(0, 7), slice(7, 20)):
        fit.add(x[part], wanted[part])
    usual = torch.tensor([7.0, 8.0, 9.0]).double()
    slope = fit.slope(usual)
    assert slope[2] == 9
    torch.testing.assert_close(slope[:1], torch.linalg.lstsq(x[:, :1], wanted[:, :1]).solution[0])
    factor, shift = fit.line(usual)
    both = torch.linalg.lstsq(F.pad(x[:, :1], (0, 1), value=1.0), wanted[:, :1]).solution[:, 0]
    torch.testing.assert_close(torch.stack([factor[0], shift[0]]), both)
    assert factor[2] == 9 and shift[2] == pytest.approx(wanted[:, 2].mean().item())
    assert fit.of_all() == pytest.approx(float((x * wanted).sum() / (x * x).sum()))
    layer = torch.nn.LayerNorm(3)
    torch.testing.assert_close(normalised(layer, x.float()), layer(x.float()))


# -- narrower, and nearer than a random one ----------------------------------------------------------------------------


def sequences(count, seed):
    """Texts of 12 tokens in which each number follows from the one before it, by a step of the text."""
    draw = torch.Generator().manual_seed(seed)
    first, step = (torch.randint(0, 13, (count, 1), generator=draw) for _ in range(2))
    return (first + step * torch.arange(12)) % 13


def loss_of(network, ids):
    logits = network(input_ids=ids)[:, 1:-1]  # from the second number on, the next one follows
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 2:].flatten())


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    sizes = {"vocabulary": 13, "layers": 2, "width": 48, "heads": 6, "key_value_heads": 3, "intermediate": 96}
    network = CausalModel(architecture="llama", **sizes, tied=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(150):
        optimizer.zero_grad()
        loss_of(network, sequences(64, step)).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("narrow", ["importance", "projection"])
@torch.no_grad()
def test_a_narrower_student_of_a_trained_teacher_begins_with_a_lower_loss(trained, narrow):
    ids = sequences(200, 999)
    sizes = {
        "vocabulary": 13,
        "layers": 2,
        "width": 40,
        "heads": 4,
        "key_value_heads": 2,
        "intermediate": 80,
        "head_width": 8,
    }
    torch.manual_seed(1)
    student = CausalModel(architecture="llama", **sizes, tied=False).eval()
    random = loss_of(student, ids)
    done = inherit(student, trained, narrow=narrow, inputs={"input_ids": sequences(64, 500)})
    assert done.new == [] and len(done.narrowed) == 4
    assert loss_of(trained, ids) < 0.5 and random > 2.4
    assert loss_of(student, ids) < random - 0.4


# -- adapters, sizes, and what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_model_with_adapters_gives_and_takes_over_layers(architecture):
    pytest.importorskip("peft")
    teacher, student = new(architecture, lora={"rank": 2}), new(architecture, 1)
    assert inherit(student, teacher, "first").new == []
    close(student(**INPUTS), teacher(**INPUTS))
    torch.manual_seed(2)
    adapted = CausalModel(architecture=architecture, **SIZES, key_value_heads=2, lora={"rank": 2}).eval()
    assert inherit(adapted, student, "first").new == []
    close(adapted(**INPUTS), student(**INPUTS))


@pytest.mark.parametrize("architecture", ROTARY)
def test_heads_may_be_wider_than_the_width_divided_by_their_number(architecture, tmp_path):
    model = new(architecture, head_width=6)
    assert model.network.model.layers[0].self_attn.q_proj.weight.shape == (24, 32)
    with Taps(model, ["query1", "value1"]) as features:
        logits = model(**INPUTS)
    assert features["query1"].shape == (10, 9, 24) and features["value1"].shape == (10, 9, 12)
    model.network.save_pretrained(str(tmp_path))
    torch.testing.assert_close(CausalModel(pretrained=str(tmp_path)).eval()(**INPUTS), logits)


ROPE = {"rope_type": "default", "rope_theta": 1e5}


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ({"width": 64}, {}, "width 64 and the teacher 32; .* student.key_value_heads=2 student.head_width=8 student."),
        ({"key_value_heads": 4}, {}, "the student has heads of keys and values 4 and the teacher 2"),
        ({"width": 24}, {}, "a head has width 6 in the student and 8 in the teacher; .*: student.head_width=8$"),
        (
            {"key_value_heads": 1},
            {},
            "4 heads of the student share keys and values and 2 .*: student.key_value_heads=2",
        ),
        ({"heads": 3, "width": 24, "key_value_heads": 1}, {}, "fewer: student.heads=2 student.key_value_heads=1$"),
        ({"architecture": "qwen2"}, {}, "type qwen2 and the teacher of type llama; .*: student.architecture=llama"),
        ({}, {"tied": False}, "the teacher's head has a matrix of its own, .*; student.tied=false, or student.initial"),
        (
            {},
            {"options": {"rope_parameters": ROPE, "rms_norm_eps": 1e-5, "attention_bias": False}},
            r"'\+student.options=\{rope_parameters: \{.*rope_theta: 100000.0.*\}, rms_norm_eps: 1e-05\}'$",
        ),
        (
            {"architecture": "gemma2", "key_value_heads": None},
            {},
            "type gemma2; layers .* llama, mistral, qwen2, qwen3",
        ),
    ],
)
def test_what_does_not_fit_is_refused(mine, theirs, words):
    with pytest.raises(ValueError, match=words):
        inherit(new(**{"seed": 1, **mine}), new(**theirs), inputs=INPUTS)


def test_other_networks_and_values_are_refused():
    student = new(seed=1, layers=1)
    with pytest.raises(
        ValueError, match="between two causal language models or two text encoders, and the teacher is a"
    ):
        inherit(student, torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="between two causal language models or two text encoders, and the student is"):
        needs_batch(torch.nn.Linear(1, 1), student)
    with pytest.raises(ValueError, match="narrow must be one of importance, projection, got 'pca'"):
        inherit(student, new(), narrow="pca")
    with pytest.raises(ValueError, match="a narrower student needs inputs"):
        inherit(new(seed=1, intermediate=40), new())
    for value, words in ((7, "needs an even width of a head, got head_width = 7"), (0, "head_width must be a whole")):
        with pytest.raises(ValueError, match=words):
            new(head_width=value)
    with pytest.raises(ValueError, match="head_width: a head of gpt2 has width / heads = 8"):
        new("gpt2", head_width=6)


def test_the_setting_that_is_advised_is_accepted():
    options = {"rope_parameters": ROPE, "rms_norm_eps": 1e-5}
    teacher, student = new(options=options), new(seed=1, options=options)
    assert inherit(student, teacher, "first").new == []
    assert torch.equal(student(**INPUTS), teacher(**INPUTS))
