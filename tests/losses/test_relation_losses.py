import pytest
import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import CC, CKA, FSP, KDSVD, NST, PKT, RKD, SP, CCKernel, Probe, SimilarityKL
from kdlab.outputs import Outputs

BATCH = Batch(inputs=None, target=None, index=torch.arange(4))


def outputs(seed, channels=(3, 4, 5)):
    generator = torch.Generator().manual_seed(seed)
    maps = {
        f"stage{n + 1}": torch.randn(4, width, 8 >> n, 8 >> n, generator=generator) for n, width in enumerate(channels)
    }
    return Outputs(torch.zeros(4, 5), {**maps, "embedding": maps["stage3"].mean((2, 3))})


S, T, WIDE = outputs(0), outputs(1), outputs(2, (6, 8, 10))


def prepared(loss, teacher=WIDE):
    loss.prepare(Probe(S, teacher, None, classes=5, train_size=100))
    return loss


@pytest.mark.parametrize(
    "loss, expected",
    [
        (SP(), lambda s, t: functional.sp(s["stage3"], t["stage3"])),
        (
            SP(["stage1", "stage3"], ["stage2", "stage3"], norm=1),
            lambda s, t: functional.sp(s["stage1"], t["stage2"], 1) + functional.sp(s["stage3"], t["stage3"], 1),
        ),
        (
            CCKernel(kernel="bilinear", squared=False),
            lambda s, t: functional.cc_kernel(s["embedding"], t["embedding"], "bilinear", squared=False),
        ),
        (RKD(distance_weight=1, angle_weight=2), lambda s, t: functional.rkd(s["embedding"], t["embedding"], 1, 2)),
        (PKT("stage2", "stage1"), lambda s, t: functional.pkt(s["stage2"], t["stage1"])),
        (SimilarityKL(temperature=0.5), lambda s, t: functional.similarity_kl(s["embedding"], t["embedding"], 0.5)),
        (CKA(), lambda s, t: functional.cka(s["embedding"], t["embedding"])),
        (NST(degree=1), lambda s, t: sum(functional.nst(s[f"stage{n}"], t[f"stage{n}"], 1) for n in (1, 2, 3))),
    ],
)
def test_a_module_equals_its_function(loss, expected):
    assert torch.equal(prepared(loss)(S, WIDE, BATCH), expected(S.features, WIDE.features))
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("loss, function", [(FSP(), functional.fsp), (KDSVD(), functional.kdsvd)])
def test_consecutive_stages_are_summed(loss, function):
    s, t = S.features, T.features
    expected = sum(function(s[f"stage{n}"], s[f"stage{n + 1}"], t[f"stage{n}"], t[f"stage{n + 1}"]) for n in (1, 2))
    assert torch.equal(prepared(loss, T)(S, T, BATCH), expected) and expected.shape == (4,)


@pytest.mark.parametrize("loss", [FSP, KDSVD])
def test_a_wider_teacher_is_refused_before_the_training(loss):
    with pytest.raises(ValueError, match=r"\(4, 3, 8, 8\).*\(4, 6, 8, 8\).*channels"):
        prepared(loss())


def test_both_embeddings_of_cc_learn():
    loss = prepared(CC("stage3", "embedding", dimension=7))
    assert {name: tuple(parameter.shape) for name, parameter in loss.named_parameters()} == {
        "student_embedding.weight": (7, 20),
        "student_embedding.bias": (7,),
        "teacher_embedding.weight": (7, 10),
        "teacher_embedding.bias": (7,),
    }
    loss(S, WIDE, BATCH).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.parameters())


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: SP(norm=0), "norm"),
        (lambda: SP(["stage1"], ["stage1", "stage2"]), "teacher_taps"),
        (lambda: CC(["stage1", "stage2"], ["stage1", "stage2"]), "student_taps"),
        (lambda: CC(dimension=0), "dimension"),
        (lambda: CCKernel(kernel="rbf"), "kernel"),
        (lambda: CCKernel(gamma=-1), "gamma"),
        (lambda: RKD(angle_weight=-1), "angle_weight"),
        (lambda: SimilarityKL(temperature=0), "temperature"),
        (lambda: NST(degree=0), "degree"),
        (lambda: FSP("stage1", "stage1"), "two or more stages"),
        (lambda: KDSVD(vectors=0), "vectors"),
    ],
)
def test_bad_arguments_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()
