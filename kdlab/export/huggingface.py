"""The form of transformers: weights, config, tokenizer and a model card in a folder, as ``save_pretrained`` writes
them."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.config.signature import locate
from kdlab.data.text.causal_tokens import template_end
from kdlab.data.text.tokenizers import Tokenizer
from kdlab.errors import InputError, RunFailed
from kdlab.models.calling import answer_of
from kdlab.models.lora import merged
from kdlab.runs.run import Run
from kdlab.tasks.metric import report_of

from .card import card

_SAMPLES, _TOKENS = 4, 16  # of the random inputs on which the written model is compared with the student


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        folder: where.
        kind: the class of transformers that loads it.
        tokenizer: whether the folder holds a tokenizer.
        difference: the largest absolute difference between the outputs of the student and of the model that was loaded
            from the folder.
    """

    folder: Path
    kind: str
    tokenizer: bool
    difference: float


def to_huggingface(run: Run, folder: Path, which: str = "last") -> Written:
    """Write the network that a run keeps as a model of transformers, load it again, and compare the outputs. The folder
    appears only when all of this has succeeded. Adapters (LoRA) are added to the weights before.

    Args:
        run: a finished run.
        folder: a new folder, or an empty one.
        which: the checkpoint, ``last`` or ``best``.

    Raises:
        InputError: the network is no model of transformers, the folder is not empty, or the tokenizer is gone.
        RunFailed: the written model answers differently.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"export: {folder} exists and is not empty; remove it, or name another with --folder")
    network = merged(run.network(which))
    model = _model_of(network, run)
    _name_classes(model, run.config)
    tokenizer = _tokenizer(run.config["data"])
    pretrained = run.network_config(which).get("pretrained") is not None
    _name_special_tokens(model, tokenizer, pretrained, bool(run.config["data"].get("messages")))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "model"
        model.save_pretrained(made)
        if tokenizer is not None:
            tokenizer.save_pretrained(made)
        difference = _difference(network, model, made, run.config)
        if difference != 0:
            raise RunFailed(
                f"export: the model that was written answers differently from the student, by {difference:g}; nothing "
                f"was kept. {run.path} is unchanged"
            )
        (made / "README.md").write_text(card(run, which, network, type(model).__name__), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        shutil.move(made, folder)
    return Written(folder, type(model).__name__, tokenizer is not None, difference)


def _model_of(network: nn.Module, run: Run) -> Any:
    """The model of transformers inside a network of kdlab, or the network itself."""
    from transformers import PreTrainedModel

    if isinstance(getattr(network, "projection", None), nn.Linear):
        raise InputError(
            f"export: the student of {run.path} maps the encoder's vectors by a linear layer, which a model of "
            "transformers does not hold, so its vectors would be others. A student of the teacher's width has no such "
            f'layer; this one is a plain nn.Module: kdlab.load("{run.path}").student'
        )
    for found in (network, getattr(network, "network", None)):
        if isinstance(found, PreTrainedModel):
            return found
    raise InputError(
        f"export: the student of {run.path} is {type(network).__name__}, which is no model of transformers. --to hf "
        "writes students of student=encoder, student=causal and student=huggingface; any other is a plain nn.Module: "
        f'kdlab.load("{run.path}").student'
    )


def _name_classes(model: Any, config: Mapping[str, Any]) -> None:
    """Give the model the names of the classes, so that a pipeline prints them. Names that pretrained weights brought
    along may be those of other classes."""
    from kdlab.training.assemble import class_names

    classes = config["data"]["classes"]
    if report_of(config).answers in ("values", "vectors") or model.config.num_labels != classes:
        return
    names = class_names(config["data"], classes)
    if names == list(map(str, range(classes))):
        names = [f"LABEL_{name}" for name in names]  # those of a model without names
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}


def _tokenizer(data: Mapping[str, Any]) -> Any:
    """The tokenizer of the data, with the token that fills up short texts; None where the data have none."""
    if not data.get("tokenizer"):
        own = _made_by_the_data(data)
    else:
        own = Tokenizer("data.tokenizer", data["tokenizer"], data.get("tokenizer_revision"), data.get("pad_token"))
    try:
        return None if own is None else own.loaded
    except InputError as error:
        raise InputError(f"export: the tokenizer of the run's data cannot be loaded: {error}") from error


def _made_by_the_data(data: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a data set of texts that makes its own, such as ``data=sums``."""
    from kdlab.data.text.texts import TextData
    from kdlab.training.assemble import make_data

    try:
        found = locate(data["_target_"])
    except (KeyError, LookupError):
        return None
    if not isinstance(found, type) or not issubclass(found, TextData):
        return None
    made: Any = make_data(dict(data))
    return made.tokenizer


def _name_special_tokens(model: Any, tokenizer: Any, pretrained: bool, chats: bool) -> None:
    """Give a model that generates the tokens that begin, end and fill up a text: otherwise it would not stop. Those
    that pretrained weights bring along also end an answer.

    Args:
        pretrained: whether the model's config was that of pretrained weights.
        chats: whether the student learned chats, whose answers end as the tokenizer's template writes it.
    """
    generation = getattr(model, "generation_config", None)
    if tokenizer is None or generation is None:
        return
    for name in ("bos_token_id", "pad_token_id"):
        for config in (model.config, generation):
            if not pretrained or getattr(config, name, None) is None:
                setattr(config, name, getattr(tokenizer, name))
    ends = [template_end(tokenizer) if chats else None, tokenizer.eos_token_id]
    if pretrained:
        named = getattr(generation, "eos_token_id", None)
        ends += named if isinstance(named, list) else [named]
    ends = list(dict.fromkeys(token for token in ends if token is not None))
    generation.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    if not pretrained or model.config.eos_token_id is None:
        model.config.eos_token_id = generation.eos_token_id


@torch.no_grad()
def _difference(network: nn.Module, model: Any, folder: Path, config: Mapping[str, Any]) -> float:
    """The largest difference of the outputs on random inputs, of the student and of the student with the model that the
    folder holds."""
    attention = getattr(model.config, "_attn_implementation", None)
    loaded = type(model).from_pretrained(folder, dtype="float32", attn_implementation=attention).eval()
    twin = loaded
    if network is not model:
        twin = copy.copy(network)
        twin._modules = {**network._modules, "network": loaded}
    inputs = _inputs(model, config["data"], getattr(network, "vocabulary", None))
    before, after = answer_of(network, inputs), answer_of(twin, inputs)
    return float((before - after).abs().max())


def _inputs(model: Any, data: Mapping[str, Any], vocabulary: int | None) -> Tensor | dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        return torch.randn(_SAMPLES, *data["shape"], generator=draw)
    tokens = torch.randint(
        0, vocabulary or model.config.vocab_size, (_SAMPLES, min(_TOKENS, *data["shape"])), generator=draw
    )
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
