"""Whether a teacher reads the tokens that it learned."""

from __future__ import annotations

from collections.abc import Callable

from kdlab.config.references import Reference
from kdlab.data import Data
from kdlab.data.text.tokenizers import same_tokenizer
from kdlab.errors import InputError
from kdlab.runs.named import data_config
from kdlab.teachers import Served

#: texts that tokenizers cut differently
PROBES = (
    "The 3 quick foxes, 12345 naïve cafés:\n\n  def f(x): return x + 1",
    "I'LL say it's fine 你好 😀\t\tHELLO World",
)


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


def refuse_other_tokens(key: str, teacher: Served, data: Data | None) -> None:
    """Ask the server of a teacher whether it makes the tokens of a few texts that the data's tokenizer makes. Two
    tokenizers of one size may be different ones. A server that does not say is not checked.

    Raises:
        InputError: it does not answer, or makes other tokens.
    """
    teacher.server.check(key, getattr(data, "length", None))
    own = getattr(data, "teacher_tokenizer", None)
    tokenizer, option = (own, "data.teacher_tokenizer") if own else (getattr(data, "tokenizer", None), "data.tokenizer")
    if tokenizer is None:
        return
    for text in PROBES:
        theirs = teacher.server.tokens(text)
        if theirs is None:
            continue
        ours = tokenizer.unpadded(text, add_special_tokens=False)["input_ids"]
        if theirs != ours:
            raise InputError(
                f"{key}.model={teacher.server.model}: the server makes other tokens than {option}="
                f"{tokenizer.name}: of {text[:20]!r}… {theirs[:6]}…, and the tokenizer {ours[:6]}…; its tokenizer is "
                f"needed: {option}=FOLDER"
            )
