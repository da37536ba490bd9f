"""Who learns from mixed images: cross-entropy from both labels, a student and its teacher from the same ones; what
needs one label is refused."""

import pytest
import torch

from kdlab import functional
from kdlab.batch import Batch
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.losses import CrossEntropy, HintonKD, Standardised
from kdlab.outputs import Outputs
from kdlab.runs.identity import run_hash
from kdlab.strategies import Strategy, Supervised
from kdlab.training.assemble import assemble
from tests.training.test_resume import _equal

# -- what learns from it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.2}, {"label_smoothing": 0.2, "smoothing_over": "others"}], ids=str
)
def test_cross_entropy_takes_both_labels_in_their_shares(options):
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    batch = Batch(
        torch.zeros(2, 2),
        torch.tensor([0, 1]),
        torch.arange(2),
        partner_target=torch.tensor([2, 1]),
        share=torch.tensor([0.7, 0.4]),
    )
    values = CrossEntropy(**options)(Outputs(logits), None, batch)
    own, partner = (
        functional.cross_entropy(logits, target, **options) for target in (batch.target, batch.partner_target)
    )
    assert torch.allclose(values, torch.stack([0.7 * own[0] + 0.3 * partner[0], own[1]]))
    if not options:  # -log softmax of [2, 0, 1]: 0.4076, 2.4076, 1.4076
        assert values[0].item() == pytest.approx(0.7 * 0.40761 + 0.3 * 1.40761, abs=1e-5)
    # the same as one soft label
    if not options:
        soft = torch.tensor([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0]])
        assert torch.allclose(values, -(soft * logits.log_softmax(-1)).sum(-1))


def test_cross_entropy_of_both_views():
    batch = Batch(
        torch.zeros(1, 2),
        torch.tensor([0]),
        torch.arange(1),
        partner_target=torch.tensor([1]),
        share=torch.tensor([0.25]),
    )
    first, second = Outputs(torch.tensor([[1.0, 0.0]])), Outputs(torch.tensor([[0.0, 3.0]]))
    together = CrossEntropy(both_views=True)(first.replace(second=second), None, batch)
    assert torch.allclose(together, CrossEntropy()(first, None, batch) + CrossEntropy()(second, None, batch))


def test_what_a_loss_inside_another_declares_counts():
    assert Standardised(CrossEntropy()).mixed_labels and not Standardised(HintonKD()).mixed_labels


class NotMixed(Supervised):
    mixing = False


@pytest.mark.parametrize(
    "overrides, told",
    [
        (
            ["mixing=mixup", "loss=[ce,dkd]"],
            [
                (
                    "^loss.dkd: DKD needs one label an image, and data.mixing makes one image of two; leave the term "
                    "out, or .*mixing=none"
                )
            ],
        ),
        (["mixing=cutmix", "loss=[ce,virtual_teacher]"], ["loss.virtual_teacher: VirtualTeacher needs one label"]),
        (["mixing=mixup", "loss=[ce,crd]"], ["loss.crd: CRD knows samples by their index"]),
        (
            ["mixing=cutmix", "loss=[ce,nkd,crd]"],
            ["2 problems", "loss.nkd: NKD needs one label", "loss.crd: CRD knows"],
        ),
        (
            ["mixing=mixup", "strategy=supervised", f"strategy._target_={__name__}.NotMixed"],
            ["strategy: NotMixed cannot learn from mixed images.*mixing=none"],
        ),
    ],
)
def test_what_needs_one_label_an_image_is_refused(overrides, told):
    config = compose(overrides)
    check(config)
    with pytest.raises(InputError) as error:
        assemble(config, lambda config: None)
    for text in told:
        error.match(text)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_distillation_of_mixed_images(workplace, taught, mixing, monkeypatch):
    """Student and teacher see the same one; the losses are those of its two labels."""
    import kdlab
    from kdlab.strategies import Offline
    from kdlab.teachers import Frozen

    seen, asked = [], []
    distill, teach = Offline.distill, Frozen.teach
    monkeypatch.setattr(Offline, "distill", lambda self, batch: seen.append(batch) or distill(self, batch))
    monkeypatch.setattr(Frozen, "teach", lambda self, batch: asked.append(batch) or teach(self, batch))
    run = kdlab.train(
        [
            "teacher=run",
            f"teacher.run={taught.path}",
            f"mixing={mixing}",
            "data.mixing.probability=1.0",
            "data.mixing.alpha=1.0",
            "trainer.max_epochs=1",
            "progress=none",
        ]
    )
    assert all(any(batch.inputs is other.inputs for other in asked) for batch in seen)
    shares = torch.stack([batch.share[0] for batch in seen])
    assert ((shares > 0) & (shares < 1)).float().mean() > 0.8 and 0 < run.metrics["test/accuracy"] <= 1


# -- in the config -----------------------------------------------------------------------------------------------------


def test_the_group_and_its_keys(workplace):
    assert "mixing" not in compose([])["data"]
    for overrides, expected in (
        (["mixing=mixup", "data.mixing.alpha=1.0"], {"_target_": "kdlab.data.Mixup", "alpha": 1.0, "probability": 1.0}),
        (["mixing=cutmix", "data=cifar10"], {"_target_": "kdlab.data.CutMix", "alpha": 1.0, "probability": 0.5}),
    ):
        assert compose(overrides)["data"]["mixing"] == expected
    with pytest.raises(InputError, match="data.mixing.alhpa.*did you mean 'alpha'"):
        check(compose(["mixing=mixup", "+data.mixing.alhpa=1"]))
    hashes = {
        run_hash(compose(overrides))
        for overrides in ([], ["mixing=mixup"], ["mixing=cutmix"], ["mixing=mixup", "data.mixing.alpha=1"])
    }
    assert len(hashes) == 4
    said = compose([])
    said["data"]["mixing"] = None
    assert run_hash(said) == run_hash(compose([])), "the config of a data file that has the key"


def test_a_data_file_that_lacks_the_key(kdlab, workplace):
    (workplace / "mine" / "data").mkdir(parents=True)
    (workplace / "mine" / "data" / "own.yaml").write_text(
        "_target_: kdlab.data.Digits\nname: own\nclasses: 10\nshape: [1, 8, 8]\nbatch_size: 32\n"
    )
    for mixing in ("none", "mixup"):
        code, out, err = kdlab(
            "train",
            "--config-dir",
            workplace / "mine",
            "data=own",
            "strategy=supervised",
            "trainer.max_epochs=1",
            f"mixing={mixing}",
        )
        assert code == 0, err


# -- resume ------------------------------------------------------------------------------------------------------------


RUN = ["data.augment.crop_padding=1", "+trainer.limit_train_batches=8", "trainer.max_epochs=3", "progress=none"]


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_an_interrupted_run_goes_on_to_the_same_bits(workplace, taught, mixing, monkeypatch):
    import kdlab

    overrides = [*RUN, f"mixing={mixing}", "teacher=run", f"teacher.run={taught.path}"]
    step = Strategy.training_step

    def interrupted(self, batch, index):
        if (self.current_epoch, index) == (1, 5):
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Strategy, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kdlab.train([*overrides, "name=broken"])
    runs = [kdlab.train([*overrides, f"name={name}"]) for name in ("broken", "whole")]
    states = [torch.load(run.checkpoint("last"), weights_only=True) for run in runs]
    assert len(runs[0].record["resumed"]) == 1 and not runs[1].record["resumed"]
    for part in ("state_dict", "optimizer_states", "global_step"):
        assert _equal(states[0][part], states[1][part]), part
    assert _equal(runs[0].predictions(), runs[1].predictions())
