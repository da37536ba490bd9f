"""The table of architectures in LARGE.md: each cell is tried with a small random model of transformers' own class."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from kdlab.models import CausalModel
from kdlab.models import gguf as gguf_reader
from kdlab.models.generation import generate
from kdlab.models.taps import Taps
from kdlab.outputs import LazyLogits

PAGE = Path(__file__).parents[2] / "kdlab" / "models" / "LARGE.md"
IDS = torch.arange(14).view(2, 7) * 5 % 40
PROMPTS, LENGTHS = torch.tensor([[3, 4, 5, 6], [7, 0, 0, 0], [8, 9, 0, 0]]), torch.tensor([4, 1, 2])

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
#: what differs from these sizes; None leaves a field out
FIELDS = {
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 4},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4},
    "qwen3": {"head_dim": 8},
    "gpt2": {
        "num_key_value_heads": None,
        "intermediate_size": None,
        "n_inner": 128,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    },
    "gpt_neox": {"num_key_value_heads": None},
    "opt": {
        "num_key_value_heads": None,
        "intermediate_size": None,
        "ffn_dim": 48,
        "dropout": 0.0,
        "word_embed_proj_dim": 32,
    },
    "bloom": {"num_key_value_heads": None, "intermediate_size": None, "max_position_embeddings": None},
    "falcon": {"num_key_value_heads": None, "intermediate_size": None, "ffn_hidden_size": 48},
    "mixtral": {"num_local_experts": 4},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
#: the name in GGUF files, where it is another
IN_GGUF = {"gemma3_text": "gemma3", "phi": "phi2", "mistral": "llama", "gpt_neox": "gptneox", "qwen3_moe": "qwen3moe"}
#: those of the default suite: one of each kind of layers
QUICK = ("llama", "qwen3", "gpt2", "gemma2", "phi", "phi3", "gpt_neox")


def table() -> dict[str, dict[str, str]]:
    """The table of the page: architecture -> column -> cell."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    start = next(number for number, line in enumerate(lines) if line.startswith("| `model_type`"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start:]]
    head, found = rows[0], {}
    for row in rows[2:]:
        if len(row) != len(head):
            break
        for name in re.findall(r"`(\w+)`", row[0]):
            found[name] = dict(zip(head[1:], row[1:]))
    return found


TABLE = table()


def saved(kind, folder):
    """A small random model of transformers, in a folder."""
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {name: value for name, value in {**SIZES, **FIELDS.get(kind, {})}.items() if value is not None}
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **fields)).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(4)  # sharper answers than those of small random weights
    network.save_pretrained(str(folder))
    return network


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


