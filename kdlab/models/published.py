"""The sizes of published causal language models, from a table in this folder, and models of these sizes without
weights.

``published.json`` holds the fields of their configs that decide sizes. Nothing is downloaded. Models are built on
torch's ``meta`` device: they have shapes and take no memory.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdlab.errors import did_you_mean

from .causal import CausalModel
from .gguf import is_gguf
from .hub import quiet, read_config

TABLE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """A published model.

    Args:
        name: on the Hugging Face hub.
        parameters: the published number; tied weights count once.
        fields: of its config, by transformers: ``model_type`` and those that decide sizes.
    """

    name: str
    parameters: int
    fields: dict[str, Any]


@functools.cache
def published() -> dict[str, Published]:
    """The table by name.

    >>> one = published()["HuggingFaceTB/SmolLM2-135M"]
    >>> one.parameters, one.fields["num_hidden_layers"]
    (134515008, 30)
    """
    models = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    return {name: Published(name, one["parameters"], one["config"]) for one in models for name in one["names"]}


def sizes_of(model: str) -> Any:
    """The config of a model, by transformers, without a download: from the table, a folder or a GGUF file. One from the
    table has the model's sizes, and the library's defaults for all else.

    Raises:
        ValueError: the model is none of these.
    """
    from transformers import AutoConfig

    if is_gguf(model) or (Path(model) / "config.json").is_file():
        return read_config(model)
    if model not in published():
        raise ValueError(
            f"the sizes of '{model}' are not known without a download{did_you_mean(model, published())}; give a folder "
            "with its config.json, or its sizes: student=llama student.layers=32 student.width=4096 student.heads=32"
        )
    fields = dict(published()[model].fields)
    with quiet():
        return AutoConfig.for_model(fields.pop("model_type"), **fields)


class _Planned(CausalModel):
    """A model that has the sizes of a pretrained one, and no weights."""

    def _pretrained(
        self,
        pretrained: str,
        revision: str | None,
        trust_remote_code: bool,
        allow_pickle: bool,
        attention: str | None,
        bits: int | None,
    ) -> Any:
        from transformers import AutoModelForCausalLM

        if bits is not None:
            raise ValueError(f"bits={bits}: the memory of rounded weights is not estimated; leave it out: bits=null")

        with quiet():
            return AutoModelForCausalLM.from_config(
                sizes_of(pretrained), dtype=torch.float32, attn_implementation=attention
            )


def planned(**arguments: Any) -> CausalModel:
    """A :class:`kdlab.models.CausalModel` with shapes and without values, on the ``meta`` device. Nothing is
    downloaded, and no weights are read.

    Args:
        arguments: of :class:`kdlab.models.CausalModel`. ``pretrained`` is a name in the table, a folder, or a GGUF
            file.

    Raises:
        ValueError: the sizes are not known, or an argument does not fit.

    >>> sum(one.numel() for one in planned(pretrained="gpt2", keep_layers=6).parameters())
    81912576
    """
    with torch.device("meta"):
        return _Planned(**arguments)
