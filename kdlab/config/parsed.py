"""Config files that are parsed once per process: a composition reads about thirty, and parsing them takes longer than
all the rest."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult

# text of a file -> its parsed content and header. Hydra changes what it gets, so each caller gets a copy: pickle makes
# one in a quarter of the time of copy.deepcopy. The text is the key, so a file that has changed is parsed again.
_parsed: dict[str, bytes] = {}


class ParsedOnce(FileConfigSource):
    """A folder of Hydra's search path whose files are parsed once in this process, as long as their text is the
    same."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The content of a file. Raises as Hydra's own class does."""
        path = Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))
        text = _text(path)
        if text is not None and text in _parsed:
            content, header = pickle.loads(_parsed[text])
            return ConfigResult(
                config=content, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header
            )
        found = super().load_config(config_path)
        if text is not None and text == _text(path):  # not changed while it was parsed
            _parsed[text] = pickle.dumps((found.config, found.header))
        return found


def parse_once(loader: Any) -> None:
    """Let Hydra's config loader parse each file of its folders once in this process.

    Args:
        loader: the ``config_loader`` of Hydra, changed in place.
    """
    repository = loader.repository
    repository.sources = [
        ParsedOnce(one.provider, one.path) if _reads_files(one) else one for one in repository.sources
    ]


def _reads_files(source: object) -> bool:
    """Whether a source is of Hydra's own class for folders. Hydra loads that module twice, so there are two classes of
    this name."""
    kind = type(source)
    return (kind.__module__, kind.__name__) == (FileConfigSource.__module__, FileConfigSource.__name__)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # Hydra's own class reports it
        return None
