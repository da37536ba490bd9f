"""Small files of texts, and networks that read their tokens."""

from pathlib import Path

import torch
from torch import nn

from tests.data.text.tiny_tokenizer import WORDS, tokenizer_folder

GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "dull")


def sentences(count: int) -> list[tuple[str, str]]:
    """Texts of 4 to 13 words and their labels, ``pos`` or ``neg``."""
    made = []
    for number in range(count):
        kind = (GOOD, BAD)[number % 2]
        filler = " ".join(WORDS[(number * 7 + step) % len(WORDS)] for step in range(number % 10))
        made.append((f"the film is {kind[number % 3]} {filler}".strip(), ("pos", "neg")[number % 2]))
    return made


def text_file(path: Path, rows=None, header=("text", "label"), separator="\t") -> str:
    """Writes rows there; returns the path."""
    lines = ([separator.join(header)] if header else []) + [
        separator.join(map(str, row)) for row in rows or sentences(60)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def options(place: Path, **more) -> dict:
    """Arguments of a data set of texts below ``place``."""
    tokenizer = place / "tokenizer"
    if not tokenizer.is_dir():
        tokenizer_folder(tokenizer)
    return {
        "tokenizer": str(tokenizer),
        "folder": str(place / "data"),
        "length": 16,
        "batch_size": 8,
        "drop_last": False,
        **more,
    }


class BagOfTokens(nn.Module):
    """The mean of the embeddings of a text's tokens, and a linear layer."""

    def __init__(self, vocabulary: int = 40, classes: int = 2, width: int = 8):
        super().__init__()
        self.embedding, self.classifier = nn.Embedding(vocabulary, width), nn.Linear(width, classes)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        hidden = self.embedding(input_ids) * attention_mask[..., None]
        return self.classifier(hidden.sum(1) / attention_mask.sum(1, keepdim=True))


def trained_bag(vocabulary: int = 40, classes: int = 2) -> BagOfTokens:
    """A teacher with weights that are a function of their places."""
    made = BagOfTokens(vocabulary, classes)
    with torch.no_grad():
        for number, value in enumerate(made.parameters(), start=1):
            value.copy_((torch.arange(value.numel()) * number + 1).sin().view_as(value) * 2)
    return made


def overrides(folder: Path, *more: str, teacher: bool = True) -> list[str]:
    """The command line of a short run on texts in ``folder``."""
    found = options(folder)
    return [
        "data=text",
        f"data.train={text_file(folder / 'train.tsv')}",
        "data.classes=2",
        *(f"data.{name}={value}" for name, value in found.items()),
        "student=network",
        "student._target_=tests.data.text.texts.BagOfTokens",
        *(["teacher=network", "teacher._target_=tests.data.text.texts.trained_bag"] if teacher else ["teacher=none"]),
        "optimizer.lr=0.05",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "progress=none",
        f"paths.runs={folder / 'runs'}",
        *more,
    ]
