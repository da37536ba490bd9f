"""The runs of the studies on texts fit together: each row is put together with tiny networks, on a few snippets."""

import pytest
import torch

from kdlab.config.compose import compose
from kdlab.studies.reading import read
from kdlab.training.assemble import assembled
from tests.data.text.tiny_tokenizer import SPECIAL, WORDS, tokenizer_folder

VOCABULARY, WIDTH = len(SPECIAL) + len(WORDS) + 1, 48
SMALL = [f"data.vocabulary={VOCABULARY}", "data.length=16", "data.batch_size=8", "data.fraction=1.0"]
STUDIES = ("distilbert", "few_labels", "text_sweep", "sentence_embeddings")
ROWS = [(study, row) for study in STUDIES for table in read(study).tables for row in table.rows]


@pytest.fixture
def data(workplace):
    """The file of the snippets, and a tiny encoder of six layers in the place of MiniLM-L6."""
    from transformers import BertConfig, BertModel

    folder = workplace / "my data"
    lines = [f"{row}\t{row % 5 - 2.2}\t{WORDS[row % len(WORDS)]} {WORDS[row * 3 % len(WORDS)]}" for row in range(120)]
    folder.mkdir()
    (folder / "movie_snippets.tsv").write_text("\n".join(lines) + "\n")
    tokenizer_folder(folder / "all-MiniLM-L6-v2", types=True)
    sizes = {"num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 4 * WIDTH}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, **sizes)).save_pretrained(
        folder / "all-MiniLM-L6-v2"
    )
    return [*SMALL, f'paths.data="{folder}"']


@pytest.mark.parametrize("study, row", ROWS, ids=lambda one: getattr(one, "name", one))
def test_a_row(study, row, data):
    """With the width of each row's student scaled down as the teacher's is, and fewer labels."""
    given = [text for text in row.overrides if not text.startswith(("student.width", "student.heads"))]
    if "experiment=distilbert/tinybert" in given:  # the first stage is a run of its own
        given = ["experiment=distilbert/tinybert_intermediate"]
    plain = compose([*given, *data])
    mine = []
    if "layers" in plain["student"]:
        mine += [f"student.width={WIDTH // 2 if 'student.width=312' in row.overrides else WIDTH}", "student.heads=12"]
    few = [f"data.labelled={plain['data']['labelled'] // 10}"] if plain["data"]["labelled"] else []
    if plain["data"]["classes"] == 384:
        mine += [f"data.classes={WIDTH}"]
    if "experiment" in (plain["teacher"] or {}):
        theirs = ", ".join(f'"{text}"' for text in (*SMALL, *few))
        mine += [f"teacher.overrides=[{theirs}]"]
    if plain["teacher"]:
        mine += ["teacher.cache=live"]
    config = compose([*given, *data, *few, *mine])
    parts = assembled(config)
    network = parts.strategy.student.network
    assert network.config.num_hidden_layers == plain["student"].get("layers", 6)
    assert network.config.vocab_size == VOCABULARY and network.config.hidden_size in (WIDTH, WIDTH // 2)
    assert (config["student"]["initial"] is None) == ("initial=none" in given or "layers" not in plain["student"])
    loss = parts.strategy.distill(parts.data.train_dataloader().first(4)).loss
    assert torch.isfinite(torch.as_tensor(loss.total))
