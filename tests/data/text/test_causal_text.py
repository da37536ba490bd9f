"""Texts whose next token is predicted: which tokens are labels, what is packed, and what is refused."""

import json

import pytest
import torch

from kdlab.data import CausalTextFiles
from kdlab.errors import InputError
from kdlab.tasks import CausalLM
from tests.data.text.characters import BOT, END, PAD, USER, VOCABULARY, character_tokenizer, numbers

SUMS = [{"q": f"{one}+{two}=", "a": str(one + two)} for one in range(6) for two in range(5)]


@pytest.fixture
def made(tmp_path):
    """Makes a data set of rows, with the tokenizer of characters."""

    def make(rows, tokenizer=None, file="train.jsonl", **options):
        path = tmp_path / file
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {"length": 16, "batch_size": 4, "folder": str(tmp_path / "data"), **options}
        return CausalTextFiles(str(path), tokenizer=tokenizer or character_tokenizer(tmp_path / "tok"), **options)

    return make


def of_sample(data, number):
    """The tokens and labels of a stored training sample, without padding."""
    stored = data._both()[0]
    rows = torch.tensor([number])
    length = int(stored.tokens.ids.lengths[number])
    return stored.tokens.ids.padded(rows, length, PAD)[0].tolist(), stored.target[number, :length].tolist()


def test_an_answer_and_its_end_are_labels_and_the_prompt_is_none(made):
    data = made(SUMS, prompt="q", answer="a", test_fraction=0.1)
    for number in range(len(data._both()[0].target)):
        ids, labels = of_sample(data, number)
        end = ids.index(numbers("=")[0]) + 1
        assert ids[-1] == END and labels == [-100] * end + ids[end:]
    assert data.classes == data.vocabulary == VOCABULARY


def test_a_text_of_its_own_is_predicted_but_for_what_begins_it(made, tmp_path):
    rows = [{"text": text} for text in ("ab", "abc", "bb", "cd", "da")] * 4
    plain = made(rows)
    ids, labels = of_sample(plain, 0)
    assert ids[-1] == END and labels == ids  # the first one is left out by the task
    begun = made(rows, tokenizer=character_tokenizer(tmp_path / "begin", begin=True))
    ids, labels = of_sample(begun, 0)
    assert ids[0] == 1 and labels == [-100, *ids[1:]]
    without = made(rows, end=False)
    assert END not in of_sample(without, 0)[0]


def test_rows_pair_each_answer_with_the_token_after_it(made):
    data = made(SUMS, prompt="q", answer="a")
    data.seed = 1
    batch = next(iter(data.train_dataloader()))
    task = CausalLM(VOCABULARY)
    rows = task.align_batch(batch)
    ids = batch.inputs["input_ids"]
    place = (task.answered(batch.labels) != -100).nonzero()
    assert rows.labels.tolist() == [int(ids[sample, token + 1]) for sample, token in place]
    assert (rows.labels == END).sum() == len(ids), "the end of each answer is a row"
    assert PAD not in rows.labels
    counts = task.row_counts(data._both()[0].target)
    assert counts[batch.index].sum() == len(rows.labels)


def test_an_answer_of_one_token(made):
    data = made([{"q": "1+1=", "a": "2"}] * 12, prompt="q", answer="a", end=False)
    batch = next(iter(data.train_dataloader()))
    rows = CausalLM(VOCABULARY).align_batch(batch)
    assert rows.labels.tolist() == numbers("2") * 4


@pytest.mark.parametrize(
    "written, ends",
    [
        ("<bot>{{ m['content'] }}</s> ", (END,)),  # the space after it belongs to no answer
        ("<bot>{{ m['content'] }}<user>", (USER, END)),  # it is not the tokenizer's own ending token
        ("<bot>{{ m['content'] }} ", ()),
    ],
)
def test_what_ends_an_answer_of_a_chat(written, ends, made, tmp_path):
    template = "{% for m in messages %}{% if m['role'] == 'user' %}a{% else %}" + written + "{% endif %}{% endfor %}"
    tokenizer = character_tokenizer(tmp_path / "own", template=template)
    rows = [{"chat": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "b"}]}] * 9
    assert made(rows, messages="chat", tokenizer=tokenizer).facts.end_tokens == ends


def test_what_ends_an_answer(made):
    assert made(SUMS, prompt="q", answer="a").facts.end_tokens == (END,)
    assert made(SUMS, prompt="q", answer="a", end=False).facts.end_tokens == ()


def test_a_chat_predicts_what_the_assistant_says(made):
    chat = [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "bc"},
    ]
    data = made([{"chat": chat}] * 12, messages="chat", length=32)
    ids, labels = of_sample(data, 0)
    assert ids == [USER, *numbers("1+1"), BOT, *numbers("2"), END, USER, *numbers("a"), BOT, *numbers("bc"), END]
    said = [*numbers("2"), END, *numbers("bc"), END]
    assert [label for label in labels if label != -100] == said
    assert labels[5:7] == [*numbers("2"), END] and labels[:5] == [-100] * 5
    as_text = made([{"chat": json.dumps(chat)}] * 12, messages="chat", length=32)
    assert of_sample(as_text, 0) == (ids, labels)


