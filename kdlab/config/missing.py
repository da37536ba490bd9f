"""Messages for a missing config file: what exists instead in kdlab's conf/ and in the user's own config folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra

from kdlab.errors import did_you_mean

from .paths import conf_dir

# launchers and sweepers of other packages -> the package to install
ELSEWHERE = {
    "joblib": "hydra-joblib-launcher",
    "ray_aws": "hydra-ray-launcher",
    "rq": "hydra-rq-launcher",
    "ax": "hydra-ax-sweeper",
    "nevergrad": "hydra-nevergrad-sweeper",
}

MOST_LISTED = 40


def missing_file(name: str, own: Sequence[Path] = ()) -> str:
    """The message for a missing config file ``group/choice``.

    Args:
        own: the user's folders of config files.
    """
    parts = name.split("/")
    if len(parts) == 1:
        return f"there is no config file {name}.yaml"
    group = "/".join(parts[:2] if parts[0] == "hydra" and len(parts) > 2 else parts[:1])
    choice = name.removeprefix(f"{group}/")
    folder = conf_dir() / group
    known = _choices(folder)
    theirs = {
        place / group: _choices(place / group) for place in own if group == "experiment" or (place / group).is_dir()
    }
    cure = (
        f"; if that is what you mean: pip install {ELSEWHERE[choice]}"
        if group.startswith("hydra/") and choice in ELSEWHERE
        else ""
    )
    if "/" in choice and choice.partition("/")[0] in groups() and not (folder / choice).parent.is_dir():
        # a file of the group experiment includes a file of another group without naming the group
        inner, _, file = choice.partition("/")
        cure = f"; in a file's defaults another group is chosen by '- override /{inner}: {file}'"
    # the including file is itself included, so Hydra put that file's folder before the name
    if twice := re.match(r"(.+)/(\1/.+)", choice):
        return (
            f"{group}={choice}: there is no '{choice}' in conf/{group}; in a file's defaults write '-"
            f" /{group}/{twice[2]}', with a slash in front"
        )
    misplaced = next((text for place in own for text in _misplaced(place, group, choice)), None)
    if misplaced:
        return f"{group}={choice}: {misplaced}"
    everything = [*known, *(one for found in theirs.values() for one in found)]
    if inside := sorted({one for one in everything if one.startswith(f"{choice.rstrip('/')}/")}):
        lines = "".join(f"\n    {group}={one}" for one in inside)
        return f"{group}={choice}: this is a folder; choose one of its files:{lines}"
    places = " nor in ".join([*map(str, theirs), f"conf/{group}"])
    there = (
        "; ".join(
            [
                *(f"{place} has {_listed(found)}" for place, found in theirs.items()),
                f"conf/{group} has {_listed(known)}",
            ]
        )
        if theirs
        else (f"there are {_listed(known)}")
    )
    return f"{group}={choice}: there is no '{choice}' in {places}{did_you_mean(choice, everything)}{cure} ({there})"


def own_folders(typed: Sequence[str]) -> list[Path]:
    """The user's own existing config folders: that of ``--config-dir``, and those in Hydra's search path where Hydra is
    set up.

    Args:
        typed: the command line.
    """
    found: list[str] = []
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        options, _ = parser.parse_known_args([text for text in typed if text not in ("-h", "--help")])
        found += [options.config_dir] if options.config_dir else []
    except (Exception, SystemExit):  # wrong options are reported elsewhere
        pass
    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        found += [
            element.path.removeprefix("file://")
            for element in hydra.config_loader().get_search_path().get_path()
            if element.path and "://" not in element.path.removeprefix("file://")
        ]
    paths = list(dict.fromkeys(Path(text) for text in found))
    return [path for path in paths if path.is_dir() and path.resolve() != conf_dir().resolve()]


def groups() -> list[str]:
    """kdlab's own groups of config files."""
    return sorted(
        str(path.relative_to(conf_dir()))
        for path in [*conf_dir().glob("*"), *conf_dir().glob("hydra/*")]
        if path.is_dir() and path.name != "hydra"
    )


def _choices(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def _misplaced(place: Path, group: str, choice: str) -> list[str]:
    """A file of the user's that was probably meant, but has another name or place."""
    stem = re.sub(r"\.(ya?ml)$", "", choice)
    wanted = place / group / f"{stem}.yaml"
    if stem != choice and wanted.is_file():
        return [f"leave the ending out: {group}={stem}"]
    near = (
        sorted(path for path in wanted.parent.glob(f"{wanted.stem}.*") if path.is_file() and path != wanted)
        if wanted.parent.is_dir()
        else []
    )
    outside = [place / f"{stem}{ending}" for ending in (".yaml", ".yml") if (place / f"{stem}{ending}").is_file()]
    return [
        *(f"{path} is not read by its name; Hydra reads .yaml alone: rename it to {wanted}" for path in near),
        *(f"{path} is not in the group's folder; move it to {wanted}" for path in outside),
    ]


def _listed(choices: Sequence[str]) -> str:
    """The choices by name; if there are many, only their folders."""
    if len(choices) > MOST_LISTED:
        choices = list(
            dict.fromkeys(f"{choice.partition('/')[0]}/…" if "/" in choice else choice for choice in choices)
        )
    return ", ".join(choices) or "none"
