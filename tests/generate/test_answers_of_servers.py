"""kdlab generate with a server: the answers of the local model; a server that is gone in the middle."""

import json

import pytest
import torch

from kdlab.cli.generate import composed
from kdlab.cli.main import main
from kdlab.generate import generate
from kdlab.models import CausalModel
from kdlab.teachers import client
from tests.data.text.characters import VOCABULARY, character_tokenizer
from tests.teachers.small_server import SmallServer

PROMPTS = [f"{one}+{two}=" for one in (1, 22) for two in (4, 555, 66)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    network = CausalModel(architecture="llama", vocabulary=VOCABULARY, layers=1, width=32, heads=2, positions=48)
    with torch.no_grad():
        network.network.lm_head.weight.mul_(20)
    network.network.save_pretrained(str(folder))
    character_tokenizer(folder)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in PROMPTS))
    return tmp_path


@pytest.fixture
def tiny(model):
    from transformers import AutoTokenizer

    return CausalModel(pretrained=str(model)).eval(), AutoTokenizer.from_pretrained(str(model))


COMMON = ["data.prompts=prompts.jsonl", "sampling.max_tokens=8", "filter.truncated=false", "filter.empty=false"]


def words(small, *more):
    named = ["teacher=served", f"teacher.address={small.address}", "teacher.model=tiny", "teacher.retries=2"]
    return [*named, *COMMON, "out=answers.jsonl", "progress=none", *more]


@pytest.mark.parametrize("chat", ["false", "true"])
def test_the_answers_are_those_of_the_local_model(model, tiny, place, chat):
    with SmallServer(*tiny) as small:
        summary = generate(composed(words(small, f"data.chat={chat}", "teacher.in_flight=3")))
        assert small.most_at_once <= 3 and len(small.asked) == 6
    assert summary.new == 6 and summary.tokens > 0
    local = ["out=local.jsonl", f"data.chat={chat}", f"teacher.pretrained={model}", "progress=none"]
    generate(composed([*COMMON, *local]))
    assert (place / "answers.jsonl").read_bytes() == (place / "local.jsonl").read_bytes()
    manifest = json.loads((place / "answers.manifest.json").read_text())
    assert manifest["teacher"]["address"] == small.address and manifest["status"] == "finished"


def test_draws_have_a_seed_each(tiny, place):
    drawn = ["sampling.temperature=1.0", "sampling.samples=2", "filter.duplicates=false"]
    with SmallServer(*tiny) as small:
        generate(composed(words(small, *drawn)))
        seeds = [content["seed"] for _, content in small.asked]
        assert len(set(seeds)) == 12
        generate(composed([*words(small, *drawn, "teacher.in_flight=1"), "out=again.jsonl"]))
    assert (place / "answers.jsonl").read_bytes() == (place / "again.jsonl").read_bytes()


def test_a_server_that_is_gone_in_the_middle_keeps_what_is_finished(tiny, place, capsys):
    count = []

    def down(path, content):
        count.append(path)
        return (503, b"down") if len(count) > 4 else None

    with SmallServer(*tiny, disturb=down) as small:
        assert main(["generate", *words(small, "teacher.in_flight=1")]) == 1
    said = capsys.readouterr().err
    assert said.count("kdlab: ") == 1 and "did not answer in 3 tries (503 down). Finished answers are kept" in said
    assert len((place / "answers.all.jsonl").read_text().splitlines()) == 4
    count.clear()
    with SmallServer(*tiny, disturb=down) as small:
        assert main(["generate", *words(small, "teacher.in_flight=1", "fresh=true")]) == 1
    assert "is there again, the same command without fresh=true resumes" in capsys.readouterr().err
    with SmallServer(*tiny) as small:  # at another address: it is the same model
        assert main(["generate", *words(small)]) == 0
        assert len(small.asked) == 2
    assert "6 of 6 answers to 6 prompts; 2 generated now" in capsys.readouterr().out


