"""GGUF files, as llama.cpp reads them: causal language models with their tokenizer in one file.

Weights are read by transformers with the package ``gguf``, and put into plain float32 layers: so a model can be
trained, saved and compared like any other. What transformers would read silently wrong is corrected or refused here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdlab.errors import did_you_mean

#: the architectures (``general.architecture``) whose logits were compared with those of the folder
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")

_SPLIT_LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
#: how text is split before byte-pair merges, by ``tokenizer.ggml.pre``: a pattern, or ``digits`` and GPT-2's own
SPLITS = {
    "gpt-2": "gpt-2",
    "smollm": "digits",
    "llama-bpe": _SPLIT_LLAMA,
    "qwen2": _SPLIT_LLAMA.replace(r"\p{N}{1,3}", r"\p{N}"),
}

# the numbers of a value in the file: struct format by type; 8 is a string, 9 an array
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # kinds of tokens
_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_PACKAGES = {"gguf": "gguf", "accelerate": "accelerate"}


@dataclass(frozen=True)
class Header:
    """What a GGUF file says before its weights.

    Args:
        fields: key -> value; of an array, its length.
        raw: key -> the bytes of the value.
        tensors: name -> (sizes, number of the type, offset).
        begin: where the weights begin.
        size: of the file.
    """

    fields: dict[str, Any]
    raw: dict[str, bytes]
    tensors: dict[str, tuple[tuple[int, ...], int, int]]
    begin: int
    size: int

    @property
    def architecture(self) -> str:
        """The architecture, in llama.cpp's words."""
        return str(self.fields.get("general.architecture"))

    def of_model(self, key: str, default: Any = None) -> Any:
        """A value below the architecture's name."""
        return self.fields.get(f"{self.architecture}.{key}", default)

    def values(self, key: str) -> list[Any]:
        """The values of an array of texts or numbers; empty where there is none."""
        if key not in self.raw:
            return []
        content = self.raw[key]
        kind, count = struct.unpack_from("<IQ", content)
        if kind in _FORMATS:
            return list(struct.unpack_from(f"<{count}{_FORMATS[kind]}", content, 12))
        found, place = [], 12
        for _ in range(count):
            length = struct.unpack_from("<Q", content, place)[0]
            found.append(content[place + 8 : place + 8 + length].decode("utf-8", "replace"))
            place += 8 + length
        return found


def is_gguf(name: str) -> bool:
    """Whether a model or tokenizer is named as a GGUF file.

    >>> is_gguf("smollm2.Q8_0.gguf"), is_gguf("smollm2")
    (True, False)
    """
    return name.lower().endswith(".gguf")


def read_header(name: str) -> Header:
    """The header of a GGUF file.

    Raises:
        ValueError: there is no such file, it is none of this kind, or it is damaged.
    """
    path = Path(name)
    if not path.is_file():
        near = [str(one) for one in path.parent.glob("*.gguf")] if path.parent.is_dir() else []
        raise ValueError(f"there is no file {name}{did_you_mean(name, near)}")
    with open(path, "rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{name} is no GGUF file: it does not begin with the letters GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                return _header(content)
            except (struct.error, KeyError, UnicodeDecodeError, MemoryError, OverflowError) as error:
                raise ValueError(f"{name} is damaged: its header cannot be read; fetch it again") from error


def _header(content: mmap.mmap) -> Header:
    def number(format: str, place: int) -> tuple[Any, int]:
        return struct.unpack_from(f"<{format}", content, place)[0], place + struct.calcsize(f"<{format}")

    def text(place: int) -> tuple[str, int]:
        length, place = number("Q", place)
        if place + length > len(content):
            raise struct.error("a text ends after the file")
        return content[place : place + length].decode("utf-8", "replace"), place + length

    def value(kind: int, place: int) -> tuple[Any, int]:
        if kind == _STRING:
            return text(place)
        if kind != _ARRAY:
            return number(_FORMATS[kind], place)
        inner, place = number("I", place)
        count, place = number("Q", place)
        if inner in _FORMATS:
            place += count * struct.calcsize(f"<{_FORMATS[inner]}")
        else:
            for _ in range(count):
                _, place = value(inner, place)
        return count, place

    tensor_count, place = number("Q", 8)
    field_count, place = number("Q", place)
    fields, raw, tensors = {}, {}, {}
    for _ in range(field_count):
        key, place = text(place)
        kind, begin = number("I", place)
        fields[key], place = value(kind, begin)
        raw[key] = content[begin:place]
    for _ in range(tensor_count):
        key, place = text(place)
        dimensions, place = number("I", place)
        sizes = struct.unpack_from(f"<{dimensions}Q", content, place)
        kind, place = number("I", place + 8 * dimensions)
        offset, place = number("Q", place)
        tensors[key] = sizes, kind, offset
    alignment = fields.get("general.alignment", 32)
    return Header(fields, raw, tensors, place + -place % alignment, len(content))


def checked_header(name: str) -> Header:
    """The header of a file whose model can be loaded.

    Raises:
        ValueError: the file cannot be read, a package is missing, its model is not supported, or it ends early.
    """
    found = read_header(name)
    if found.architecture not in ARCHITECTURES:
        raise ValueError(
            f"{name} holds a model of the architecture '{found.architecture}'; GGUF files are supported for "
            f"{', '.join(ARCHITECTURES)}. Name the folder or the hub name of the original model"
        )
    scaling = found.of_model("rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in found.tensors:
        raise ValueError(
            f"{name} scales its rotary positions ({'llama3' if scaling == 'none' else scaling}), which is not supported"
            " in GGUF files. Name the folder or the hub name of the original model"
        )
    if missing := [package for package in _PACKAGES if importlib.util.find_spec(package) is None]:
        raise ValueError(f"reading {name} needs the package {missing[0]}: pip install 'kdlab[gguf]'")
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    for tensor, (sizes, kind, offset) in found.tensors.items():
        try:
            block, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{name}: {tensor} is stored in the type {kind}, which the installed package gguf does not know; pip "
                "install -U gguf"
            ) from error
        count = 1
        for size in sizes:
            count *= size
        if found.begin + offset + count // block * width > found.size:
            raise ValueError(f"{name} is damaged: it ends before the weights of {tensor}; fetch it again")
    return found


def gguf_config(name: str) -> Any:
    """The config of the model in a GGUF file, by transformers, with what its reader leaves out.

    Raises:
        ValueError: as :func:`checked_header`.
    """
    from transformers import AutoConfig

    header = checked_header(name)
    path = Path(name)
    found = AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)
    width = header.of_model("attention.key_length") or header.of_model("rope.dimension_count")
    if width is not None and hasattr(found, "head_dim"):
        found.head_dim = int(width)
    if (positions := header.of_model("context_length")) is not None:
        found.max_position_embeddings = int(positions)
    found.vocab_size = header.tensors["token_embd.weight"][0][1]
    return found


