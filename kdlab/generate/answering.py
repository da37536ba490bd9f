"""From a config to a file of answers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import torch

from kdlab.config.build import build
from kdlab.config.references import FinishedRun, Network, Reference, teacher_reference
from kdlab.data.text.tokenizers import Tokenizer
from kdlab.errors import InputError, RunFailed, did_you_mean
from kdlab.models import CausalModel
from kdlab.runs.identity import teacher_identity
from kdlab.runs.run import Run
from kdlab.teachers.client import Server
from kdlab.teachers.served import Served
from kdlab.training.teacher_tokens import other_tokens

from .kept import RUNNING, Answer, Filter, Kept
from .local import answered, licence_of
from .prompts import Prompts, read_prompts, tokens_of, without_too_long
from .sampling import Sampling
from .server import Settings, answered_by

_EVERY = 10.0  # seconds between lines of progress
_UNKNOWN = "settings that the server does not accept"  # in the manifest
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Summary:
    """What was generated.

    Args:
        out: the file of answers.
        counts: of prompts and answers, by what became of them.
        new: answers that were generated now.
        tokens: of these; None where a server does not say.
        seconds: that took.
        tokenizer: that a student of these answers needs; None if it is not known.
        chat: whether the prompts were written as chats.
    """

    out: Path
    counts: Mapping[str, int]
    new: int
    tokens: int | None
    seconds: float
    tokenizer: str | None
    chat: bool


@dataclass(frozen=True)
class _Source:
    """Who answers.

    Args:
        name: for people.
        identity: SHA-256 of what its answers depend on.
        server: where it is one; None: a model on this machine.
        tokenizer: of the prompts; a server may do without.
        licence: that the model states.
    """

    reference: Reference
    name: str
    identity: str
    server: Server | None
    tokenizer: Tokenizer | None
    licence: str | None


def generate(config: Mapping[str, Any]) -> Summary:
    """Generate what ``conf/generate.yaml`` describes. What an earlier call has finished is not generated again.

    Raises:
        InputError: something is wrong, found before anything is generated.
        RunFailed: a server is gone, or refuses a prompt. Finished answers are kept.
        OSError: a file cannot be written. Finished answers are kept.
    """
    sampling = _built(Sampling, config, "sampling")
    rule = _built(Filter, config, "filter")
    _check(config)
    prompts = read_prompts(config["data"])
    source = _source(config)
    chat = bool(config["data"]["chat"]) or prompts.chats is not None
    kept = Kept(Path(config["out"]), _identity(config, source, sampling, prompts, chat))
    kept.check_prompts(config["data"]["prompts"])
    kept.check(config["fresh"])
    tokens = [] if source.server else tokens_of(prompts, cast(Tokenizer, source.tokenizer), chat)
    torch.set_num_threads(config["threads"])
    with _alone(kept):
        answers = {} if config["fresh"] else kept.read()
        network: Any = None
        if source.server is None:
            positions = None
            if _missing(prompts, answers, sampling.samples):
                network = _network(source, config)
                positions = network.positions
            prompts = without_too_long(prompts, tokens, positions, sampling.max_tokens, config["data"]["faulty"])
        asked = _missing(prompts, answers, sampling.samples)
        facts = _facts(config, source, sampling, prompts)
        if asked and source.server is not None:
            source.server.check("teacher")
        before = None if config["fresh"] else kept.manifest()
        settings = Settings(sampling)
        told = set((before or {}).get(_UNKNOWN, ()))  # by the server that was asked before, which may be another one
        refused: dict[int, str] = {}  # prompts
        kept.begin(config["fresh"], facts)
        begun = time.monotonic()
        parts: Iterator[list[Answer]] = iter(())
        if source.server is not None:
            collected = refused if config["data"]["faulty"] == "drop" else None
            parts = answered_by(
                source.server, prompts, chat, asked, settings, sampling, collected, fresh=config["fresh"]
            )
        elif asked:
            device = _device(config)
            loaded = cast(Tokenizer, source.tokenizer).unpadded
            size = config["data"]["batch_size"]
            parts = answered(network, loaded, tokens, asked, sampling, size, device)
        lines = _Progress(len(asked), config["progress"])
        made: list[Answer] = []
        for part in parts:
            kept.add(part)
            if new := sorted(settings.unknown - told):
                told.update(new)
                kept.write_manifest(RUNNING, {**facts, _UNKNOWN: sorted(told)}, {})
                print(
                    f"the server does not accept {', '.join(new)}: its own values apply, as the manifest says",
                    file=sys.stderr,
                    flush=True,
                )
            made += part
            lines.tell(made)
        answers.update({(one.index, one.sample): one for one in made})
        seconds = time.monotonic() - begun
        if refused:
            prompts = _without_refused(prompts, refused)
        facts |= {_UNKNOWN: sorted(told)} if told else {}
        counts = kept.finish(prompts, answers, rule, sampling.samples, chat, facts)
    number = None if any(one.tokens is None for one in made) else sum(one.tokens or 0 for one in made)
    name = None if source.tokenizer is None else source.tokenizer.name
    return Summary(kept.out, counts, len(made), number, seconds, name, chat)


def _built(kind: Any, config: Mapping[str, Any], key: str) -> Any:
    """A dataclass from a node, with a message for a key that it does not have."""
    known = list(kind.__dataclass_fields__)
    if wrong := [name for name in config[key] if name not in known]:
        raise InputError(f"{key}.{wrong[0]}: there is no such key{did_you_mean(wrong[0], known)}")
    return kind(**config[key])


def _check(config: Mapping[str, Any]) -> None:
    """Raises InputError where a value of kdlab's own keys is out of its range."""
    for key, value in (("threads", config["threads"]), ("data.batch_size", config["data"]["batch_size"])):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{key} must be a whole number of at least 1, got {value!r}")
    if config["precision"] not in _PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(_PRECISIONS)}, got {config['precision']!r}")
    if config["progress"] not in ("auto", "none"):
        raise InputError(f"progress must be auto or none, got {config['progress']!r}")
    for key in ("fresh", "data.chat"):
        value = config["fresh"] if key == "fresh" else config["data"]["chat"]
        if not isinstance(value, bool):
            raise InputError(f"{key} must be true or false, got {value!r}")
    _device(config)