def test_a_server_that_was_never_started(place, tiny, capsys):
    with SmallServer(*tiny) as small:
        pass
    assert main(["generate", *words(small)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"kdlab: teacher.address={small.address}: no server answers there")
    assert not list(place.glob("answers*"))


NEUTRAL = {
    "top_k": -1,
    "min_p": 0,
    "repetition_penalty": 1,
    "repeat_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


def test_no_default_of_the_server_applies(tiny, place):
    with SmallServer(*tiny) as small:
        generate(composed(words(small)))
        drawn = ["sampling.temperature=1.0", "sampling.top_k=5", "out=drawn.jsonl"]
        generate(composed([*words(small), *drawn]))
        first, last = small.asked[0][1], small.asked[-1][1]
    assert NEUTRAL.items() <= first.items() and first["top_p"] == 1
    assert {**NEUTRAL, "top_k": 5}.items() <= last.items()
    assert "settings that the server does not accept" not in json.loads((place / "answers.manifest.json").read_text())


def test_a_setting_that_the_server_does_not_know_is_left_out_and_noted(tiny, place, capsys):
    def strict(path, content):
        if "min_p" in content:
            return 400, {"error": {"message": "Unrecognized request argument supplied: min_p"}}
        if "repeat_penalty" in content:
            return 422, {"detail": [{"loc": ["body", "repeat_penalty"], "msg": "Extra inputs are not permitted"}]}
        return None

    unknown = "settings that the server does not accept"
    with SmallServer(*tiny, disturb=strict) as small:
        assert main(["generate", *words(small, "teacher.in_flight=2")]) == 0
        assert len(small.asked) <= 6 + 2 * 2, "it is learned once, by the requests in flight"
        said = capsys.readouterr()
        assert "the server does not accept min_p, repeat_penalty: its own values apply" in said.err
        manifest = json.loads((place / "answers.manifest.json").read_text())
        assert manifest[unknown] == ["min_p", "repeat_penalty"] and manifest["status"] == "finished"
        small.asked.clear()
        assert main(["generate", *words(small, "filter.characters=1000")]) == 0 and not small.asked
    assert json.loads((place / "answers.manifest.json").read_text())[unknown] == ["min_p", "repeat_penalty"]


def test_a_setting_of_the_user_is_never_left_out(tiny, place, capsys):
    def strict(path, content):
        return (400, {"error": "unknown argument top_k"}) if "top_k" in content else None

    with SmallServer(*tiny, disturb=strict) as small:
        assert main(["generate", *words(small, "sampling.temperature=1.0", "sampling.top_k=5")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("kdlab: sampling.top_k=5: ") and "400 unknown argument top_k; sampling.top_k=null" in said


def _too_long(path, content):
    return (400, {"error": {"message": "maximum context length is 5"}}) if len(content["prompt"]) > 5 else None


def test_a_prompt_that_the_server_refuses_is_named_or_left_out(tiny, place, capsys):
    with SmallServer(*tiny, disturb=_too_long) as small:
        assert main(["generate", *words(small, "teacher.in_flight=1")]) == 1
        said = capsys.readouterr().err
        assert said.startswith("kdlab: teacher: prompts.jsonl, line 2: ") and said.count("kdlab: ") == 1
        assert "400 maximum context length is 5. Finished answers are kept; data.faulty=drop leaves such" in said
        assert main(["generate", *words(small, "data.faulty=drop")]) == 0
        assert "3 of 3 answers to 3 prompts; 3 prompts left out; 2 generated now" in capsys.readouterr().out
    rows = [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [one for one in PROMPTS if len(one) <= 5]
    manifest = json.loads((place / "answers.manifest.json").read_text())
    assert manifest["counts"]["prompts left out"] == 3


def test_a_server_that_refuses_all_prompts(tiny, place, capsys):
    with SmallServer(*tiny, disturb=lambda *_: (400, {"error": "no template"})) as small:
        assert main(["generate", *words(small, "data.faulty=drop")]) == 1
    assert "teacher: the server refuses all prompts: prompts.jsonl, line 1: no template" in capsys.readouterr().err


def test_a_half_of_a_surrogate_pair_of_the_server_is_replaced(tiny, place):
    said = b'{"choices": [{"finish_reason": "stop", "text": "7\\ud83d!"}], "usage": {"completion_tokens": 3}}'
    with SmallServer(*tiny, disturb=lambda *_: (200, said)) as small:
        generate(composed(words(small)))
    assert json.loads((place / "answers.jsonl").read_text().splitlines()[0])["answer"] == "7?!"
