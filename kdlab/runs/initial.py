"""What a student begins with: the weights of an earlier run or of a file, and the state of that run's losses.

``student.initial`` names it in one of the forms ``experiment``, ``same_but``, ``run``, ``checkpoint``. It counts where a run is trained; a
finished student is loaded from its own checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from kdlab.config.build import build
from kdlab.errors import InputError
from kdlab.objective import Objective

from .checkpoints import expected_node, load_student, misfits, read_checkpoint
from .files import content_hash
from .run import Run, RunStore, run_of

KEY = "student.initial"
_TERMS = "objective.terms."         # where the losses' state stands in a checkpoint


def load_weights(student: nn.Module, node: dict | None, trained: Callable[[dict], Run | None]) -> dict | None:
    """Load the weights that a node names into the student.

    Args:
        trained: gives the finished run of a config, or None where it is yet to be trained: then only the shapes are compared.

    Returns:
        The content of the checkpoint, for :func:`load_losses`; None where there is nothing to load (yet).

    Raises:
        InputError: they are of another network, or the run is not finished.
    """
    if node is None:
        return None
    path, module = _checkpoint(node, trained)
    if path is None:
        wrong = misfits(build(expected_node(node["config"]), "student").state_dict(), student.state_dict())
        if wrong and node.get("weights", True):
            raise InputError(f"{KEY}: the student of the run before does not fit {type(student).__name__}: {wrong}")
        return None
    content = read_checkpoint(path)
    if node.get("weights", True):
        try:
            load_student(student, path, content, module)
        except InputError as error:
            raise InputError(f"{KEY}: {error}") from error
    return content


def _checkpoint(node: dict, trained: Callable[[dict], Run | None]) -> tuple[Path | None, str]:
    """The file (None where it is yet to be trained), and the module within the strategy that is kept of it."""
    if "checkpoint" in node:
        path = Path(node["checkpoint"])
        run = run_of(path)
        return path, "student" if run is None or not run.finished else run.kept(path.stem)["module"]
    run, which = Run(node["run"]) if "run" in node else trained(node["config"]), node.get("which", "last")
    if run is None:
        return None, "student"
    if not run.finished:
        raise InputError(f"{KEY}.run: {run.path} is not finished (its status is {run.status}); start it again until it is")
    return run.checkpoint(which), run.kept(which)["module"]


def load_losses(objective: Objective, content: dict | None, wanted: bool | list[str]) -> None:
    """Load the state of loss terms (connectors, a paraphraser), once it is prepared.

    Args:
        content: of the checkpoint; None where it is yet to be trained: then only the names are looked for.
        wanted: true: every term that has a state of the same names and shapes there; or what is to be loaded, by dotted names
            (``factor``, ``factor.paraphraser``).

    Raises:
        InputError: there is no such state, in this run or in that; or nothing that fits.
    """
    own = objective.terms.state_dict()
    names = list(objective.terms) if wanted is True else list(wanted or ())
    loaded = False
    for name in names:
        mine = _below(own, name)
        if not mine and wanted is not True:
            raise InputError(f"{KEY}.losses: this run's losses hold no state '{name}'")
        if content is None or not mine:
            continue
        theirs = _below({key.removeprefix(_TERMS): value for key, value in content.get("state_dict", {}).items() if key.startswith(_TERMS)}, name)
        wrong = misfits(theirs, mine)
        if not wrong:
            objective.terms.load_state_dict(theirs, strict=False)
            loaded = True
        elif wanted is not True:
            raise InputError(f"{KEY}.losses: the state of '{name}' does not fit that of the run before: {wrong}")
    if wanted is True and content is not None and not loaded:
        raise InputError(f"{KEY}.losses: no loss term of this run ({', '.join(names)}) has a state that fits one of the run before; "
                         f"{KEY}.losses=false leaves them as they are")


def _below(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key == name or key.startswith(f"{name}.")}


def origin(node: dict | None) -> dict | None:
    """Where the first weights came from, for the record: a path, and the hash of the run or the content of the file."""
    if node is None:
        return None
    if "checkpoint" in node:
        return {"path": node["checkpoint"], "hash": content_hash(Path(node["checkpoint"]))}
    run = Run(node["run"]) if "run" in node else RunStore(node["config"]["paths"]["runs"]).run(node["config"])
    return {"path": str(run.path), "hash": run.hash}
