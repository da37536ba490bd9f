"""The most memory of a training, over all that were needed to finish it."""

from types import SimpleNamespace

import torch

from kdlab.measure import memory
from kdlab.runs.recorder import Recorder
from kdlab.runs.run import Run

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
    assert recorder.peak_memory_bytes < 10**15 and recorder.peak_memory_of == "process", "begun on a GPU, gone on with here"
    recorder.load_state_dict(state)         # of a checkpoint that is older than this measure
    assert recorder.peak_memory_bytes is None
