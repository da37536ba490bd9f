"""Whether models read the tokens that they learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.config.references import (
    CheckpointFile,
    FinishedRun,
    LayersOf,
    Network,
    Reference,
    initial_reference,
    teacher_reference,
)
from kdlab.config.signature import locate
from kdlab.data import Data
from kdlab.data.text.same_tokens import difference
from kdlab.data.text.tokenizers import FILES, Tokenizer, same_tokenizer
from kdlab.errors import InputError
from kdlab.models.causal import CausalModel
from kdlab.models.gguf import is_gguf, read_header
from kdlab.runs.checkpoints import peer_nodes
from kdlab.runs.named import data_config
from kdlab.teachers import Served

Note = Callable[[str], None]


# -- teachers ----------------------------------------------------------------------------------------------------------


def note_other_tokens(one: Reference, data: Data | None, config: dict, note: Note) -> None:
    """A warning where the run of a teacher learned the tokens of another tokenizer than the one whose tokens it reads
    here. Where the tokens themselves are learned, :func:`refuse_teacher` refuses it.

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
    option, tokenizer = _read_by_teacher(data)
    if tokenizer is None:
        return
    if found := difference(tokenizer, teacher.server.tokens):
        raise InputError(
            f"{key}.model={teacher.server.model}: the server makes other tokens than {option}={tokenizer.name}: "
            f"{found}; its tokenizer is needed: {option}=FOLDER"
        )


def refuse_teacher(one: Reference, data: Data | None, note: Note) -> None:
    """Compare the tokenizer of a causal language model that teaches with the one whose tokens it reads.

    Args:
        one: to the teacher: a pretrained model with a tokenizer in its folder or file, or a run.
        data: of the student.
        note: receives a warning where its tokenizer cannot be read.

    Raises:
        InputError: they differ.
    """
    option, ours = _read_by_teacher(data)
    found = None if ours is None else other_tokens(one, option, ours, note)
    if found is None:
        return
    name = found.tokenizer.name
    cure = f"{option}={name}"
    if option == "data.tokenizer":
        cure = (
            f"data.teacher_tokenizer={name} with a loss for other tokens, another teacher, or, if the student is new, "
            f"data.tokenizer={name} data.vocabulary={found.count}"
        )
    raise InputError(
        f"{found.key}: {found.told}. So its probabilities are of other tokens than the student's, also where both have "
        f"as many; {cure}"
    )


def _read_by_teacher(data: Data | None) -> tuple[str, Tokenizer | None]:
    """The option that names the tokenizer whose tokens a frozen teacher reads, and the tokenizer."""
    own = getattr(data, "teacher_tokenizer", None)
    return ("data.teacher_tokenizer", own) if own else ("data.tokenizer", getattr(data, "tokenizer", None))


# -- students ----------------------------------------------------------------------------------------------------------


def refuse_learners(config: dict, data: Data, note: Note) -> None:
    """Compare the tokenizers of a student and its peers with that of the data, if they are pretrained causal language
    models, or begin with the embeddings of one or of a run.

    Args:
        config: of the run.
        note: receives a warning where a tokenizer cannot be read, or where only special tokens differ: a model that
            learns may give a new meaning to one of them.

    Raises:
        InputError: they learned other tokens.
    """
    ours: Tokenizer | None = getattr(data, "tokenizer", None)
    if ours is None:
        return
    for one in _beginnings(config, data):
        found = other_tokens(one, "data.tokenizer", ours, note)
        if found is None:
            continue
        if found.special:
            note(f"{found.key}: warning: {found.told} (only special tokens differ)")
            continue
        raise InputError(
            f"{found.key}: {found.told}. So its embeddings are of other tokens, also where both have as many; "
            f"data.tokenizer={found.tokenizer.name} data.vocabulary={found.count}"
        )


