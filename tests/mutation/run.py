"""Put defects into a copy of kdlab, one at a time, and run the nearest tests: do they notice?

    python tests/mutation/run.py                        all defects
    python tests/mutation/run.py --only 'strategies/*'  some of them, by name or file
    python tests/mutation/run.py --list                 their names; each is checked to fit the source

This process imports torch, Lightning, pytest and the rest once. Every defect is tried in a process forked from it,
which imports only kdlab, from a copy of the repository with the defect in it. See README.md.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from defects import Defect, every  # noqa: E402
from nearest import nearest  # noqa: E402

SLOW = "slow"  # among a defect's tests: those with this mark, too
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider")
MOST_BYTES = 8 << 30  # for one trial: a defect may make an endless list
KILLED, SURVIVED, TIMED_OUT = "killed", "SURVIVED", "timed out"
MODULES = """
import contextlib, importlib, pkgutil, sys, kdlab, sklearn.datasets, torchmetrics
for module in pkgutil.walk_packages(kdlab.__path__, "kdlab."):
    with contextlib.suppress(ImportError):
        importlib.import_module(module.name)
print(*sys.modules, sep="\\n")
"""


def wrong_fit(defect: Defect, text: str) -> str | None:
    """Why a defect cannot be put in; None if it can."""
    number = len(defect.place.findall(text))
    if number != 1:
        return f"{defect.name}: its old text stands {number} times in {defect.file}, not once: {defect.old!r}"
    return f"{defect.name}: its old and its new text are the same" if defect.old == defect.new else None


def selected(patterns: list[str]) -> list[Defect]:
    """The defects of that name or file. Exits where a defect does not fit, or none is meant."""
    defects = every()
    wrong = [
        line for defect in defects if (line := wrong_fit(defect, (ROOT / defect.file).read_text(encoding="utf-8")))
    ]
    if wrong:
        raise SystemExit("\n".join([*wrong, "The source has changed: mend these defects in tests/mutation/defects/."]))
    chosen = [
        one
        for one in defects
        if not patterns or any(fnmatchcase(text, pattern) for text in (one.name, one.file) for pattern in patterns)
    ]
    if not chosen:
        raise SystemExit(f"--only {' '.join(patterns)}: no defect has such a name or file; --list shows them")
    return chosen


def arguments_of(defect: Defect) -> list[str]:
    """What pytest is given, one after the other until something fails."""
    return [*(defect.tests or nearest(defect.file)), *([SLOW] if defect.slow else [])]


def without_defect(defect: Defect) -> list[str]:
    """What pytest is given beforehand, to see that these tests pass: the same for all files that have the same tests,
    so without their doctests."""
    arguments = [argument for argument in arguments_of(defect) if argument != defect.file]
    return arguments if any(argument.startswith("tests/") for argument in arguments) else arguments_of(defect)


def key_of(arguments: list[str], defect: Defect | None) -> str:
    """Of everything that a result depends on here: the defect, its file, and the tests that look for it."""
    files = [] if defect is None else [ROOT / defect.file]
    for argument in arguments:
        path = ROOT / argument.partition("::")[0]
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.is_file() else []
    digest = hashlib.sha256(
        json.dumps([arguments, *((defect.file, defect.old, defect.new) if defect else ())]).encode()
    )
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def warm_up() -> None:
    """Import what kdlab imports, and not kdlab."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    names = subprocess.run(
        [sys.executable, "-c", MODULES], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in [*names, "pytest", "_pytest.doctest", "_pytest.assertion.rewrite"]:
        if name.partition(".")[0] not in ("kdlab", "__main__", "tests") and name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception:  # a name that is no module of its own, or a part for another system
                continue
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # else every collection in a forked process looks through all of torch


def data_bytes(process: int) -> int:
    """What a process has taken, as its limit counts it; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[5]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):  # another system, or a process that has just ended
        return 0


class Tree:
    """A copy of the repository's files, into which defects are put."""

    def __init__(self, folder: Path):
        self.folder, self._stamp = folder, int(time.time())
        shutil.rmtree(folder, ignore_errors=True)
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)

    def write(self, file: str, text: str) -> None:
        """With a time of its own, in whole seconds, by which Python knows that what it has compiled is old."""
        self._stamp += 1
        (self.folder / file).write_text(text, encoding="utf-8")
        os.utime(self.folder / file, (self._stamp, self._stamp))


