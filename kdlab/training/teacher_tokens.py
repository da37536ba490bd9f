"""Whether a teacher reads the tokens that it learned."""

from __future__ import annotations

from collections.abc import Callable

from kdlab.config.references import Reference
from kdlab.data import Data
from kdlab.data.text.tokenizers import same_tokenizer
from kdlab.runs.named import data_config


def note_other_tokens(one: Reference, data: Data | None, config: dict, note: Callable[[str], None]) -> None:
    """A warning where the run of a teacher learned the tokens of another tokenizer than the one whose tokens it reads
    here.

    Args:
        one: to the teacher.
        data: of the student.
        config: of the student's run.
        note: receives the line.
    """
    theirs = None if data is None else data_config(one)
    if theirs is None:
        return
    node = config["data"]
    own = node.get("teacher_tokenizer")
    reads = node if own is None else {"tokenizer": own}
    if not same_tokenizer(theirs, reads):
        note(
            f"{one.key}: warning: {one.name} learned the tokens of {theirs['tokenizer']}, and here it reads those of "
            f"{reads['tokenizer']}; data.teacher_tokenizer={theirs['tokenizer']} gives it its own"
        )
