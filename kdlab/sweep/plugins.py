"""kdlab's launchers and sweepers as Hydra plugins, chosen by ``hydra/launcher`` and ``hydra/sweeper``.

Hydra accepts plugins only under names below ``hydra_plugins.``. So kdlab's classes are registered under such names,
which works from a checkout, an editable install and a wheel. The classes keep their modules, so other launchers can
pickle them.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from kdlab.config.paths import conf_dir

from .grid import GridSweeper
from .launcher import Launcher
from .ray_launcher import RayLauncher
from .search import OptunaSweeper
from .submitit_launcher import LocalLauncher, SlurmLauncher


def register() -> None:
    """Register kdlab's launchers and sweepers in Hydra's table of plugins."""
    plugins = Plugins.instance()
    for cls in (Launcher, SlurmLauncher, LocalLauncher, RayLauncher, GridSweeper, OptunaSweeper):
        plugins.class_name_to_class[f"hydra_plugins.kdlab.{cls.__name__}"] = cls
    # Hydra's own packages have launchers of the same names; kdlab's files replace theirs, and are not checked against
    # their schemas
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        launchers.pop(path.name, None)