def _beginnings(config: dict, data: Data) -> list[Reference]:
    """Where the first embeddings of the networks that learn come from."""
    student, initial = config["student"], initial_reference(config)
    peers = {f"strategy.peers.{name}": node for name, node in peer_nodes(config).items() if node is not student}
    found: list[Reference] = [Network(key, node) for key, node in {"student": student, **peers}.items()]
    if initial is None or not _is_causal(student):
        return found
    source = initial.source
    if not isinstance(source, LayersOf):
        return [source, *found[1:]] if initial.weights else found
    # layers of the run's teacher: it is compared as the teacher, unless that reads tokens of its own
    theirs = teacher_reference(config) if getattr(data, "teacher_tokenizer", None) else None
    of = source.source or theirs
    return [*found, of] if of is not None and source.options["embeddings"] else found


# -- both --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherTokens:
    """A model that learned the tokens of another tokenizer than it would read.

    Args:
        key: how messages name it.
        tokenizer: that of the model.
        told: from which other tokenizer it differs, and by what.
        special: whether only special tokens differ.
    """

    key: str
    tokenizer: Tokenizer
    told: str
    special: bool

    @property
    def count(self) -> int:
        """The number of tokens of its tokenizer."""
        return len(self.tokenizer.unpadded)


def other_tokens(one: Reference, option: str, ours: Tokenizer, note: Note) -> OtherTokens | None:
    """Compare the tokenizer of a causal language model with the one whose tokens it would read
    (:func:`kdlab.data.text.same_tokens.difference`). None where they are the same, or where nothing says what the model
    has learned.

    Args:
        one: to the model.
        option: that names the other tokenizer.
        ours: the other tokenizer.
        note: receives a warning where a tokenizer cannot be read.
    """
    learned = _learned(one)
    if learned is None:
        return None
    key, theirs = learned
    if (theirs.name, theirs.revision) == (ours.name, ours.revision):
        return None
    try:
        if theirs.identity == ours.identity:
            return None
        loaded = theirs.unpadded
    except (InputError, OSError) as error:
        note(
            f"{key}: warning: its tokenizer cannot be read, so it is not known whether it makes the tokens of {option}="
            f"{ours.name} ({error})"
        )
        return None

    def encode(text: str) -> list[int]:
        return loaded(text, add_special_tokens=False)["input_ids"]

    words = loaded.get_vocab()
    for special in (False, True):
        if found := difference(ours, encode, words, special):
            told = f"it learned other tokens than those of {option}={ours.name}: {found}"
            return OtherTokens(key, theirs, told, special)
    return None


def _learned(one: Reference) -> tuple[str, Tokenizer] | None:
    """The tokenizer whose tokens a model has learned, after how messages name the model; None where no file says it."""
    if isinstance(one, Network):
        name = one.node.get("pretrained")
        if not isinstance(name, str) or not _is_causal(one.node) or not _may_have_tokenizer(name):
            return None
        return f"{one.key}.pretrained={name}", Tokenizer(f"{one.key}.pretrained", name, one.node.get("revision"))
    data = data_config(one) or {}
    if not isinstance(name := data.get("tokenizer"), str):
        return None
    forms = (FinishedRun, "run"), (CheckpointFile, "checkpoint")
    key = next((f"{one.key}.{form}={one.name}" for kind, form in forms if isinstance(one, kind)), one.key)
    return key, Tokenizer("data.tokenizer", name, data.get("tokenizer_revision"))


def _is_causal(node: Mapping[str, Any]) -> bool:
    try:
        found = locate(str(node.get("_target_")))
    except LookupError:
        return False
    return isinstance(found, type) and issubclass(found, CausalModel)


def _may_have_tokenizer(name: str) -> bool:
    """Whether a model's folder or file may hold a tokenizer; of a name on the hub that is not known."""
    if is_gguf(name):
        try:
            return "tokenizer.ggml.model" in read_header(name).fields
        except ValueError:  # the model cannot be loaded either
            return False
    return not Path(name).is_dir() or any((Path(name) / file).is_file() for file in FILES)