class Plain(nn.Module):
    """A model without keys and values that are kept."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask)


@torch.no_grad()
def logits(folder, network, tmp_path):
    """The logits are those of transformers, also where a text is filled up."""
    model = CausalModel(pretrained=folder).eval()
    close(model(IDS), network(input_ids=IDS).logits)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0], [1] * 7])
    close(model(IDS, mask)[0, :4], model(IDS[:1, :4])[0])
    return True


@torch.no_grad()
def packed(folder, network, tmp_path):
    """Texts in one row do not see one another; otherwise packed rows are refused."""
    model = CausalModel(pretrained=folder).eval()
    try:
        both = model(IDS, position_ids=torch.tensor([[0, 1, 2, 3, 0, 1, 2]] * 2))
    except ValueError as error:
        assert "packed" in str(error)
        return False
    close(both[:, :4], model(IDS[:, :4]))
    close(both[:, 4:], model(IDS[:, 4:]))
    return True


@torch.no_grad()
def taps(folder, network, tmp_path):
    """Hidden states and attention are those of transformers."""
    model = CausalModel(pretrained=folder).eval()
    if not model.taps:
        return False
    with Taps(model, list(model.taps)) as features:
        model(IDS)
    own = model.network(input_ids=IDS, output_hidden_states=True, output_attentions=True)
    for number in range(5):
        close(features[f"hidden{number}"], own.hidden_states[number])
    for number in range(4):
        close(features[f"attention{number + 1}"], own.attentions[number])
    assert {features[f"{part}4"].shape[:2] for part in ("query", "key", "value")} == {IDS.shape}
    return True


@torch.no_grad()
def keep_layers(folder, network, tmp_path):
    """The kept layers have the weights of the model; they are saved and loaded again."""
    model = CausalModel(pretrained=folder).eval()
    try:
        cut = CausalModel(pretrained=folder, keep_layers=[1, 3]).eval()
    except ValueError as error:
        assert f"the layers of {model.config.model_type} are not known" in str(error)
        return False
    with Taps(model, ["hidden1"]) as whole:
        model(IDS)
    with Taps(cut, ["hidden1"]) as kept:
        answer = cut(IDS)
    close(kept["hidden1"], whole["hidden1"])
    cut.network.save_pretrained(str(tmp_path / "cut"))
    again = CausalModel(pretrained=str(tmp_path / "cut")).eval()
    close(again(IDS), answer)
    return again.config.num_hidden_layers == 2


@torch.no_grad()
def lazy(folder, network, tmp_path):
    """Logits are computed of the last hidden states; otherwise the model answers with logits, as always."""
    model = CausalModel(pretrained=folder).eval()
    with model.lazily():
        answer = model(IDS)
    if not isinstance(answer, LazyLogits):
        close(answer, model(IDS))
        return False
    close(answer.dense(), model(IDS))
    return True


def checkpointing(folder, network, tmp_path):
    """The gradients are those without it."""
    plain = CausalModel(pretrained=folder).train()
    spared = CausalModel(pretrained=folder, gradient_checkpointing=True).train()
    assert any(getattr(one, "gradient_checkpointing", False) for one in spared.network.modules())
    for model in (plain, spared):
        model(IDS).float().logsumexp(-1).mean().backward()
    for one, other in zip(plain.parameters(), spared.parameters()):
        close(one.grad, other.grad)
    return True


def lora(folder, network, tmp_path):
    """Adapters of queries and values change nothing at first, and alone are trained."""
    model = CausalModel(pretrained=folder).eval()
    try:
        adapted = CausalModel(pretrained=folder, lora={"rank": 2}).eval()
    except ValueError as error:
        assert "lora.targets: this network has no linear layers 'query'" in str(error)
        return False
    with torch.no_grad():
        close(adapted(IDS), model(IDS))
    trained = [name for name, one in adapted.named_parameters() if one.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    return True


def generation(folder, network, tmp_path):
    """Answers with kept keys and values are those without."""
    model = CausalModel(pretrained=folder).eval()
    options = {"most": 6, "end": None, "temperature": 0.0}
    kept, plain = (generate(one, PROMPTS, LENGTHS, **options).tokens for one in (model, Plain(model)))
    return torch.equal(kept, plain)


def gguf(folder, network, tmp_path):
    """A file has the logits of the folder, or is refused by its architecture."""
    pytest.importorskip("gguf")
    from gguf import GGUFWriter

    from tests.models.gguf_files import write_gguf

    kind = network.config.model_type
    name, path = IN_GGUF.get(kind, kind), tmp_path / "m.gguf"
    if name not in gguf_reader.ARCHITECTURES:
        writer = GGUFWriter(str(path), name)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(ValueError, match=f"holds a model of the architecture '{name}'"):
            CausalModel(pretrained=str(path))
        return False
    if kind == "mistral":  # llama.cpp writes it as a Llama
        from transformers import LlamaConfig, LlamaForCausalLM

        weights, network = network.state_dict(), LlamaForCausalLM(LlamaConfig(**SIZES))
        network.load_state_dict(weights)
    with torch.no_grad():
        close(CausalModel(pretrained=write_gguf(path, network)).eval()(IDS), network.eval()(input_ids=IDS).logits)
    return True


COLUMNS = {
    "logits": logits,
    "packed rows": packed,
    "taps": taps,
    "`keep_layers`": keep_layers,
    "lazy head": lazy,
    "gradient checkpointing": checkpointing,
    "LoRA": lora,
    "cached generation": generation,
    "GGUF": gguf,
}


def test_the_table_has_these_columns():
    assert all(list(row) == list(COLUMNS) for row in TABLE.values())
    assert {"llama", "mistral", "qwen2", "qwen3", "gpt2", "gemma", "gemma2", "gemma3_text", "phi", "phi3"} <= set(TABLE)
    assert set(QUICK) <= set(TABLE) and all(cell in ("yes", "no") for row in TABLE.values() for cell in row.values())


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in TABLE]
)
def test_each_cell_is_what_happens(kind, tmp_path):
    network = saved(kind, tmp_path / "whole")
    found = {}
    for column, tried in COLUMNS.items():
        folder = tmp_path / column.strip("`").replace(" ", "_")
        folder.mkdir()
        found[column] = "yes" if tried(str(tmp_path / "whole"), network, folder) else "no"
    assert found == TABLE[kind]


def test_a_model_without_attention_is_refused(tmp_path):
    """Answers with kept states would be wrong where prompts are filled up."""
    from transformers import MambaConfig

    MambaConfig(hidden_size=8, num_hidden_layers=1).save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="is a model of type mamba, which has no attention; that is not supported"):
        CausalModel(pretrained=str(tmp_path))
