"""runs, evaluate, check, train's help, and the exit codes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture
def two(kdlab):
    """Two short runs; their directories."""
    paths = []
    for seed in (1, 2):
        code, out, err = kdlab("train", "strategy=supervised", "trainer.max_epochs=2", f"seed={seed}")
        assert code == 0, err
        paths.append(out.strip().splitlines()[-1])
    return paths


def test_runs(kdlab, two):
    code, out, err = kdlab("runs")
    assert code == 0 and all(path in out for path in two) and out.count("finished") == 2
    code, out, err = kdlab("runs", "show", two[0])
    assert json.loads(out)["overrides"] == ["strategy=supervised", "trainer.max_epochs=2", "seed=1"]
    code, out, err = kdlab("runs", "diff", *two)
    assert re.search(r"^seed +1 +2", out, re.MULTILINE) and "metrics.test/accuracy" in out and "optimizer.lr" not in out
    code, out, err = kdlab("runs", "diff", two[0], two[0])
    assert out == "no difference\n"
    code, out, err = kdlab("runs", "rm", two[0])
    assert "nothing was removed" in out and two[0] in kdlab("runs")[1]
    code, out, err = kdlab("runs", "rm", two[0], "--yes")
    assert two[0] not in kdlab("runs")[1] and two[1] in kdlab("runs")[1]


def test_no_runs_yet(kdlab):
    code, out, err = kdlab("runs")
    assert code == 0 and "kdlab train" in out


def test_evaluate_from_the_kept_predictions(kdlab, two, monkeypatch):
    """Test is not touched again: reading the data would fail."""

    def touched(self):
        raise AssertionError("test was touched")

    monkeypatch.setattr("kdlab.data.images.digits.Digits.read", touched)
    code, out, err = kdlab("evaluate", two[0], "--per-class")
    accuracy = json.loads(kdlab("runs", "show", two[0])[1])["metrics"]["test/accuracy"]
    assert code == 0 and f"accuracy  {accuracy:.4f}" in out and "359 samples" in out
    rights = [tuple(map(int, found)) for found in re.findall(r"\((\d+) of (\d+)\)", out)]
    assert len(rights) == 10 and sum(of for _, of in rights) == 359
    assert sum(right for right, _ in rights) / 359 == pytest.approx(accuracy, abs=1e-4)


def test_evaluate_names_the_classes_where_the_data_do(kdlab, two, monkeypatch):
    plain = kdlab("evaluate", two[0], "--per-class")[1].splitlines()
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    monkeypatch.setattr("kdlab.data.images.digits.Digits.NAMES", names, raising=False)
    named = kdlab("evaluate", two[0], "--per-class")[1].splitlines()
    assert named[-10:] == [
        line.replace(f"class {number}   ", f"class {number}   {name:<7}")
        for number, (line, name) in enumerate(zip(plain[-10:], names))
    ]


def test_evaluate_with_a_bias(kdlab, two):
    code, out, err = kdlab("evaluate", two[0], "--per-class", "--bias", "3=100")
    assert code == 0 and re.search(r"class 3 +1\.0000", out)
    assert kdlab("evaluate", two[0], "--bias", "12=1")[0] == 2
    assert kdlab("evaluate", two[0], "--bias", "three")[0] == 2


def test_evaluate_on_other_data(kdlab, two):
    code, out, err = kdlab("evaluate", two[0], "--which", "last", "data.batch_size=16")
    stored = kdlab("evaluate", two[0])[1]
    assert code == 0 and "test split of digits" in out
    assert re.search(r"accuracy .*", out)[0] == re.search(r"accuracy .*", stored)[0]
    code, out, err = kdlab("evaluate", two[0], "data=fashion_mnist")
    assert code == 2 and "[1, 8, 8]" in err
    assert kdlab("evaluate", two[0], "student=cnn")[0] == 2


def test_evaluate_without_a_best(kdlab):
    code, out, err = kdlab("train", "strategy=supervised", "trainer.max_epochs=1", "+trainer.limit_val_batches=0")
    assert code == 0 and "best" not in out
    run = out.strip().splitlines()[-1]
    assert kdlab("evaluate", run)[0] == 0
    code, out, err = kdlab("evaluate", run, "--which", "best")
    assert code == 2 and "without validation" in err


def test_evaluate_the_runs_own_data_changed(kdlab, workplace, monkeypatch):
    """A run on a data set of the user's own is evaluated on that, not on the default."""
    (workplace / "my_data.py").write_text(
        "import torch\n"
        "from kdlab.data import Images, InMemoryData\n"
        "\n"
        "\n"
        "class Mine(InMemoryData):\n"
        "    CLASSES, SHAPE = 10, (1, 8, 8)\n"
        "\n"
        "    def read(self):\n"
        "        images = torch.arange(640).reshape(10, 1, 8, 8).repeat(20, 1, 1, 1).float() / 640\n"
        "        labels = torch.arange(10).repeat(20)\n"
        "        return Images(images, labels), Images(images[:50], labels[:50])\n"
    )
    monkeypatch.syspath_prepend(workplace)
    code, out, err = kdlab("train", "strategy=supervised", "data._target_=my_data.Mine", "trainer.max_epochs=1")
    assert code == 0, err
    code, out, err = kdlab("evaluate", out.strip().splitlines()[-1], "+data.evaluation_batch_size=7")
    assert code == 0 and "50 samples" in out


