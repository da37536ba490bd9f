"""The parser of the verbs' own options."""

from __future__ import annotations

import argparse

from kdlab.errors import InputError


class Parser(argparse.ArgumentParser):
    """Its complaints are messages like all others, without the usage around them."""

    def error(self, message: str):
        """Raise InputError with argparse's message and the command that prints the help."""
        raise InputError(f"{self.prog.removeprefix('kdlab ')}: {message}; {self.prog} --help says more")
