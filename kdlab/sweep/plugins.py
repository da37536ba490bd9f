"""What Hydra sees of kdlab's sweeps: its launchers and sweepers, chosen by ``hydra/launcher`` and ``hydra/sweeper``.

Hydra takes plugins only by names below ``hydra_plugins.``; so kdlab's classes are entered in its table under such
names, which works from a checkout, an editable install and a wheel alike. The classes themselves stay where they are,
so other launchers can pickle them.
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
    """Enter kdlab's launchers and sweepers in Hydra's table."""
    plugins = Plugins.instance()
    for cls in (Launcher, SlurmLauncher, LocalLauncher, RayLauncher, GridSweeper, OptunaSweeper):
        plugins.class_name_to_class[f"hydra_plugins.kdlab.{cls.__name__}"] = cls
    # packages of Hydra's bring launchers of the same names; kdlab's files stand for them, and are not checked against
    # theirs
    launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml"):
        launchers.pop(path.name, None)