def _device(config: Mapping[str, Any]) -> torch.device:
    if config["device"] == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(config["device"])
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device={config['device']}: there is no such device; for example device=cpu") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={config['device']}: this machine has no such GPU; device=cpu")
    return found


# -- who answers -------------------------------------------------------------------------------------------------------


def _source(config: Mapping[str, Any]) -> _Source:
    """Who answers. Nothing is loaded yet."""
    data = config["data"]
    one = teacher_reference(dict(config))
    named, revision = data["tokenizer"], data["tokenizer_revision"]
    if isinstance(one, FinishedRun):
        run = Run(one.path)
        try:
            run.check()
        except InputError as error:
            raise InputError(f"teacher.run: {error}") from error
        learned = run.config["data"]
        if not run.finished or not learned.get("tokenizer") or "CausalText" not in str(learned.get("_target_")):
            reason = (
                f"is not finished (its status is {run.status})"
                if not run.finished
                else "is no run of task=causal_lm, whose networks write texts"
            )
            raise InputError(f"teacher.run: {run.path} {reason}")
        tokenizer = Tokenizer(
            "data.tokenizer", named or learned["tokenizer"], revision or learned.get("tokenizer_revision")
        )
        _refuse_other_tokens(one, tokenizer)
        return _Source(one, str(one.path), _digest(teacher_identity(one)), None, tokenizer, None)
    if not isinstance(one, Network):
        raise InputError(
            "teacher: answers are generated by teacher=causal teacher.pretrained=FOLDER, teacher=run teacher.run=RUN, "
            "or teacher=served teacher.address=http://…"
        )
    if one.node["_target_"].rpartition(".")[2] == "Served":
        built = cast(Served, build(one.node, "teacher"))
        theirs = None if named is None else Tokenizer("data.tokenizer", named, revision)
        return _Source(one, str(built.server.model), _digest(teacher_identity(one)), built.server, theirs, None)
    model = one.node.get("pretrained")
    if not isinstance(model, str):
        raise InputError("teacher.pretrained has no value; give it with teacher.pretrained=FOLDER")
    if named is None:
        tokenizer = Tokenizer("teacher.pretrained", model, one.node.get("revision"))
    else:
        tokenizer = Tokenizer("data.tokenizer", named, revision)
    _ = tokenizer.unpadded  # its problem is found before a model is loaded
    _refuse_other_tokens(one, tokenizer)
    return _Source(one, model, _digest(teacher_identity(one)), None, tokenizer, licence_of(model))