@pytest.mark.slow
def test_check(kdlab, workplace):
    code, out, err = kdlab("check")
    assert code == 0, out
    assert "ok     experiment=hinton2015/omitted_class" in out and "wrong" not in out
    code, out, err = kdlab("check", "hinton2015/nothing")
    assert code == 2 and "hinton2015/nothing" in out


def test_help_lists_the_groups(kdlab):
    code, out, err = kdlab("train", "--help")
    assert code == 0 and "resnet110" in out and "hinton2015/teacher" in out
    assert kdlab()[0] == 2 and kdlab("--help")[0] == 0 and kdlab("--version")[1].startswith("kdlab 0")


def test_print_the_config_and_stop(kdlab, workplace):
    code, out, err = kdlab("train", "--cfg", "job", "seed=7")
    assert code == 0 and "seed: 7" in out and not list(workplace.iterdir())


def test_the_lines_of_the_help_work(kdlab, workplace):
    """Each of them, in five batches."""
    from kdlab.cli.train import HELP
    from kdlab.config.check import check
    from kdlab.config.compose import compose

    lines = [
        line.split("   ")[0].strip()
        for line in HELP.splitlines()
        if line.startswith("  kdlab train") and "--" not in line and "-m" not in line
    ]
    assert len(lines) >= 5
    for line in lines:
        check(compose(shlex.split(line)[2:]))


@pytest.mark.parametrize(
    "sent, devices",
    [
        (signal.SIGINT, 1),
        (signal.SIGTERM, 1),
        (signal.SIGUSR1, 1),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
    ],
    ids=["SIGINT", "SIGTERM", "SIGUSR1", "SIGTERM, two processes"],
)
def test_an_interrupted_run_ends_with_130_and_goes_on(workplace, forked, kdlab, sent, devices):
    arguments = [
        "strategy=supervised",
        "trainer.max_epochs=200",
        "trainer.accelerator=cpu",
        f"trainer.devices={devices}",
    ]
    process = forked(_command, workplace, arguments)
    deadline = time.monotonic() + 120
    while (
        not list(workplace.glob("runs/quickstart/*/checkpoints/last.ckpt"))
        and time.monotonic() < deadline
        and process.is_alive()
    ):
        time.sleep(0.05)
    os.kill(process.pid, sent)
    process.join(timeout=60)
    (path,) = workplace.glob("runs/quickstart/*/run.json")
    assert process.exitcode == 130 and json.loads(path.read_text())["status"] == "interrupted"
    assert "interrupted" in kdlab("runs")[1]


@pytest.mark.parametrize(
    "verb, said",
    [
        ("compare", "kdlab: interrupted\n"),
        ("reproduce", "kdlab: interrupted; the same command resumes from the last checkpoint\n"),
    ],
)
def test_only_what_trains_is_said_to_go_on(kdlab, monkeypatch, verb, said):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"kdlab.cli.{verb}.run", interrupted)
    assert kdlab(verb) == (130, "", said)


def _command(folder, arguments):
    from kdlab.cli.main import main

    os.chdir(folder)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the forkserver blocks it for all its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(main(["train", *arguments]))


