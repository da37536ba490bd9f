"""A teacher on a server: the target of the local one, in both protocols; refusals; a server that is restarted."""

import json
import math
import threading
from types import SimpleNamespace

import pytest
import torch

import kdlab
from kdlab.batch import Batch
from kdlab.data import Sums
from kdlab.data.text.tokenizers import Tokenizer
from kdlab.errors import InputError, RunFailed
from kdlab.losses import ForwardKL
from kdlab.models import CausalModel
from kdlab.outputs import Outputs
from kdlab.tasks import CausalLM
from kdlab.teachers import Frozen, Served, client
from kdlab.training.teacher_tokens import refuse_other_tokens
from tests.data.text.characters import VOCABULARY, character_tokenizer
from tests.models.gguf_files import byte_tokenizer
from tests.teachers.small_server import SmallServer

LABELS = torch.tensor([[-100, -100, 7, 8, 2], [-100, 9, 2, -100, -100]])
IDS = torch.tensor([[5, 6, 7, 8, 2], [4, 9, 2, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
BATCH = Batch({"input_ids": IDS, "attention_mask": MASK}, LABELS, torch.tensor([0, 1]), split="train")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.02)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    found = CausalModel(architecture="llama", vocabulary=VOCABULARY, layers=1, width=16, heads=2, positions=32)
    with torch.no_grad():
        found.network.lm_head.weight.mul_(20)
    return found.eval()


@pytest.mark.parametrize("protocol", ["prompt", "positions"])
@pytest.mark.parametrize("top_k", [4, VOCABULARY])
def test_the_target_is_that_of_the_local_teacher(network, protocol, top_k):
    task = CausalLM(VOCABULARY)
    logs = task.align(Frozen(network, task).teach(BATCH), BATCH).logits.log_softmax(-1)
    with SmallServer(network) as small:
        teacher = Served(small.address, "tiny", VOCABULARY, top_k, protocol)
        answer = task.align(teacher.teach(BATCH), BATCH).sparse
        requests = len(small.asked)
    values, places = logs.topk(top_k)
    assert answer.ids.tolist() == places.tolist() and answer.classes == VOCABULARY
    torch.testing.assert_close(answer.log_probabilities, values, rtol=1e-4, atol=1e-5)
    if top_k == VOCABULARY:
        assert bool(answer.log_tail.isneginf().all())
    else:
        torch.testing.assert_close(answer.log_tail.exp(), 1 - values.exp().sum(-1), rtol=1e-3, atol=1e-5)
    # positions: of each label, and of the first text three times, since it is compared with itself
    assert requests == (4 if protocol == "prompt" else 5 + 2 * 3)
    assert teacher.cost["texts"] == 2 and teacher.cost["seconds"] > 0


def test_the_loss_is_that_of_the_local_teacher(network):
    task, student = CausalLM(VOCABULARY), torch.randn(2, 5, VOCABULARY)
    loss, rows = ForwardKL(), task.align_batch(BATCH)
    mine = task.align(Outputs(student), BATCH)
    with SmallServer(network) as small:
        served = task.align(Served(small.address, "tiny", VOCABULARY, VOCABULARY).teach(BATCH), BATCH)
    local = task.align(Frozen(network, task).teach(BATCH), BATCH)
    torch.testing.assert_close(loss(mine, served, rows), loss(mine, local, rows), rtol=1e-4, atol=1e-5)


def test_a_prefix_cache_that_changes_answers_is_refused(network):
    calls = []

    def cached(path, content):
        calls.append(path)
        if len(calls) < 2:
            return None
        answer = small.answer(path, content)
        for one in answer["choices"][0]["prompt_logprobs"][1:]:
            for value in one.values():
                value["logprob"] -= 1.0
        return 200, answer

    with SmallServer(network, disturb=cached) as small:
        with pytest.raises(
            InputError, match="got other probabilities .* as a cache of prefixes may do. .*--no-enable-prefix-caching"
        ):
            Served(small.address, "tiny", VOCABULARY, 4).teach(BATCH)


def changed(small, change, from_call=1):
    """What disturbs a server: ``change`` of its answers to texts, from a call on."""
    calls = []

    def disturb(path, content):
        calls.append(path)
        if len(calls) < from_call:
            return None
        answer = small[0].answer(path, content)
        change(answer)
        return 200, answer

    return disturb


def served_with(network, change, from_call=1, **options):
    """The target of a teacher whose server's answers are changed."""
    small: list = []
    with SmallServer(network, disturb=changed(small, change, from_call)) as server:
        small.append(server)
        given = {"model": "tiny", "vocabulary": VOCABULARY, "top_k": VOCABULARY, **options}
        return Served(server.address, **given).teach(BATCH).sparse


def rows_of(answer):
    return answer["choices"][0]["prompt_logprobs"][1:]


def test_improbable_tokens_may_differ_when_a_text_is_asked_for_again(network):
    count = []

    def jitter(answer):
        for value in (value for row in rows_of(answer) for value in row.values()):
            if value["logprob"] < -9:
                value["logprob"] -= 0.5
                count.append(value)

    served_with(network, jitter, 2)
    assert count


def test_a_cache_that_leaves_positions_out_is_named(network):
    def without(answer):
        answer["choices"][0]["prompt_logprobs"][3] = None

    with pytest.raises(
        InputError, match="leaves out the log-probabilities of token 4 of 5, as a cache of .* 'vllm serve"
    ):
        served_with(network, without, 2)


def test_a_prefix_that_kdlab_asks_to_keep_is_no_option_of_vllm(network):
    def other(answer):
        for one in answer["completion_probabilities"][0]["top_logprobs"]:
            one["logprob"] -= 1.0

    with pytest.raises(InputError, match="other probabilities .*cache_prompt") as error:
        served_with(network, other, 4, protocol="positions")
    assert "no-enable-prefix-caching" not in str(error.value)


@pytest.mark.parametrize(("share", "accepted"), [(0.004, True), (0.04, False)])
def test_unused_columns_of_the_model_are_part_of_the_others(network, share, accepted):
    def padded(answer):
        for row in rows_of(answer):
            for value in row.values():
                value["logprob"] += math.log1p(-share)
            row[str(VOCABULARY + 3)] = {"logprob": math.log(share)}

    if not accepted:
        with pytest.raises(RunFailed, match="the server names the token .*another tokenizer"):
            served_with(network, padded)
        return
    found = served_with(network, padded, top_k=VOCABULARY - 1)
    plain = served_with(network, lambda answer: None, top_k=VOCABULARY - 1)
    assert found.ids.tolist() == plain.ids.tolist()
    last = (1, 1)  # predicts a label
    expected = share + (1 - share) * plain.log_tail[last].exp().item()
    assert found.log_tail[last].exp().item() == pytest.approx(expected, abs=1e-5)


def test_the_vocabulary_is_needed_before_anything_is_asked():
    with pytest.raises(InputError, match="^teacher.vocabulary has no value"):
        Served("http://127.0.0.1:9", "tiny", retries=0).teach(BATCH)


def test_a_refusal_in_the_middle_of_a_run_can_be_resumed(network):
    with SmallServer(network) as small:
        teacher = Served(small.address, "tiny", VOCABULARY, 4)
        teacher.teach(BATCH)
        small.disturb = lambda *of: (400, {"error": "too long"})
        with pytest.raises(RunFailed, match="400 too long. When that is mended, the same command resumes"):
            teacher.teach(BATCH)


@pytest.mark.parametrize(
    ("options", "disturb", "words"),
    [
        ({"model": "other"}, None, r"teacher.model=other: the server has no such model \(it has tiny\)"),
        ({}, lambda *of: (200, {"choices": [{"text": ""}]}), "does not send what teacher.protocol=prompt needs"),
        ({}, lambda *of: (400, {"error": "logprobs > 5"}), "400 logprobs > 5; a smaller teacher.top_k may be allowed"),
    ],
)
def test_what_a_server_cannot_do_is_said_first(network, options, disturb, words):
    with SmallServer(network, disturb=disturb) as small:
        with pytest.raises(InputError, match=words):
            Served(**{"address": small.address, "model": "tiny", "vocabulary": VOCABULARY, **options}).teach(BATCH)


def test_another_tokenizer_is_refused(network):
    with SmallServer(network) as small:
        with pytest.raises(RunFailed, match="the server names the token .* the data's tokenizer has 6 tokens"):
            Served(small.address, "tiny", 6, 20).teach(BATCH)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": "echo"}, "teacher.protocol must be one of prompt, positions, got 'echo'"),
        ({"top_k": 0}, "teacher.top_k must be a whole number of at least 1, got 0"),
        ({"address": "here"}, "teacher.address must begin with http"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        Served(**{"address": "http://localhost", **options})
    with pytest.raises(InputError, match="gives probabilities and no features"):
        Served("http://localhost", "tiny").watch(["hidden1"])


def test_a_model_without_a_name_is_refused(network):
    """Otherwise runs that learn from two models of a server would have one identity."""
    with SmallServer(network) as small:
        with pytest.raises(InputError, match="teacher.model has no value; the server has tiny; teacher.model=tiny"):
            Served(small.address, None, VOCABULARY)


@pytest.fixture
def overrides(tmp_path):
    lines = [json.dumps({"q": f"{one}+{two}=", "a": str(one + two)}) for one in range(6) for two in range(4)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines) + "\n")
    return [
        *("task=causal_lm", "data=causal_text", f"data.train={tmp_path / 'sums.jsonl'}", "data.prompt=q"),
        *("data.answer=a", f"data.tokenizer={character_tokenizer(tmp_path / 'tokenizer')}"),
        *(f"data.vocabulary={VOCABULARY}", "data.length=12", "data.batch_size=4", "student=llama", "student.layers=1"),
        *("student.width=16", "student.heads=2", "trainer.max_epochs=1", "progress=none", "loss=[ce,forward_kl]"),
        *("optimizer.lr=0.01", f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}"),
        f"name={tmp_path.name}",
    ]


def served(address, *more):
    return ["teacher=served", f"teacher.address={address}", "teacher.model=tiny", *more]


def test_a_run_learns_as_from_the_local_teacher_also_when_the_server_is_restarted(network, overrides, tmp_path):
    network.network.save_pretrained(str(tmp_path / "model"))
    local = kdlab.train([*overrides, "teacher=causal", f"teacher.pretrained={tmp_path / 'model'}"])
    count, again = [], []

    def killed(path, content):
        count.append(path)
        if len(count) == 30:  # in the middle of training: no answer, and the port is closed for a moment
            threading.Thread(target=restart).start()
            return 503, b"going down"

    def restart():
        small.stop()
        again.append(SmallServer(network, port=small.port))

    small = SmallServer(network, disturb=killed)
    run = kdlab.train([*overrides, *served(small.address, f"teacher.top_k={VOCABULARY}", "teacher.retries=10")])
    assert again and again[0].asked, "the second server was asked"
    again[0].stop()
    for key in ("train/loss", "test/nll"):
        assert run.metrics[key] == pytest.approx(local.metrics[key], rel=1e-3)
    assert "test/kl_to_teacher" not in run.metrics and math.isfinite(run.metrics["test/perplexity"])
    assert run.record["teacher"]["name"] == "tiny"


def test_a_model_that_cannot_read_the_longest_text_is_refused(network, overrides):
    with SmallServer(network, longest=12) as small:
        with pytest.raises(InputError, match="at most 12 tokens, .*data.length=12 needs 13"):
            kdlab.train([*overrides, *served(small.address)])


def test_a_server_that_was_never_started_is_one_message(overrides):
    with pytest.raises(InputError, match=r"^teacher.address=http://127.0.0.1:9: no server answers there") as error:
        kdlab.train([*overrides, *served("http://127.0.0.1:9")])
    assert len(error.value.problems) == 1


def test_a_server_with_another_tokenizer_is_refused(network, overrides, tmp_path):
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    with SmallServer(network, own) as small:
        assert client.Server(small.address, "tiny").tokens("1+2") == own("1+2")["input_ids"]
        kdlab.train([*overrides, *served(small.address)])
        assert any(path == "/tokenize" for path, _ in small.asked)
    with SmallServer(network, byte_tokenizer()) as small:
        with pytest.raises(InputError, match="teacher.model=tiny: the server makes other tokens than data.tokenizer="):
            kdlab.train([*overrides, "seed=2", *served(small.address)])
        ours = Tokenizer("data.teacher_tokenizer", str(tmp_path / "tokenizer"), None)
        with pytest.raises(InputError, match="tokens than data.teacher_tokenizer=.*: data.teacher_tokenizer=FOLDER"):
            refuse_other_tokens(
                "teacher", Served(small.address, "tiny"), SimpleNamespace(tokenizer=None, teacher_tokenizer=ours)
            )
    with SmallServer(network) as small:
        assert client.Server(small.address, "tiny").tokens("1+2") is None, "it does not say"


@pytest.mark.parametrize("tells", [True, False])
def test_sums_are_learned_from_a_server(tells, tmp_path):
    """Their tokenizer is made by the code."""
    data = Sums(largest=2, samples=6, test_samples=3, folder=str(tmp_path))
    network = CausalModel(architecture="llama", vocabulary=14, layers=1, width=16, heads=2, positions=32)
    with SmallServer(network, data.tokenizer.unpadded if tells else None) as small:
        refuse_other_tokens("teacher", Served(small.address, "tiny", 14, 4), data)
    with SmallServer(network, byte_tokenizer()) as small:
        with pytest.raises(InputError, match="the server makes other tokens than data.tokenizer="):
            refuse_other_tokens("teacher", Served(small.address, "tiny", 14, 4), data)


def test_losses_that_need_all_logits_are_refused(network, overrides):
    with SmallServer(network) as small:
        with pytest.raises(InputError, match="loss.logit_mse: .* reads all of the teacher's logits") as error:
            kdlab.train([*overrides, "loss=[ce,logit_mse]", *served(small.address)])
        assert "or teacher=causal" in str(error.value) and "cache" not in str(error.value)


def test_what_a_cache_could_do_is_not_advised(network, overrides):
    hot = ["loss=[ce,kd]", "loss.kd.temperature=4"]
    with SmallServer(network) as small:
        with pytest.raises(InputError, match="; loss.kd.temperature=1, or teacher=causal$"):
            kdlab.train([*overrides, *hot, *served(small.address)])
        member = f"{{_target_:kdlab.teachers.Served,address:'{small.address}',model:tiny,vocabulary:{VOCABULARY}}}"
        both = ["teacher=ensemble", "~teacher.members", f"+teacher.members={{one:{member},two:{member}}}"]
        with pytest.raises(InputError, match="logits of all classes are needed, .*teacher=causal") as error:
            kdlab.train([*overrides, *both])
        assert "cache" not in str(error.value)


def test_a_member_for_one_term_may_be_served(network, overrides, tmp_path):
    network.network.save_pretrained(str(tmp_path / "model"))
    near = f"{{_target_:kdlab.models.CausalModel,pretrained:'{tmp_path / 'model'}',vocabulary:{VOCABULARY}}}"
    with SmallServer(network) as small:
        far = f"{{_target_:kdlab.teachers.Served,address:'{small.address}',model:tiny,vocabulary:{VOCABULARY}}}"
        run = kdlab.train(
            [
                *(*overrides, "loss=[ce,kd,forward_kl]", "teacher=per_term", "~teacher.terms", "~teacher.members"),
                *("+teacher.terms={kd:near,forward_kl:far}", f"+teacher.members={{near:{near},far:{far}}}"),
            ]
        )
    members = run.record["teacher"]["members"]
    assert members["near"]["test"]["nll"] > 0 and "test" not in members["far"]
