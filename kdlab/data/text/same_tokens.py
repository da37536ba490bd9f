"""Whether two tokenizers are the same. That they have as many tokens does not say so: the tokens of texts decide, and
what each number stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .tokenizers import Tokenizer

#: texts that tokenizers cut differently
PROBES = (
    "Hello, world! The quick brown foxes",
    "it's fine, I'LL say HELLO; won't we?",
    "12345 678 9,012.5e-3 0x1F",
    "  two  spaces   and three",
    "\t\ttabs\n\n\nlines\r\n  end ",
    "naïve café Ångström — “quoted” …",
    "你好，世界 こんにちは",
    "Привет, мир مرحبا",
    "😀 ½ ∑√ €5",
    "def f(x):\n    return [x**2]  # {'a': 1}",
    "<p>&amp;</p> https://a.org/b_c?d=e%20f",
)
#: letters and accents apart, which some tokenizers compose
COMPOSED = "cafe\u0301"
#: tokens that are no texts
SPECIAL = ("<|endoftext|>", "<s>a</s>", "<|im_start|>user\n", "[INST] [MASK]")
_SHOWN = 6  # tokens in a message


def difference(
    ours: Tokenizer,
    encode: Callable[[str], list[int] | None],
    words: Mapping[str, int] | None = None,
    special: bool = True,
) -> str | None:
    """The first difference of another tokenizer, for a message; None where there is none.

    Args:
        ours: the tokenizer of the data.
        encode: from a text to its tokens in the other tokenizer, without those that begin or end a text; None where it
            does not say.
        words: token -> number of the other tokenizer. None: that is not known, as of a server, and only plain texts are
            compared. A number that only one of the two has is no difference: a model may have further tokens.
        special: compare tokens that are no texts, too. A model that learns may give a new meaning to one of them.

    >>> from .sums import CharacterTokenizer
    >>> one, other = CharacterTokenizer("aΩ"), CharacterTokenizer("aλ").unpadded
    >>> difference(one, lambda text: other(text)["input_ids"], other.get_vocab())
    "its token 3 is 'λ', and in characters aΩ it is 'Ω'"
    """
    mine, texts = ours.unpadded, list(PROBES)
    if words is not None:
        texts += [COMPOSED, *((*SPECIAL, *_own_special(mine)) if special else ())]
    for text in texts:
        theirs, found = encode(text), mine(text, add_special_tokens=False)["input_ids"]
        if theirs is not None and theirs != found:
            last = max(min(len(theirs), len(found)) - 1, 0)
            place = next((place for place, (one, two) in enumerate(zip(theirs, found)) if one != two), last)
            return f"it makes {_shown(theirs, place)} of {text!r}, and {ours.name} makes {_shown(found, place)}"
    if words is None:
        return None
    one, other = ({number: word for word, number in vocabulary.items()} for vocabulary in (words, mine.get_vocab()))
    both = one.keys() & other.keys() - (set() if special else {*mine.get_added_vocab().values()})
    wrong = min((number for number in both if one[number] != other[number]), default=None)
    if wrong is None:
        return None
    return f"its token {wrong} is {one[wrong]!r}, and in {ours.name} it is {other[wrong]!r}"


def _own_special(tokenizer: Any) -> list[str]:
    """The special tokens that data may have: not the one that only fills up, which is never read."""
    ends = tokenizer.bos_token, tokenizer.eos_token
    return [one for one in tokenizer.all_special_tokens if one != tokenizer.pad_token or one in ends]


def _shown(tokens: list[int], place: int) -> str:
    """Tokens from a place on.

    >>> _shown([1, 2, 3], 0), _shown(list(range(9)), 1)
    ('[1, 2, 3]', '[…, 1, 2, 3, 4, 5, 6, …]')
    """
    if len(tokens) <= _SHOWN:
        return str(tokens)
    part = list(map(str, tokens[place : place + _SHOWN]))
    before, after = ["…"] * (place > 0), ["…"] * (place + _SHOWN < len(tokens))
    return f"[{', '.join([*before, *part, *after])}]"
