"""Teachers whose weights have 8 or 4 bits: what is refused, and where bitsandbytes is installed, how near they are."""

import importlib.util

import pytest
import torch
from torch import nn

import kdlab
from kdlab.errors import InputError
from kdlab.models import CausalModel, quantised
from kdlab.models.quantised import parameter_count

IDS = torch.arange(56).view(4, 14) * 5 % 40
SUMS = [
    *("task=causal_lm", "data=sums", "data.largest=9", "data.samples=60", "data.test_samples=30", "data.batch_size=8"),
    *("student=llama", "student.layers=1", "student.width=16", "student.heads=2", "loss=[ce,forward_kl]"),
    *("trainer.max_epochs=1", "progress=none"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of 14 tokens with layers wide enough for blocks of 64 weights."""
    path = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    model = CausalModel(architecture="llama", vocabulary=40, layers=2, width=128, heads=4, positions=64, tied=False)
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() == 2:
                value.normal_(0, value.shape[1] ** -0.5)
    model.network.save_pretrained(str(path))
    return str(path)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"bits": 8, "architecture": "llama"}, "bits=8 is for a pretrained model"),
        ({"bits": 8, "pretrained": "x.gguf"}, "bits=8: the weights of a GGUF file have their own bits"),
        ({"bits": 4, "pretrained": "x", "lora": {"rank": 2}}, "bits=4 and lora: rounded weights cannot be trained"),
        ({"bits": 4, "pretrained": "x", "gradient_checkpointing": True}, "bits=4 and gradient_checkpointing"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CausalModel(**options)


@pytest.mark.parametrize("bits", [3, 16, True, "8"])
def test_other_bits_are_refused(folder, bits):
    with pytest.raises(ValueError, match="bits must be 8 or 4, or null"):
        CausalModel(pretrained=folder, bits=bits)


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
def test_a_package_that_is_missing_is_named(folder, package, workplace, monkeypatch):
    monkeypatch.setattr(quantised, "_is_installed", lambda name: name != package)
    with pytest.raises(InputError, match=f"teacher: bits=8 needs the package {package}.*: pip install 'kdlab.bits.'"):
        kdlab.train([*SUMS, "teacher=causal", f"teacher.pretrained={folder}", "teacher.bits=8"])
    assert not list(workplace.rglob("run.json"))


def test_a_student_is_refused(folder, workplace):
    student = ["student=causal", f"student.pretrained={folder}", "+student.bits=8", "strategy=supervised"]
    plain = [one for one in SUMS if not one.startswith(("student", "loss"))]
    with pytest.raises(InputError, match=r"student.bits=8: rounded weights cannot be trained; student.bits=null"):
        kdlab.train([*plain, *student])


def test_answers_that_depend_on_the_batch_are_not_kept(folder, workplace):
    kept = ["teacher=causal", f"teacher.pretrained={folder}", "teacher.bits=8", "teacher.cache=fixed"]
    with pytest.raises(InputError, match="teacher.bits=8: its answers also depend on the other texts of a batch"):
        kdlab.train([*SUMS, *kept, "teacher.cache_codec=hidden"])


def test_bits_are_part_of_the_identity(folder):
    from kdlab.config.compose import compose
    from kdlab.runs.identity import run_hash

    taught = [*SUMS, "teacher=causal", f"teacher.pretrained={folder}"]
    hashes = [run_hash(compose([*taught, *more])) for more in ([], ["teacher.bits=8"], ["teacher.bits=4"])]
    assert len(set(hashes)) == 3 and run_hash(compose([*taught, "teacher.bits=null"])) == hashes[0]


def test_two_parameters_in_a_byte_count_as_two():
    network = nn.Linear(8, 4, bias=False)
    network.weight.quant_state = type("State", (), {"shape": torch.Size([8, 8])})()
    assert parameter_count(network) == 64 and parameter_count(nn.Linear(8, 4)) == 36


needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@needs_bitsandbytes
@pytest.mark.parametrize("bits, least, most, size", [(8, 0.003, 0.1, 0.3), (4, 0.05, 0.5, 0.2)])
def test_rounded_weights_answer_nearly_the_same(folder, bits, least, most, size):
    full, rounded = CausalModel(pretrained=folder).eval(), CausalModel(pretrained=folder, bits=bits).eval()
    with torch.no_grad():
        wanted, found = full(IDS), rounded(IDS)
        alone = torch.cat([rounded(ids[None]) for ids in IDS])
    assert least < (found - wanted).norm() / wanted.norm() < most
    assert torch.equal(found, rounded(IDS)), "the same batch has the same answer"
    # with 8 bits, a column is multiplied in half precision where any token of the batch is large in it
    torch.testing.assert_close(alone, found, rtol=0, atol=0.1 if bits == 8 else 1e-4)
    assert rounded.head.weight.dtype == rounded.network.get_input_embeddings().weight.dtype == torch.float32
    layers = [value for name, value in rounded.named_parameters() if "proj" in name]
    assert len(layers) == 14 and not any(value.requires_grad for value in layers)
    assert {value.dtype for value in layers} == {torch.int8 if bits == 8 else torch.uint8}
    assert parameter_count(rounded) == parameter_count(full)
    held = [sum(value.numel() * value.element_size() for value in one.parameters()) for one in (rounded, full)]
    assert held[0] < size * held[1]
    with rounded.lazily(), torch.no_grad():
        torch.testing.assert_close(rounded(IDS).dense(), found, rtol=1e-4, atol=1e-4)


@needs_bitsandbytes
def test_a_student_learns_from_a_rounded_teacher(workplace, caplog):
    from kdlab.export import to_huggingface

    alone = [one for one in SUMS if not one.startswith("loss")]
    longer = ["strategy=supervised", "student.width=64", "optimizer.lr=0.01", "trainer.max_epochs=20", "name=teacher"]
    teacher = kdlab.train([*alone, *longer])
    path = to_huggingface(teacher, workplace / "teacher").folder
    taught = [*SUMS, "teacher=causal", f"teacher.pretrained={path}"]
    taught.append("data.validation=0.5")  # of which the teacher knows most
    runs = [kdlab.train([*taught, *more]) for more in ([], ["teacher.bits=8"], ["teacher.bits=4"])]
    nll = [run.record["teacher"]["test"]["nll"] for run in runs]
    assert nll[1] == pytest.approx(nll[0], rel=0.02) and nll[2] == pytest.approx(nll[0], rel=0.2)
    assert len(set(nll)) == 3 and len({run.metrics["train/loss"] for run in runs}) == 3
    assert {run.record["teacher"]["parameters"] for run in runs} == {teacher.record["parameters"]}
    assert not [one for one in caplog.records if one.name.startswith("bitsandbytes.autograd")]
    layers = ["initial=teacher_layers", "student.width=64"]
    with pytest.raises(InputError, match="teacher's weights have 4 bits, so a student cannot take over its layers"):
        kdlab.train([*taught, "teacher.bits=4", *layers])
