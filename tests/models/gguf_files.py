"""Small GGUF files of random models, written with the package gguf."""

import json
from pathlib import Path

import numpy as np

TEXTS = ["the cat sat on the mat", "a dog and a cat", "12 + 345 = 357", "it's  two   spaces\n\nand lines", "naïve café"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>"]
BEGIN, UNMERGED = "<|begin|>", "Ġzzq"


def byte_tokenizer(split="gpt-2", words=320, pad=False):
    """A byte-level BPE of a few texts, with the split of a known name and all else as in the folders of such models.

    That of ``llama-bpe`` takes whole words of the vocabulary, of which one (`` zzq``) is made by no merge, and begins
    each text with ``<|begin|>``; that of ``qwen2`` composes letters and accents (NFC).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from kdlab.models.gguf import SPLITS, _pre_tokenizer

    llama = split == "llama-bpe"
    special = [*SPECIAL, BEGIN] if llama else SPECIAL
    made = Tokenizer(models.BPE())
    if split == "qwen2":
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = _pre_tokenizer(SPLITS[split])
    made.decoder = decoders.ByteLevel()
    from tokenizers.pre_tokenizers import ByteLevel

    made.train_from_iterator(
        TEXTS * 4,
        trainers.BpeTrainer(
            vocab_size=words - llama, special_tokens=special, initial_alphabet=ByteLevel.alphabet(), show_progress=False
        ),
    )
    if llama:
        content = json.loads(made.to_str())
        content["model"]["vocab"][UNMERGED] = len(content["model"]["vocab"])
        content["model"]["ignore_merges"] = True
        made = Tokenizer.from_str(json.dumps(content))
        made.post_processor = processors.TemplateProcessing(
            single=[BEGIN, "$A"], pair=[BEGIN, "$A", BEGIN, "$B"], special_tokens=[(BEGIN, made.token_to_id(BEGIN))]
        )
    found = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=BEGIN if llama else None,
        eos_token="<|end|>",
        pad_token="<|end|>" if pad else None,
        additional_special_tokens=SPECIAL[1:],
    )
    found.chat_template = TEMPLATE
    return found


def _permuted(weight, heads):
    """Rotary halves interleaved, as llama.cpp has them for Llama."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def write_gguf(path, network, tokenizer=None, split="gpt-2", kind="F32", architecture=None, fields=()):
    """Write a model of transformers (llama, qwen2, qwen3 or gpt2) as a GGUF file; returns its path.

    Args:
        fields: further (key, text) pairs.
    """
    import gguf
    from gguf.quants import quantize

    config = network.config
    name = architecture or config.model_type
    arch = {gguf.MODEL_ARCH_NAMES[one]: one for one in gguf.MODEL_ARCH}[config.model_type]
    writer = gguf.GGUFWriter(str(path), name)
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_rope_dimension_count(width)
        writer.add_key_length(width)
        writer.add_value_length(width)
    for key, value in fields:
        writer.add_string(key, value)
    if tokenizer is not None:
        _add_tokenizer(writer, tokenizer, split, config.vocab_size)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    stored = gguf.GGMLQuantizationType[kind]
    for key, value in network.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings or key.endswith((".attn.bias", "masked_bias")):
            continue
        array = value.detach().float().numpy()
        if config.model_type == "llama" and key.endswith("q_proj.weight"):
            array = _permuted(array, config.num_attention_heads)
        if config.model_type == "llama" and key.endswith("k_proj.weight"):
            array = _permuted(array, config.num_key_value_heads)
        if config.model_type == "gpt2" and key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            array = array.T
        form = gguf.GGMLQuantizationType.F32 if array.ndim == 1 else stored
        array = quantize(np.ascontiguousarray(array), form)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), array, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(Path(path))


def _add_tokenizer(writer, tokenizer, split, columns):
    import gguf

    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_ids)
    kinds = [gguf.TokenType.CONTROL if number in special else gguf.TokenType.NORMAL for number in range(len(tokens))]
    unused = range(len(tokens), columns)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list([tokens[number] for number in range(len(tokens))] + [f"[PAD{number}]" for number in unused])
    writer.add_token_types(kinds + [gguf.TokenType.UNUSED] * len(unused))
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    if tokenizer.bos_token_id is None:
        writer.add_add_bos_token(False)
    else:  # as in most files of Llama 3, nothing says that it begins each text
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
