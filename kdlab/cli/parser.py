"""The parser of the verbs' own options."""

from __future__ import annotations

import argparse
from typing import NoReturn

from kdlab.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are InputErrors, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError with argparse's message and the command that prints the help."""
        raise InputError(f"{self.prog.removeprefix('kdlab ')}: {message}; see {self.prog} --help")
