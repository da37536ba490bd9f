"""How far a config walks: from the command line to ``fit``, through which files of kdlab, and how often back up.

    .venv/bin/python experiments/speed/walk.py

One ``kdlab train trainer.max_epochs=1`` runs in this process, on data and with a teacher that are there already (a run
before it trained the teacher). ``sys.setprofile`` sees every call of a function of kdlab. Until ``fit`` of
kdlab/training/execute.py is called, these are counted:

- files: those of kdlab in which some function is called.
- climbs: pairs of files (A, B) where a function of A calls one of B, B was passed before, and B is of a higher layer
  (``LAYERS`` in tests/test_layers.py). Imports only go down, so such a call is a callback, or a function handed on.
- returns: pairs of files (A, B) of one folder where a function of A calls one of B, and B was passed before A was.
- calls: how often the functions in ``COUNTED`` are called; for the whole run, also after ``fit``.

It imports kdlab's command line and nothing else of kdlab, so it also measures older commits:
``git worktree add ../before COMMIT``, then this file with ``PYTHONPATH=../before``.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

#: file -> functions whose calls are counted
COUNTED = {
    "config/build.py": ("build", "recipe"),
    "config/check.py": ("check",),
    "config/compose.py": ("compose", "plain"),
    "runs/known.py": ("key_of",),
    "runs/identity.py": ("run_hash", "canonical"),
    "training/assemble.py": ("assembled",),
}
END = ("training/execute.py", "fit")
SHORT = ["trainer.max_epochs=1", 'teacher.overrides=["trainer.max_epochs=1"]', "progress=none"]


class Walk:
    """Counts calls while it is the profiler of this thread."""

    def __init__(self, package: Path):
        self.package = f"{package}{os.sep}"
        self.passed: dict[str, int] = {}  # file -> how many were passed before it
        self.climbs: set[tuple[str, str]] = set()
        self.returns: set[tuple[str, str]] = set()
        self.layers = layers(package.parent / "tests" / "test_layers.py")
        self.calls: Counter[tuple[str, str]] = Counter()
        self.arrived = False

    def __call__(self, frame, event: str, argument) -> None:
        if event != "call" or (file := self._file(frame)) is None:
            return
        name = frame.f_code.co_name
        if name in COUNTED.get(file, ()):
            self.calls[file, name] += 1
        self.arrived = self.arrived or (file, name) == END
        if self.arrived or name in ("<module>", "<lambda>") or name.startswith("<"):
            return
        place = self.passed.setdefault(file, len(self.passed))
        caller = self._caller(frame)
        if caller is None or caller == file:
            return
        mine, theirs = part(caller), part(file)
        if self.layers.get(theirs, 0) > self.layers.get(mine, 0):
            self.climbs.add((caller, file))
        elif mine == theirs and place < self.passed.get(caller, -1):
            self.returns.add((caller, file))

    def _file(self, frame) -> str | None:
        path = frame.f_code.co_filename
        return path.removeprefix(self.package) if path.startswith(self.package) else None

    def _caller(self, frame) -> str | None:
        """The file of the innermost function of kdlab that led to this call."""
        frame = frame.f_back
        while frame is not None and self._file(frame) is None:
            frame = frame.f_back
        return None if frame is None else self._file(frame)


def part(file: str) -> str:
    """The folder or file directly below the package."""
    return Path(file).parts[0].removesuffix(".py")


def layers(file: Path) -> dict[str, int]:
    """Part of the package -> number of its layer, from the ground up."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            return {name: floor for floor, names in enumerate(ast.literal_eval(node.value)) for name in names}
    raise SystemExit(f"{file} has no LAYERS")


def main() -> None:
    parser = argparse.ArgumentParser(description="How far a config walks from the command line to fit.")
    parser.add_argument("--files", action="store_true", help="list the files, in the order in which they are passed")
    options = parser.parse_args()
    import kdlab
    from kdlab.cli.main import main as command

    with tempfile.TemporaryDirectory() as folder:
        common = ["train", *SHORT, f"paths.runs={folder}"]
        if command([*common, "seed=1"]):
            raise SystemExit("the run that trains the teacher failed")
        walk = Walk(Path(kdlab.__file__).parent)
        sys.setprofile(walk)
        try:
            code = command([*common, "seed=2"])
        finally:
            sys.setprofile(None)
    if code or not walk.arrived:
        raise SystemExit("the run did not reach fit")
    print(f"files {len(walk.passed)}")
    print(f"climbs {len(walk.climbs)}")
    print(f"returns {len(walk.returns)}")
    for (file, name), count in sorted(walk.calls.items()):
        print(f"{file} {name} {count}")
    if options.files:
        for first, second in sorted(walk.climbs):
            print(f"{first} -> {second}")
        print("\n".join(walk.passed))


if __name__ == "__main__":
    main()