def test_a_run_that_is_being_trained_is_not_removed(kdlab, two):
    from kdlab.runs.run import Run

    Run(two[0]).update(status="running")
    assert "killed" in kdlab("runs")[1] and "was killed" in kdlab("runs", "show", two[0])[1]
    lock = Run(two[0]).lock()
    lock.acquire()
    assert "killed" not in kdlab("runs")[1] and "running" in kdlab("runs")[1]
    code, out, err = kdlab("runs", "rm", two[0], "--yes")
    lock.release()
    assert code == 2 and "being trained" in err and two[0] in kdlab("runs")[1]


def test_compare_does_not_write_into_a_run(kdlab, two, workplace):
    assert kdlab("compare", *two)[0] == 0
    assert (workplace / "runs" / "quickstart" / "compare.csv").exists() and not (
        workplace / two[0] / "compare.csv"
    ).exists()


@pytest.mark.slow
def test_a_module_of_the_users_is_found_in_the_working_directory(workplace):
    """``kdlab`` is a script elsewhere, so Python does not look here by itself."""
    (workplace / "mine.py").write_text(
        "from kdlab.models import MLP\n\n\ndef network(classes):\n    return MLP(classes, (1, 8, 8), (4,))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "from kdlab.cli.main import script; script()",
            "train",
            "strategy=supervised",
            "student=network",
            "student._target_=mine.network",
            "+student.classes=10",
            "trainer.max_epochs=1",
        ],
        cwd=workplace,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_crash_names_the_line_that_caused_it(workplace):
    """A library that ends Python by a signal leaves no exception to be told of."""
    (workplace / "crashing.py").write_text("import ctypes\n\nctypes.string_at(0)\n")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); from kdlab.cli import main; "
        "main._run = lambda arguments: __import__(arguments[0]); main.script()"
    )
    done = subprocess.run([sys.executable, "-c", code, "crashing"], cwd=workplace, capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert f'File "{workplace / "crashing.py"}", line 3 in <module>' in done.stderr


def test_without_standard_error_it_works_all_the_same(workplace):
    code = "import sys; sys.stderr = None; from kdlab.cli.main import script; script()"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("kdlab ")


def test_importing_kdlab_is_light():
    code = (
        "import sys, kdlab, kdlab.cli.main, kdlab.cli.runs; print([name for name in ('torch', 'lightning', 'hydra', "
        "'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def _read_only(monkeypatch):
    """A store in which nothing can be written (root may write anywhere, so no permissions are set)."""
    import errno
    import os

    def refused(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "compare.csv")

    monkeypatch.setattr("kdlab.compare.table.write_text", refused)


def test_a_store_that_is_read_only_has_its_table_all_the_same(kdlab, monkeypatch):
    for seed in (1, 2):
        assert kdlab("train", "strategy=supervised", "trainer.max_epochs=1", f"seed={seed}", "progress=none")[0] == 0
    whole = kdlab("compare", "runs")
    assert whole[0] == 0 and "written: runs/compare.csv" in whole[1]
    _read_only(monkeypatch)
    code, out, err = kdlab("compare", "runs")
    assert code == 0 and err == "" and out.splitlines()[:-1] == whole[1].splitlines()[:-1], "the same table"
    assert (
        out.splitlines()[-1]
        == "nothing was written: runs cannot be written (Read-only file system); --out DIR names another"
        " folder"
    )
    for asked in (["--out", "other"], ["--report"]):
        code, out, err = kdlab("compare", "runs", *asked)
        assert code == 2 and "cannot be written (Read-only file system)" in err, (
            "who asks for files is told that there are none"
        )


@pytest.mark.parametrize("verb, expected", [("--help", 0), ("methods", 0), ("train", 1)])
def test_a_reader_that_stops_reading(workplace, verb, expected):
    """As after ``| head -1``: no traceback. A training that could not print has failed."""
    options = ["strategy=supervised", "trainer.max_epochs=1", "progress=lines"] if verb == "train" else []
    code = "from kdlab.cli.main import script; script()"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code, verb, *options], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert done.returncode == expected and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, (
        done.stderr
    )


def test_a_pipe_of_the_users_own_that_breaks_is_an_error(kdlab, monkeypatch):
    def broken(arguments):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("kdlab.cli.runs.run", broken)
    with pytest.raises(BrokenPipeError):
        kdlab("runs")
