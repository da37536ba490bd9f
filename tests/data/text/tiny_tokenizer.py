"""A tokenizer of a few words, made by the tests and saved in a folder."""

from pathlib import Path

WORDS = (
    "a the film movie is was not very good great fine bad awful dull plot actor scene and but it never always fun "
    "boring . , !"
).split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizer_folder(folder: Path, words=WORDS, pad: bool = True, types: bool = False, length: int = 512) -> str:
    """Saves a tokenizer of whole words there; a word that ends in ``s`` is two tokens. Returns the folder's name."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words, "s"))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Whitespace(),
            pre_tokenizers.Split(Regex("(?<=[a-z]{2})s$"), "isolated"),
        ]
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=names,
        model_max_length=length,
        **({"pad_token": "[PAD]"} if pad else {}),
    )
    wrapped.save_pretrained(folder)
    return str(folder)