def _refuse_other_tokens(one: Reference, tokenizer: Tokenizer) -> None:
    """Raises InputError where the model has learned other tokens than those of the prompts."""
    found = other_tokens(one, tokenizer.key, tokenizer, lambda line: None)
    if found is not None and not found.special:
        raise InputError(f"{found.key}: {found.told}; leave data.tokenizer out")


def _digest(described: object) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _network(source: _Source, config: Mapping[str, Any]) -> Any:
    """The model, loaded, on its device."""
    one = source.reference
    network = Run(one.path).network(one.which) if isinstance(one, FinishedRun) else build(one.node, "teacher")
    if not isinstance(network, CausalModel):
        raise InputError(f"teacher: {type(network).__name__} is no causal language model; teacher=causal loads one")
    words = len(cast(Tokenizer, source.tokenizer).unpadded)
    if words > network.config.vocab_size:
        raise InputError(
            f"data.tokenizer={cast(Tokenizer, source.tokenizer).name} has {words} tokens, and the model has "
            f"{network.config.vocab_size}: it is the tokenizer of another model; leave data.tokenizer out"
        )
    network.eval().to(_device(config))
    for weight in network.parameters():  # not the buffers: rotary frequencies are wrong in half precision
        weight.data = weight.data.to(_PRECISIONS[config["precision"]])
    return network


def _identity(
    config: Mapping[str, Any], source: _Source, sampling: Sampling, prompts: Prompts, chat: bool
) -> dict[str, Any]:
    """What the answers depend on. A model on this machine counts by its content, wherever it is; one of the hub by its
    name, which is part of that."""
    words = None if source.tokenizer is None or source.server is not None else source.tokenizer.identity
    return {
        **({} if source.server is None else {"teacher": source.name}),
        "the teacher's content": source.identity,
        "tokenizer": words,
        "prompts": prompts.identity,
        "data.chat": chat,
        **({} if source.server is not None else {"precision": config["precision"]}),
        **{f"sampling.{key}": value for key, value in sampling.identity.items()},
    }


def _facts(config: Mapping[str, Any], source: _Source, sampling: Sampling, prompts: Prompts) -> dict[str, Any]:
    """What the manifest says beside the identity."""
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "teacher": {
            "name": source.name,
            "address": None if source.server is None else source.server.address,
            "licence": source.licence,
            "note": "Check that the licence of the teacher allows models that are trained on its answers.",
        },
        "tokenizer": None if source.tokenizer is None else source.tokenizer.name,
        "prompts": {"file": config["data"]["prompts"], "number": len(prompts)},
        "sampling": asdict(sampling),
    }


# -- what is asked -----------------------------------------------------------------------------------------------------


def _missing(prompts: Prompts, answers: Mapping[tuple[int, int], Answer], samples: int) -> list[tuple[int, int]]:
    """(index, sample) of the answers that are not there."""
    wanted = ((row, sample) for row in prompts.rows for sample in range(samples))
    return [one for one in wanted if one not in answers]


def _without_refused(prompts: Prompts, refused: Mapping[int, str]) -> Prompts:
    """The prompts without those that a server refused.

    Raises:
        RunFailed: it refused all.
    """
    found = prompts.without(refused)
    if not found.rows:
        row = min(refused)
        raise RunFailed(f"teacher: the server refuses all prompts: {prompts.table.places([row])}: {refused[row]}")
    return found


@contextlib.contextmanager
def _alone(kept: Kept) -> Iterator[None]:
    """Holds the lock of the files.

    Raises:
        InputError: another process writes them.
    """
    from filelock import FileLock, Timeout

    kept.out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(kept.out.with_suffix(".lock")))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"out={kept.out}: another process writes these answers at this moment") from error
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


class _Progress:
    """A line on stderr now and then."""

    def __init__(self, number: int, kind: str):
        self.number, self.silent = number, kind == "none"
        self.begun = self.last = time.monotonic()

    def tell(self, made: list[Answer]) -> None:
        """Say how far it is, if it is time for it."""
        now = time.monotonic()
        if self.silent or now - self.last < _EVERY:
            return
        self.last = now
        seconds = now - self.begun
        left = seconds / len(made) * (self.number - len(made))
        rate = sum(one.tokens or 0 for one in made) / seconds
        told = f"{len(made):,} of {self.number:,} answers, {rate:,.0f} tokens a second"
        print(f"{told}, about {left / 60:,.0f} minutes left", file=sys.stderr, flush=True)
