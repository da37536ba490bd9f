"""Runs of causal language models whose teacher's answers are kept at the tokens that are predicted."""

import json
import re

import pytest
import torch

from kdlab import train
from kdlab.cache import CachedRows
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.errors import InputError
from kdlab.runs.identity import run_hash
from kdlab.tasks import CausalLM
from kdlab.training.caching import sharing
from tests.data.text.characters import VOCABULARY, character_tokenizer
from tests.strategies.test_on_policy import SMALL


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Letters in the order of the alphabet, and a trained teacher of the letter after each."""
    folder = tmp_path_factory.mktemp("letters")
    lines = [json.dumps({"text": ("abcdef" * 3)[start : start + 5 + start % 4]}) for start in range(6)] * 10
    (folder / "letters.jsonl").write_text("\n".join(lines) + "\n")
    common = [
        "task=causal_lm",
        "data=causal_text",
        f"data.train={folder / 'letters.jsonl'}",
        f"data.tokenizer={character_tokenizer(folder / 'tokenizer')}",
        f"data.vocabulary={VOCABULARY}",
        "data.length=16",
        "data.batch_size=8",
        "student=llama",
        "student.layers=1",
        "student.width=16",
        "student.heads=2",
        "optimizer=sgd",
        "optimizer.lr=0.1",
        "progress=none",
        f"paths.runs={folder / 'runs'}",
        f"paths.data={folder / 'data'}",
    ]
    teacher = train([*common, "strategy=supervised", "trainer.max_epochs=6", "name=teacher"])
    return folder, [
        *common,
        "trainer.max_epochs=2",
        "teacher=run",
        f"teacher.run={teacher.path}",
        "loss=[ce,forward_kl]",
    ]


def state(run):
    return torch.load(run.checkpoint("last"), weights_only=True)["state_dict"]


def apart(one, other):
    mine, theirs = state(one), state(other)
    return max((mine[name] - theirs[name]).abs().max().item() for name in mine)


@pytest.mark.parametrize("packed", [False, True])
def test_all_words_kept_is_the_live_run(shared, packed):
    """With k as large as the vocabulary; each epoch has another order of the texts."""
    _, common = shared
    given = [*common, f"data.packed={packed}", *(["data.batch_size=2"] if packed else [])]
    live = train([*given, "teacher.cache=live", "name=live"])
    kept = train(
        [*given, "teacher.cache=fixed", "teacher.cache_codec=top_k", f"+teacher.cache_k={VOCABULARY}", "name=kept"]
    )
    assert live.hash != kept.hash and apart(live, kept) < 1e-6
    assert kept.metrics["test/nll"] == pytest.approx(live.metrics["test/nll"], abs=1e-6)
    assert kept.metrics["test/kl_to_teacher"] == pytest.approx(live.metrics["test/kl_to_teacher"], abs=1e-6)
    assert kept.record["cache"]["codec"] == {"name": "top_k", "k": VOCABULARY, "temperature": 1}


def test_hidden_states_are_exact_and_count_for_nothing(shared, monkeypatch):
    """Packed rows of one length: the same bits, the same hash, and the network is not loaded again."""
    _, common = shared
    packed = [*common, "data.packed=true", "data.batch_size=2", "loss=[ce,forward_kl,alpha_beta]"]
    live = train([*packed, "teacher.cache=live", "name=exact_live"])
    kept = train([*packed, "teacher.cache=fixed", "teacher.cache_codec=hidden", "name=exact_kept"])
    assert live.hash == kept.hash and apart(live, kept) < 1e-6
    loads = []
    usual = CachedRows.live.fget
    monkeypatch.setattr(CachedRows, "live", property(lambda self: loads.append(1) or usual(self)))
    again = train([*packed, "teacher.cache=fixed", "teacher.cache_codec=hidden", "name=exact_again"])
    assert not loads and apart(again, kept) == 0


@pytest.mark.parametrize("codec", ["top_k", "sampled"])
def test_a_run_is_the_same_wherever_its_answers_come_from(shared, monkeypatch, codec):
    _, common = shared
    size = "+teacher.cache_k=3" if codec == "top_k" else "+teacher.cache_samples=6"
    given = [*common, "teacher.cache=fixed", f"teacher.cache_codec={codec}", size]
    kept = train([*given, f"name=kept_{codec}"])
    monkeypatch.setattr(CachedRows, "_stored", lambda self, batch: None)
    lost = train([*given, f"name=lost_{codec}"])
    assert kept.hash == lost.hash and apart(kept, lost) < 1e-4
    assert kept.metrics["test/nll"] < 3.1, "it learns: of 24 words by chance it would be 3.2"


def test_the_list_says_bytes_and_error(shared, kdlab, monkeypatch):
    folder, common = shared
    given = [*common, "teacher.cache=fixed", "teacher.cache_codec=top_k", "+teacher.cache_k=2"]
    code, _, err = kdlab("cache", "build", *given)
    assert code == 0, err
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = kdlab("cache", "list", str(folder / "runs"))
    assert code == 0 and "bytes a token" in out
    assert re.search(r"fixed, top_k k=2 temperature=1 +1 +0\.\d\d MB +\d+ +KL\(live \|\| kept\) [\d.e-]+ ", out), out
    code, out, _ = kdlab("cache", "verify", "--live", *given)
    assert code == 0 and "all as they were written" in out, out


def test_the_codec_counts_where_it_changes_the_student(shared):
    _, common = shared
    given = [*common, "teacher.cache=fixed"]
    dense = run_hash(compose(given))
    assert dense == run_hash(compose([*given, "teacher.cache_codec=hidden"])) == run_hash(compose(common))
    others = [
        ["teacher.cache_codec=top_k"],
        ["teacher.cache_codec=top_k", "+teacher.cache_k=8"],
        ["teacher.cache_codec=top_k", "+teacher.cache_temperature=2"],
        ["teacher.cache_codec=sampled"],
        ["teacher.cache_codec=sampled", "+teacher.cache_exponent=0.5"],
        ["teacher.cache_codec=hidden", "teacher.cache_dtype=float16"],
        ["teacher.cache_dtype=float16"],
    ]
    hashes = {run_hash(compose([*given, *one])) for one in others}
    assert len(hashes) == len(others) and dense not in hashes
    stated = ["teacher.cache_codec=top_k", "+teacher.cache_k=64", "+teacher.cache_temperature=1.0"]
    assert run_hash(compose([*given, *stated])) == run_hash(compose([*given, *others[0]]))


def test_a_sweep_keeps_only_what_is_exact(shared):
    _, common = shared
    assert (
        "teacher.cache_codec=hidden keeps what they are computed from"
        in sharing(compose([*common, "data.packed=true"])).why
    )
    kept = sharing(compose([*common, "data.packed=true", "teacher.cache_codec=hidden"]))
    assert kept.mode == "fixed" and len(kept.keys) == 1
    assert "as long as its longest text" in sharing(compose([*common, "teacher.cache_codec=hidden"])).why


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["loss.forward_kl.temperature=2"], r"loss.forward_kl.temperature=2: .* \+teacher.cache_temperature=2"),
        (["loss=[ce,alpha_beta]"], "loss.alpha_beta: AlphaBeta reads all of the teacher's logits"),
        (["teacher.cache_codec=sampled", "loss=[ce,reverse_kl]"], "samples of the teacher's classes; take forward_kl"),
        (
            ["loss=[ce,hidden_mse]", "loss.hidden_mse.student_tap=hidden1", "loss.hidden_mse.teacher_tap=hidden1"],
            "and no features",
        ),
    ],
)
def test_what_a_part_cannot_teach_is_refused_before_training(shared, more, message):
    folder, common = shared
    given = [*common, "teacher.cache=fixed", "teacher.cache_codec=top_k", *more, "name=refused"]
    with pytest.raises(InputError, match=message):
        train(given)
    assert not (folder / "runs" / "refused").exists()


def test_a_temperature_at_which_answers_were_kept(shared):
    _, common = shared
    hot = [*common, "loss.forward_kl.temperature=2"]
    live = train([*hot, "teacher.cache=live", "name=hot_live"])
    kept = train(
        [*hot, "teacher.cache=fixed", "teacher.cache_codec=top_k", "+teacher.cache_temperature=2", "name=hot_kept"]
    )
    assert apart(live, kept) < 1e-5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["teacher.cache_codec=topk"], "teacher.cache_codec must be one of dense, hidden, top_k, sampled, got 'topk'"),
        (
            ["teacher.cache_codec=top_k", "teacher.cache=auto"],
            "teacher.cache_codec=top_k changes answers that are kept",
        ),
        (["teacher.cache_codec=top_k", "+teacher.cache_samples=3"], "is an option of teacher.cache_codec=sampled, and"),
        (["teacher.cache_codec=top_k", "+teacher.cache_k=0"], "teacher.cache_k must be a number greater than 0, got 0"),
        (["teacher.cache_codec=top_k", "+teacher.cache_k=2.5"], "teacher.cache_k must be a whole number less than 327"),
    ],
)
def test_options_are_checked(more, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check(compose(["teacher.cache=fixed", *more]))


def test_an_option_without_its_plus_sign():
    with pytest.raises(InputError, match=r"it is given with a plus sign: \+teacher.cache_k=8"):
        compose(["teacher.cache_k=8"])
    with pytest.raises(InputError, match="teacher.cache_codec: this run has no teacher"):
        compose(["teacher=none", "teacher.cache_codec=top_k"])


def test_other_tasks_have_no_rows_to_keep():
    with pytest.raises(
        InputError, match="teacher.cache_codec=hidden is for the words of a vocabulary .task=causal_lm."
    ):
        train(["teacher.cache=fixed", "teacher.cache_codec=hidden", "trainer.max_epochs=1", "progress=none"])


def test_answers_are_generated_by_the_student_alone_where_the_teacher_is_kept(workplace, monkeypatch, capsys):
    """A kept teacher's answers are not measured, and no metric of them is nan. Nor does filling the cache generate."""
    teacher = train([*SMALL, "strategy=supervised", "student.width=32", "name=teacher", "trainer.max_epochs=80"])
    asked, usual = [], CausalLM.generated

    def generated(self, network, *given):
        asked.append(network)
        return usual(self, network, *given)

    monkeypatch.setattr(CausalLM, "generated", generated)
    run = train(
        [
            *(*SMALL, "strategy=offline", "loss=[ce,forward_kl]", "teacher=run", f"teacher.run={teacher.path}"),
            *("teacher.cache=fixed", "teacher.cache_codec=hidden", "+data.pad_to=length"),
        ]
    )
    described = run.record["teacher"]
    assert "validation_exact_match" not in described and described["validation_nll"] > 0
    assert "exact_match" not in described["test"] and 0 <= run.metrics["test/exact_match"] <= 1
    assert asked and {network.network.config.hidden_size for network in asked} == {16}, "the student's alone"
    assert "nan" not in capsys.readouterr().out
