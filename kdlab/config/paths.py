"""Where kdlab's own config files are."""

from collections.abc import Iterable
from pathlib import Path

#: the groups of which a run is composed, in the order in which they are listed
GROUPS = (
    *("task", "data", "student", "initial", "teacher", "loss", "mixing", "strategy", "preset"),
    *("optimizer", "scheduler", "trainer", "logger", "callbacks", "debug"),
)


def conf_dir() -> Path:
    """``conf/``: next to the package in a checkout or an editable install, inside it in a wheel."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(f"kdlab's conf/ is neither in {package.parent} nor in {package}; install kdlab again")


def config_folders(sources: Iterable) -> list[Path]:
    """The folders of Hydra's search path."""
    return [
        conf_dir() if source.schema == "pkg" else Path(source.path)
        for source in sources
        if source.schema in ("pkg", "file")
    ]
