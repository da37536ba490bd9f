"""``compile=true`` without a compiler."""

import pytest
import torch._inductor.config

from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.training.execute import rehearse


def test_a_missing_compiler_is_found_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    wrong = compose(["strategy=supervised", "compile=true", "trainer.accelerator=cpu"])
    with pytest.raises(
        InputError, match="compile=true: torch finds no C.. compiler.*compile=aot_eager, which needs none"
    ):
        rehearse(wrong)
    rehearse({**wrong, "compile": "aot_eager"})
