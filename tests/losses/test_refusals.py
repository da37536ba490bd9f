"""What does not fit is refused before anything is trained or written, in words: the whole way from the command line to
the parts."""

import pytest

from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.training.assemble import assemble

PAIR = ["student=cnn", 'teacher.overrides=["student=cnn_wide"]']


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["loss=[ce,vid]", "loss.vid.hidden=-3"], ["loss.vid", "hidden", "-3"]),
        (["loss=[ce,vid]", "loss.vid.student_taps=null"], ["student_taps", "taps"]),
        (
            ["loss=[ce,vid]", "loss.vid.variance={schedule: linear, start: 8, end: 2, epochs: 2}"],
            ["loss.vid.variance", "before training"],
        ),
        (
            ["loss=[ce,factor]", "loss.factor.rate={schedule: linear, start: 0.5, end: 0.1, epochs: 1}"],
            ["loss.factor.rate", "before training"],
        ),
        (["loss=[ce,kdsvd]", "student=cnn_wide", "loss.kdsvd.vectors=1000"], ["loss.kdsvd", "1000 vectors"]),
        (["loss=[ce,kdsvd]"], ["loss.kdsvd", "(4, 8, 8, 8)", "(4, 32, 8, 8)", "same channels"]),
        (
            ["loss=[ce,pkd]", "loss.pkd.student_tap=stage1", "loss.pkd.teacher_tap=stage1"],
            ["loss.pkd", "sequence of hidden states", "(4, 8, 8, 8)"],
        ),
        (["loss=[ce,semckd]", "loss.semckd.batch_size=7"], ["loss.semckd", "batch_size", "32"]),
        (["loss=[ce,semckd]", "loss.semckd.batch_size=0"], ["batch_size must be at least 1"]),
        (["loss=[ce,simkd]", "loss.simkd.teacher_head=stage1"], ["loss.simkd", "teacher_head", "classifier"]),
        (["loss=[ce,srrl]", "loss.srrl.teacher_head=embedding"], ["loss.srrl", "teacher_head", "10 classes"]),
        (["loss=[ce,attention]", "loss.attention.power=1.5"], ["power", "whole number"]),
        (["loss=[ce,reviewkd]", "student=mlp"], ["tap"]),
    ],
)
def test_a_loss_that_does_not_fit(overrides, told):
    with pytest.raises(InputError) as error:
        config = compose([*PAIR, *overrides])
        check(config)
        assemble(config, lambda config: None)
    assert all(text in str(error.value) for text in told), str(error.value)


def test_a_loss_of_the_users_that_breaks_while_it_is_prepared(kdlab, workplace, monkeypatch):
    monkeypatch.syspath_prepend(workplace)
    (workplace / "broken.py").write_text(
        "from kdlab.losses import Loss\n\n\nclass Broken(Loss):\n    def prepare(self, probe):\n        probe.nothing\n"
    )
    code, out, err = kdlab("train", "+loss.mine={_target_: broken.Broken, weight: 1}")
    assert (
        code == 2
        and "loss.mine: AttributeError" in err
        and "Traceback" not in out + err
        and not (workplace / "runs" / "quickstart").exists()
    )
