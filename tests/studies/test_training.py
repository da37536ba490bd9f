"""What may be said beside a study when it is trained."""

import pytest

from kdlab.errors import InputError
from kdlab.studies.training import refuse_others


def test_what_changes_no_result_may_be_said():
    refuse_others(["paths.runs=elsewhere", "+data.workers=2", "progress=lines", "hydra.launcher.workers=2"])


@pytest.mark.parametrize(
    "text, hint",
    [
        ("seed=3", ""),
        ("trainer.max_epochs=1", ""),
        ("data=digits", ""),
        ("hydra.sweeper.trials=3", ""),
        ("progress", ""),
        ("path.runs=x", "did you mean 'paths.runs'?"),
    ],
)
def test_what_would_make_it_another_study_is_refused(text, hint):
    with pytest.raises(InputError) as refused:
        refuse_others(["progress=lines", text])
    assert str(refused.value).startswith(
        f"reproduce: {text}: a study trains what its study.yaml defines"
    ) and hint in str(refused.value)
