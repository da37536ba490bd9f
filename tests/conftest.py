"""What the tests share."""

import os
import sys
from pathlib import Path

import pytest
import torch
from budget import Budget, commit
from required import Required, missing

from kdlab.config.compose import sharing_teachers
from kdlab.config.signature import signature
from kdlab.launch import processes

collect_ignore = ["mutation"]  # defects for the source, no tests

# of the shell that starts pytest: where it runs (a job of Slurm, torchrun), how wide and colourful its terminal is,
# somebody's account
FOREIGN = ("SLURM_", "SBATCH_", "PMI_", "PMIX_", "OMPI_", "TORCHELASTIC_", "WANDB_", "HYDRA_")
FOREIGN_NAMES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)


def pytest_configure(config):
    """The tests, and the processes that they start, see none of the shell's variables that change what kdlab, Lightning
    or rich do."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) or name in FOREIGN_NAMES]:
        del os.environ[name]
    extras = list(filter(None, os.environ.get("KDLAB_REQUIRE", "").split(",")))
    if extras:
        if lines := missing(extras):
            raise pytest.UsageError("\n".join(lines))
        config.pluginmanager.register(Required())
    if minutes := os.environ.get("KDLAB_TEST_MINUTES"):
        config.pluginmanager.register(Budget(float(minutes), commit()))


@pytest.fixture(autouse=True)
def one_thread():
    """Sums depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def composed_teachers():
    """The config of the default teacher, which most runs name, is composed once."""
    with sharing_teachers() as shared:
        yield shared


@pytest.fixture(autouse=True)
def nothing_else_is_shared(composed_teachers):
    yield
    # tests write experiments of their own
    for key in [key for key in composed_teachers if key[0] != "experiment=teacher/digits"]:
        del composed_teachers[key]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory, with plain lines for output. Modules that a test wrote there are forgotten after
    it: two pages may call their file ``my_losses.py``."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    # not by getattr, since an attribute of a lazy module may be one that it imports now
    files = {name: getattr(module, "__dict__", {}).get("__file__") for name, module in list(sys.modules.items())}
    own = [name for name, file in files.items() if file and Path(file).is_relative_to(tmp_path)]
    for name in own:
        del sys.modules[name]
    if own:
        signature.cache_clear()


@pytest.fixture
def kdlab(workplace, capsys):
    """Runs a command line in this process and returns (exit code, standard output, standard error)."""
    from kdlab.cli.main import main

    def call(*arguments: str):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="session")
def forked():
    """Starts a function in a process of its own, forked from one that has imported everything, so that it may be
    killed."""
    processes.warm()
    context = processes.context()

    def start(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def taught(tmp_path_factory):
    """A folder of runs that holds a quickly trained teacher of digits, to be named by ``teacher=run``; returns the
    run."""
    from kdlab import train

    folder = tmp_path_factory.mktemp("teachers")
    return train(["experiment=teacher/digits", "trainer.max_epochs=5", f"paths.runs={folder}", "progress=none"])
