"""The most memory of a training, over all that were needed to finish it."""

from types import SimpleNamespace

import torch
from torch import nn

from kdlab.measure import memory
from kdlab.runs.run import Run
from kdlab.training.recorder import Recorder

HERE = torch.device("cpu")


def test_a_peak_is_forgotten_where_a_new_count_begins():
    held = torch.ones(100_000_000 // 4)
    high = memory.peak(HERE)
    del held
    memory.begin(HERE)
    assert memory.peak(HERE) < high - 80_000_000
    assert memory.whose(HERE) == "process" and memory.whose(torch.device("cuda", 1)) == "cuda"


def test_the_recorder_keeps_the_largest_of_processes_and_of_resumptions(tmp_path):
    recorder, asked = Recorder(Run(tmp_path), "val/accuracy", True, lines=False), []

    def largest(value, reduce_op):
        asked.append((value.item(), reduce_op))
        return value + 5

    trainer, module = SimpleNamespace(strategy=SimpleNamespace(reduce=largest)), SimpleNamespace(device=HERE)
    recorder._measure_memory(trainer, module)
    mine, how = asked[0]
    assert how == "max" and 10_000_000 < mine and recorder.state_dict()["peak_memory_bytes"] == mine + 5

    state = {"best": None, "rows": [], "stopped": False}
    recorder.load_state_dict({**state, "peak_memory_bytes": 10**15, "peak_memory_of": "process"})
    recorder._measure_memory(trainer, module)
    assert (recorder.peak_memory_bytes, recorder.peak_memory_of) == (10**15, "process")
    recorder.load_state_dict({**state, "peak_memory_bytes": 10**15, "peak_memory_of": "cuda"})
    recorder._measure_memory(trainer, module)
    assert recorder.peak_memory_bytes < 10**15 and recorder.peak_memory_of == "process", (
        "begun on a GPU, gone on with here"
    )
    recorder.load_state_dict(state)  # of a checkpoint that is older than this measure
    assert recorder.peak_memory_bytes is None


def test_an_answer_needs_its_weights_its_inputs_and_what_is_there_at_once():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 2)).eval()
    state = sum(value.nbytes for value in network.state_dict().values())
    inputs, map_of_eight, answer = 4 * 36, 4 * 8 * 36, 4 * 2
    for count in (1, 10):
        # the convolution's map and the normalised one; the flattened one is a view of that
        assert memory.inference_bytes(network, torch.zeros(count, 1, 6, 6)) == state + count * (
            inputs + 2 * map_of_eight
        )
    assert 2 * map_of_eight > map_of_eight + answer

    class Keeps(nn.Sequential):
        def forward(self, x):
            kept = [x]
            for layer in self:
                kept.append(layer(kept[-1]))
            return kept[-1]

    wasteful = Keeps(*(nn.ReLU() for _ in range(5)))
    assert memory.inference_bytes(wasteful, torch.zeros(100)) == 6 * 400
    assert memory.inference_bytes(nn.Sequential(*wasteful), torch.zeros(100)) == 3 * 400, "the inputs, and two"