def test_packed_rows_hold_texts_that_do_not_see_each_other(made):
    texts = ["abc", "d", "efab", "c", "dd", "ee", "f", "abcd"] * 5
    data = made([{"text": text} for text in texts], packed=True, length=8, validation=0.2)
    train, test = data._both()
    every = torch.arange(len(train.target))
    ids, places = train.tokens.ids.padded(every, 8, PAD), train.places.padded(every, 8, 0)
    lengths = train.tokens.ids.lengths
    assert (lengths[: len(data.part("train")) - 1] == 8).all(), "all rows but the last of a part are full"
    stream = [one for row, length in zip(ids.tolist(), lengths.tolist()) for one in row[:length]]
    held_out = sum(stream.count(END) for _ in (1,))
    assert held_out + test.tokens.ids.values.tolist().count(END) == len(texts), "no text is lost"
    after_end = (ids[:, :-1] == END) & (torch.arange(7) < lengths[:, None] - 1)
    assert (places[:, 1:][after_end] == 0).all() and (places[:, 0] == 0).all()
    starts = (places == 0) & (torch.arange(8) < lengths[:, None])
    assert (train.target[starts] == -100).all()
    assert torch.equal(
        train.target[~starts & (torch.arange(8) < lengths[:, None])],
        ids[~starts & (torch.arange(8) < lengths[:, None])],
    )
    data.seed = 1
    batch = next(iter(data.val_dataloader()))
    assert set(batch.inputs) == {"input_ids", "position_ids"}
    assert not set(data.part("train").tolist()) & set(data.part("validation").tolist())
    assert any(note.startswith("data.packed: train: ") for note in data.notes())


def test_validation_and_train_share_no_packed_text(made):
    texts = [letter * 3 for letter in "abcdef0123456789"]
    data = made([{"text": text} for text in texts], packed=True, length=8, validation=0.25)
    train, _ = data._both()
    letters = [set(train.tokens.ids.take(data.part(part)).values.tolist()) - {END} for part in ("train", "validation")]
    assert letters[0] and letters[1] and not letters[0] & letters[1]


@pytest.mark.parametrize(
    ("both", "changed"),
    [
        ({}, {"prompt": "q", "answer": "a"}),
        ({}, {"messages": "chat"}),
        ({}, {"packed": True}),
        ({}, {"end": False}),
        ({"prompt": "q", "answer": "a"}, {"prompt": "text"}),
    ],
    ids=str,
)
def test_every_argument_of_these_data_changes_the_batches(made, both, changed):
    rows = [
        {
            "text": row["q"] + row["a"],
            **row,
            "chat": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"]}],
        }
        for row in SUMS
    ]
    first, again, other = (made(rows, **{**both, **more}) for more in ({}, {}, changed))
    for one in (first, again, other):
        one.seed = 1
    seen = [
        [(one.inputs["input_ids"], one.labels) for one in data.train_dataloader()] for data in (first, again, other)
    ]
    same = [all(torch.equal(a, b) for a, b in zip(one, two)) for one, two in zip(seen[0], seen[1])]
    assert all(same)
    assert any(
        one[0].shape != two[0].shape or not all(torch.equal(a, b) for a, b in zip(one, two))
        for one, two in zip(seen[0], seen[2])
    )


def test_longer_texts_are_cut_and_counted(made):
    data = made([{"q": "1+1=", "a": "2"}] * 11 + [{"q": "1+", "a": "abcdefabcdefabcdef"}], prompt="q", answer="a")
    assert "1 of 12 text is longer than 16 tokens and was cut" in " ".join(data.notes()).replace("texts are", "text is")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": "q"}, "prompt and answer belong together"),
        ({"prompt": "q", "answer": "a", "messages": "m"}, "either prompt and answer, or messages"),
        ({"label": "x"}, "label: texts whose next token is predicted have no labels"),
        ({"packed": True, "buckets": True}, "packed rows have one length"),
        ({"packed": True, "teacher_tokenizer": "x"}, "packed rows need one tokenizer"),
    ],
)
def test_arguments_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        CausalTextFiles("x.jsonl", tokenizer="t", **options)


def test_what_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="line 1: no token is left to predict within data.length=7") as refused:
        made([{"q": "1+1=2+3+", "a": "2"}] + SUMS, prompt="q", answer="a", length=7)._both()
    assert "data.faulty=drop leaves out such rows" in str(refused.value)
    kept = made([{"q": "1+1=2+3+", "a": "2"}] + SUMS, prompt="q", answer="a", length=7, faulty="drop")
    assert any("1 texts are left out" in note for note in kept.notes())
    with pytest.raises(InputError, match="has no token that ends a text"):
        made(SUMS, prompt="q", answer="a", tokenizer=character_tokenizer(tmp_path / "no", end=None))._both()
    with pytest.raises(InputError, match="lines 1, 2, .* a chat is a list of messages with role and content"):
        made([{"chat": [{"role": "user", "content": "a"}]}] * 9, messages="chat")._both()
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(InputError, match="has no template for chats"):
        none = character_tokenizer(tmp_path / "none", template=None)
        made([{"chat": chat}] * 9, messages="chat", tokenizer=none)._both()
    with pytest.raises(InputError, match="changes what it wrote before"):
        changing = "{% for m in messages %}{{ messages|length }}{{ m['content'] }}{% endfor %}"
        other = character_tokenizer(tmp_path / "changing", template=changing)
        made([{"chat": chat}] * 9, messages="chat", tokenizer=other)._both()


def test_tokens_are_kept_and_another_form_is_made_again(made, tmp_path):
    first = made(SUMS, prompt="q", answer="a")
    first.setup()
    files = set((tmp_path / "data" / ".tokens").iterdir())
    again = made(SUMS, prompt="q", answer="a")
    again.setup()
    assert set((tmp_path / "data" / ".tokens").iterdir()) == files
    assert torch.equal(again._both()[0].target, first._both()[0].target)
    made(SUMS, prompt="q", answer="a", end=False).setup()
    assert set((tmp_path / "data" / ".tokens").iterdir()) > files
