"""``kdlab VERB …``: finds the verb, prints errors as messages, and ends with an exit code.

0 done; 1 a run failed while training; 2 bad input, found before anything was written; 130 interrupted.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from importlib import import_module

from kdlab import __version__
from kdlab.errors import did_you_mean, to_user_error

VERBS = {
    "train": "train one run, or with -m a sweep",
    "runs": "list, show, compare (diff) and remove (rm) runs",
    "compare": "a table of runs, grouped over seeds",
    "reproduce": "a study: train its missing runs, compare with its expectations and with the results in git",
    "evaluate": "score a trained student: from its test predictions, or on other data",
    "measure": "speed and memory of finished runs, and similarity of their features to the teacher's",
    "generate": "a teacher answers prompts; the answers are data for a student",
    "cache": "list, build, verify and prune the kept answers of teachers",
    "export": "write a trained student for other tools: a folder of transformers",
    "methods": "list the methods: paper, formula, defaults, requirements",
    "check": "check experiments without running them, estimate memory, or read every image of a folder",
}
TRAINING = ("train", "reproduce")


def usage() -> str:
    """The text that ``kdlab --help`` prints."""
    lines = [f"  {verb:<10}{what}" for verb, what in VERBS.items()]
    return "\n".join(
        [
            f"kdlab {__version__}: a research workbench for knowledge distillation",
            "",
            "usage: kdlab VERB …",
            "",
            *lines,
            "",
            "For the options of a verb: kdlab VERB --help. To begin: kdlab train",
        ]
    )


def main(arguments: list[str]) -> int:
    """Run a command line; returns its exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()  # now, while an error can still be reported
        return code
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        # what is left in the buffer is written when Python ends, and must not fail there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if arguments and arguments[0] in TRAINING else 0


def _reader_is_gone() -> bool:
    """Whether the reader of this process's output is gone, as after ``| head``."""
    try:
        print(end="", flush=True)
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        return True
    except (OSError, ValueError):  # standard output is no file
        return False
    return False


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"kdlab {__version__}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"kdlab: there is no verb '{verb}'{did_you_mean(verb, VERBS)} (kdlab --help lists them)", file=sys.stderr)
        return 2
    try:
        return import_module(f"kdlab.cli.{verb}").run(rest) or 0
    except KeyboardInterrupt:
        resumes = "; the same command resumes from the last checkpoint" if verb in TRAINING else ""
        if verb == "generate":
            resumes = f"; finished answers are kept, and {import_module('kdlab.cli.generate').resuming(rest)}"
        print(f"kdlab: interrupted{resumes}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except SystemExit as stopped:  # argparse and Hydra end themselves, after --help or an unknown option
        return stopped.code if isinstance(stopped.code, int) else 2 if stopped.code else 0
    except Exception as error:
        message = to_user_error(error)
        if message is None:
            raise
        print(f"kdlab: {message}", file=sys.stderr)
        return message.exit_code


def script() -> None:
    """Entry point of the command ``kdlab``: runs ``sys.argv`` and exits with its code."""
    # a library that crashes ends Python without a message; this prints the line that called it
    if sys.stderr is not None:
        faulthandler.enable(all_threads=False)
    # Python looks first in a script's own folder; the user's modules, named by _target_, are in the working folder
    sys.path.insert(0, os.getcwd())
    sys.exit(main(sys.argv[1:]))
