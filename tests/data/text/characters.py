"""A tokenizer of single characters, with tokens that begin, end and fill up a text, and with a template for chats."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<user>", "<bot>")
LETTERS = "0123456789+=abcdef "
VOCABULARY = len(SPECIAL) + len(LETTERS)
PAD, BEGIN, END, USER, BOT = range(5)
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<user>{{ m['content'] }}{% else %}<bot>{{ m['content'] }}</s>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


def character_tokenizer(folder, begin=False, end="</s>", template=TEMPLATE) -> str:
    """Saves the tokenizer in ``folder`` and returns its path.

    Args:
        begin: whether it puts a token before each text.
    """
    numbers = {token: number for number, token in enumerate((*SPECIAL, *LETTERS))}
    made = Tokenizer(models.WordLevel(numbers, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if begin:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    saved = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token=end,
        additional_special_tokens=["<user>", "<bot>"],
    )
    saved.chat_template = template
    saved.save_pretrained(str(folder))
    return str(folder)


def exchange(folder, one: str = "1", other: str = "2") -> None:
    """The numbers of two characters of a saved tokenizer, exchanged: as many tokens, which mean something else."""
    file = Path(folder) / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    words[one], words[other] = words[other], words[one]
    file.write_text(json.dumps(content))


def numbers(text: str) -> list[int]:
    """The tokens of a text."""
    return [len(SPECIAL) + LETTERS.index(letter) for letter in text]
