"""Errors for people: what was wrong, which key or file, what to do. The command line prints the message and no traceback."""

from difflib import get_close_matches


class KdlabError(Exception):
    """An error whose message is written for the user. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(KdlabError):
    """Bad input, found before anything was trained or written. One message may list several problems, and end with advice."""

    exit_code = 2

    def __init__(self, *problems: str, advice: str = ""):
        self.problems = list(problems)
        text = problems[0] if len(problems) == 1 else f"{len(problems)} problems:\n" + "\n".join(f"  - {p}" for p in problems)
        super().__init__("\n".join(filter(None, [text, advice])))


class RunFailed(KdlabError):
    """A run failed while training; its directory holds the traceback."""


class BeingTrained(KdlabError):
    """Another process is training the run at this moment."""


class RunPruned(KdlabError):
    """A search has stopped the run, since others do better. What it has finished is kept."""


def did_you_mean(word: str, choices) -> str:
    """A hint to append to a message, or nothing.

    >>> did_you_mean("max_epcohs", ["max_epochs", "devices"])
    "; did you mean 'max_epochs'?"
    >>> did_you_mean("zzz", ["max_epochs"])
    ''
    """
    close = get_close_matches(str(word), [str(choice) for choice in choices], n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
