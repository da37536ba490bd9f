"""What is known of the networks before they are tried."""

import pytest

from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.training.assemble import assembled
from tests.data.text.texts import overrides
from tests.training.test_class_order import encoder_folder

pytest.importorskip("transformers")


def test_a_teacher_with_too_few_positions_is_refused(tmp_path):
    """It reads the texts at data.length, of which the few samples of a trial say nothing."""
    folder = encoder_folder(tmp_path / "teacher", ["neg", "pos"])
    given = [text for text in overrides(tmp_path, teacher=False) if text != "teacher=none"]
    given += ["teacher=encoder", f"teacher.pretrained={folder}", "data.length=24"]
    assert assembled(compose(given)).data.longest_for_teacher <= 16
    with pytest.raises(InputError) as error:
        assembled(compose([*given, "data.teacher_pad_to=length"]))
    assert error.value.problems == [
        "teacher: a text has 24 tokens, and the model has positions for 16; data.length=16 cuts longer texts"
    ]