def load_gguf(kind: Any, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model in a GGUF file in plain layers of float32, and what transformers found out while loading it.

    Args:
        kind: the class that loads it.
        options: of ``from_pretrained``.

    Raises:
        ValueError: as :func:`checked_header`.
    """
    import transformers

    config = gguf_config(name)
    path = Path(name)
    if hasattr(transformers, "GgufConfig"):  # otherwise the layers keep the blocks of the file, or are marked so
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        network, found = kind.from_pretrained(
            str(path.parent), gguf_file=path.name, config=config, dtype="float32", output_loading_info=True, **options
        )
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.config.name_or_path = path.stem
    return network, found


def gguf_content(name: str) -> str:
    """SHA-256 of a GGUF file, for a run's identity."""
    with open(name, "rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def gguf_tokenizer_content(name: str) -> str:
    """SHA-256 of what a GGUF file says of its tokenizer: it is the same in all quantisations of a model.

    Raises:
        ValueError: as :func:`read_header`.
    """
    raw = read_header(name).raw
    digest = hashlib.sha256()
    for key in sorted(key for key in raw if key.startswith("tokenizer.")):
        digest.update(key.encode() + b"\0" + raw[key] + b"\0")
    return digest.hexdigest()


def gguf_tokenizer(name: str) -> Any:
    """The tokenizer in a GGUF file, as one of transformers.

    The file does not hold the tokenizer's own file, but its words, its merges, and a name for how text is split before.
    A wrong split changes few texts, so nobody would notice it. So only known names are accepted. Columns of the model
    that no word belongs to are no tokens.

    Raises:
        ValueError: the file cannot be read, or its tokenizer is not supported.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    header = read_header(name)
    cure = "; name the folder or the hub name of the original model: data.tokenizer=FOLDER"
    kind, split = header.fields.get("tokenizer.ggml.model"), header.fields.get("tokenizer.ggml.pre")
    if kind is None:
        raise ValueError(f"the file holds no tokenizer{cure}")
    if kind != "gpt2":
        raise ValueError(f"its tokenizer is of the kind '{kind}', and only byte-level BPE ('gpt2') is supported{cure}")
    if split not in SPLITS:
        raise ValueError(
            f"how its tokenizer splits text is named '{split}' (tokenizer.ggml.pre), and known are {', '.join(SPLITS)}"
            f"{cure}"
        )
    words = header.values("tokenizer.ggml.tokens")
    kinds = header.values("tokenizer.ggml.token_type") or [_NORMAL] * len(words)
    used = max((number for number, one in enumerate(kinds) if one != _UNUSED), default=-1) + 1
    merges = [tuple(merge.split(" ", 1)) for merge in header.values("tokenizer.ggml.merges")]
    # what else follows from the name of the split, as in llama.cpp: Llama 3 takes a word of the vocabulary whole,
    # and begins every text with a token; Qwen composes letters and accents
    llama = split == "llama-bpe"
    vocabulary = {word: number for number, word in enumerate(words[:used])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=llama))
    if split == "qwen2":
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = _pre_tokenizer(SPLITS[split])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(
        [AddedToken(word, normalized=False, special=True) for word, one in zip(words, kinds) if one == _CONTROL]
    )
    made.add_tokens([AddedToken(word, normalized=False) for word, one in zip(words, kinds) if one == _USER_DEFINED])
    ids = {role: header.fields.get(f"tokenizer.ggml.{key}_token_id") for role, key in _ROLES.items()}
    special = {role: words[number] for role, number in ids.items() if number is not None}
    if header.fields.get("tokenizer.ggml.add_bos_token", llama) and "bos_token" in special:
        first = special["bos_token"]
        made.post_processor = processors.TemplateProcessing(
            single=[first, "$A"], pair=[first, "$A", first, "$B"], special_tokens=[(first, ids["bos_token"])]
        )
    found = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    found.chat_template = header.fields.get("tokenizer.chat_template")
    return found


def _pre_tokenizer(split: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    if split == "gpt-2":
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if split == "digits":
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