class Trial:
    """The tests on one tree, in a process of their own."""

    def __init__(self, tree: Tree, defect: Defect | None, arguments: list[str], timeout: float):
        self.tree, self.defect, self.arguments = tree, defect, arguments
        self.log, self.key = tree.folder.parent / f"{tree.folder.name}.log", key_of(arguments, defect)
        if defect is not None:
            self._text = (tree.folder / defect.file).read_text(encoding="utf-8")
            if wrong := wrong_fit(defect, self._text):
                raise SystemExit(wrong)
            tree.write(defect.file, defect.place.sub(lambda _: defect.new, self._text))
        self.began = time.monotonic()
        self.deadline = self.began + timeout
        self.process = os.fork()
        if not self.process:
            self._run()

    def _run(self) -> None:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.chdir(self.tree.folder)
            sys.path[:] = [
                str(self.tree.folder),
                *(path for path in sys.path if path not in (str(HERE), str(ROOT), "")),
            ]
            for name in [
                name for name in sys.modules if name.partition(".")[0] in ("defects", "nearest", "kdlab", "tests")
            ]:
                del sys.modules[name]
            os.environ |= {
                "PYTHONPATH": str(self.tree.folder),
                "OMP_NUM_THREADS": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            }
            import pytest

            temporary = self.tree.folder.parent / f"{self.tree.folder.name}-tmp"
            marks = ["-m", "not slow"] if SLOW not in self.arguments else []
            for argument in [argument for argument in self.arguments if argument != SLOW]:
                # of the source its doctests alone: tested() and the like are no tests
                only = (
                    ["-o", "python_functions=nothing", "-o", "python_classes=Nothing"]
                    if argument.startswith("kdlab/")
                    else []
                )
                code = int(pytest.main([argument, *OPTIONS, *only, *marks, "--basetemp", str(temporary)]))
                if (
                    code == pytest.ExitCode.NO_TESTS_COLLECTED
                    and self.defect is not None
                    and argument == self.defect.file
                ):
                    code = 0  # a file without doctests
                if code:
                    break
        finally:
            sys.stdout.flush()
            os._exit(code)

    def ended(self) -> tuple[str, str] | None:
        """Status and the line that tells why; None while the tests run."""
        process, state = os.waitpid(self.process, os.WNOHANG)
        late = not process and time.monotonic() > self.deadline
        # without a byte left pytest cannot even report a MemoryError: it tries for ever
        full = not process and data_bytes(self.process) > MOST_BYTES * 0.98
        if not process and not late and not full:
            return None
        try:
            os.killpg(self.process, signal.SIGKILL)  # and whatever the tests have started
        except ProcessLookupError:
            pass
        if late or full:
            os.waitpid(self.process, 0)
        if self.defect is not None:
            self.tree.write(self.defect.file, self._text)
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        if full:
            return KILLED, f"took {MOST_BYTES >> 30} GB of memory"
        if late:
            return TIMED_OUT, ""
        code = os.waitstatus_to_exitcode(state)
        reasons = [line for line in text.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if code in (4, 5):
            raise SystemExit(f"pytest found no tests in {' '.join(self.arguments)}:\n{text[-2000:]}")
        return (
            (SURVIVED, "")
            if code == 0
            else (KILLED, reasons[0][:300] if reasons else f"exit code {code}: {text[-200:]!r}")
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="GLOB", help="names (runs/03, 'sweep/*') or files ('kdlab/runs/*')"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many at the same time (1)")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for the tests of one defect (600)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "kdlab-mutation",
        help="for copies and results.jsonl, which is resumed",
    )
    parser.add_argument(
        "--no-baseline",
        action="store_true",
        help="do not run the tests without a defect first; for when the suite has just passed",
    )
    parser.add_argument("--list", action="store_true", help="print the defects, and run nothing")
    options = parser.parse_args()
    defects = selected(options.only)
    if options.list:
        for defect in defects:
            print(
                f"{defect.name:14} {defect.file}: {defect.old!r} -> "
                f"{defect.new!r}{'  (equivalent)' if defect.equivalent else ''}"
            )
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    results = options.folder / "results.jsonl"
    known = (
        {line["key"]: line for line in map(json.loads, results.read_text().splitlines())} if results.exists() else {}
    )
    waiting = deque(
        defect for defect in defects if not defect.equivalent and key_of(arguments_of(defect), defect) not in known
    )
    if waiting:
        warm_up()
        known |= tried(waiting, options, known, results)
    return summary(defects, known)


def tried(waiting: deque[Defect], options, known: dict, results: Path) -> dict:
    """Try the waiting defects, and first, without any, the tests that are to find them; what came of each is appended
    to ``results``."""
    found: dict[str, dict] = {}
    trees = [Tree(options.folder / f"tree{number}") for number in range(options.jobs)]
    bare = {}
    for defect in waiting if not options.no_baseline else ():
        arguments = without_defect(defect)
        if key_of(arguments, None) not in known:
            bare.setdefault(key_of(arguments, None), arguments)
    queue: deque[tuple[Defect | None, list[str]]] = deque((None, arguments) for arguments in bare.values())
    queue.extend((defect, arguments_of(defect)) for defect in waiting)
    trials: list[Trial] = []
    with open(results, "a", encoding="utf-8") as file:
        while queue or trials:
            while queue and trees:
                defect, arguments = queue.popleft()
                trials.append(Trial(trees.pop(), defect, arguments, options.timeout))
            time.sleep(0.05)
            for trial in list(trials):
                ended = trial.ended()
                if ended is None:
                    continue
                trials.remove(trial)
                trees.append(trial.tree)
                status, why = ended
                name = "no defect" if trial.defect is None else trial.defect.name
                seconds = round(time.monotonic() - trial.began, 1)
                print(f"{name:14} {status:9} {seconds:6.1f} s  {why or ' '.join(trial.arguments[:3])}", flush=True)
                if trial.defect is None and status != SURVIVED:
                    raise SystemExit(
                        f"these tests fail without any defect, so they can find none; see {trial.log}:\n"
                        f"{' '.join(trial.arguments)}"
                    )
                found[trial.key] = {"key": trial.key, "name": name, "status": status, "seconds": seconds, "why": why}
                file.write(json.dumps(found[trial.key]) + "\n")
                file.flush()
    return found


def summary(defects: list[Defect], known: dict) -> int:
    """Print what came of them, package by package; 1 where a defect survived."""
    counts: dict[str, Counter] = {}
    survivors = []
    for defect in defects:
        status = "equivalent" if defect.equivalent else known[key_of(arguments_of(defect), defect)]["status"]
        counts.setdefault(defect.package, Counter())[status] += 1
        if status == SURVIVED:
            survivors.append(defect)
    print(f"\n{'package':12} {KILLED:>8} {'timed out':>10} {'survived':>9} {'equivalent':>11}")
    for package, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{package:12} {count[KILLED]:8} {count[TIMED_OUT]:10} {count[SURVIVED]:9} {count['equivalent']:11}")
    for defect in survivors:
        print(f"\nsurvived: {defect.name}  {defect.file}\n  - {defect.old!r}\n  + {defect.new!r}")
    return 1 if survivors else 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
