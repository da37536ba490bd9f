"""``kdlab train [OVERRIDE…] [-m]``: one run, or Hydra's multirun."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.compose import VERSION_BASE, composing_within_hydra, explaining, plain, register_resolvers
from kdlab.config.explain import explain, made_by_hydra
from kdlab.config.paths import GROUPS, conf_dir
from kdlab.errors import InputError, KdlabError, did_you_mean, to_user_error
from kdlab.launch.processes import Interrupt, environment, handling
from kdlab.runs import known
from kdlab.runs.record import finished_already
from kdlab.runs.run import Run

HELP = """kdlab train [OVERRIDE…]         train one run; resume it if it is unfinished; report it if it is finished
kdlab train -m [OVERRIDE=a,b…]  a sweep: every combination of the values, several at a time

  kdlab train                                         Hinton's distillation on digits, after training a teacher
  kdlab train strategy=supervised student=cnn         the student alone, from labels
  kdlab train data=image_folder data.folder=FOLDER data.classes=4 student=cnn
                                                      your own images: a teacher is trained on them first
  kdlab train loss.kd.temperature=8 seed=2            any line of the config
  kdlab train 'loss=[ce,logit_mse]'                   other losses
  kdlab train trainer.max_epochs=null trainer.max_steps=300 trainer.every_n_train_steps=100
                                                      300 optimiser steps; validated and saved every 100
  kdlab train experiment=hinton2015/three_percent
                                                      a paper's run
  kdlab train -m loss.kd.temperature=2,4,8 seed=1,2,3 nine runs and their teacher; the same line resumes a killed sweep
  kdlab train -m hydra/sweeper=optuna 'loss.kd.weight=interval(0.1,1)'
                                                      a search
  kdlab train -m seed=1,2,3 hydra.launcher.workers=1 hydra.launcher.retry=1
                                                      the launcher's options: conf/hydra/launcher/kdlab.yaml
  kdlab train --cfg job                               print the config and stop
  kdlab train --hydra-help                            Hydra's own options (--config-dir, --info, …)
"""


def run(arguments: list[str]) -> int:
    """Run ``kdlab train``: one run, or with ``-m`` a sweep. Hydra reads the arguments.

    Returns:
        0.

    Raises:
        KdlabError: the config is wrong, or a run failed.
        KeyboardInterrupt: the user or a signal stopped it; the last checkpoint is kept.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP + choices())
        return 0
    register_resolvers()
    # Hydra accepts no option after an override
    arguments = sorted(arguments, key=lambda text: text.startswith("~") or "=" in text and not text.startswith("-"))
    _refuse_unknown_options(arguments)
    # otherwise Hydra prints its errors itself, with a hint at a traceback, and ends with 1
    hydra_raises = environment({"HYDRA_FULL_ERROR": "1"})
    # SIGTERM, and SIGUSR1 (which Slurm sends before a time limit), act like Ctrl-C: the run is recorded as interrupted,
    # and the same command resumes it
    with hydra_raises, handling(Interrupt()):
        if any(text in ("-m", "--multirun") or text.startswith("hydra/") for text in arguments):
            from kdlab.sweep.plugins import register

            register()
        before, sys.argv = sys.argv, ["kdlab train", *arguments]
        try:
            hydra.main(config_path=str(conf_dir()), config_name="train", version_base=VERSION_BASE)(_job)()
        except KdlabError:
            raise
        except Exception as error:
            if isinstance(error.__cause__, KdlabError):  # a launcher or sweeper refused its options
                raise error.__cause__ from error
            if isinstance(error, (HydraException, OmegaConfBaseException)) or made_by_hydra(error):
                raise InputError(explain(error, arguments)) from error
            raise
        finally:
            sys.argv = before
    return 0


def _refuse_unknown_options(arguments: list[str]) -> None:
    """Raises InputError where Hydra would print its usage."""
    parser: Any = get_args_parser()

    def refuse(message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0]
        hint = did_you_mean(unknown, parser._option_string_actions) if unknown else ""
        raise InputError(f"train: {message}{hint}; see kdlab train --help")

    parser.error = refuse
    parser.parse_args(arguments)


def choices() -> str:
    """The config groups and their choices, from the files."""
    lines = ["Groups:"]
    for group in (*GROUPS, "experiment", "hydra/launcher", "hydra/sweeper"):
        folder = conf_dir() / group
        names = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
        lines.append(f"  {group + '=':<16}{' '.join(names)}")
    return "\n".join(lines)


def _job(config: DictConfig) -> str:
    """One run: the only one, or a job that a launcher of another package has started in its own process."""
    register_resolvers()
    config = config.copy()
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        config.hydra = HydraConfig.get()
    try:
        with composing_within_hydra(), explaining():
            composed = plain(config)
        return str(_run(composed).path)
    except Exception as error:
        message = to_user_error(error)
        if message is None or HydraConfig.get().mode == hydra.types.RunMode.MULTIRUN:
            raise  # there is no message for users, or the sweeper reports it
        # not left to Hydra, which would print it again and exit with 1
        print(f"kdlab: {message}", file=sys.stderr)
        raise SystemExit(message.exit_code) from None


def _run(config: dict) -> Run:
    key = None if config.get("fresh") else known.key_of(config)
    found = None if key is None else known.finished(config, key)
    if found is not None:  # without importing the classes that it was trained with
        print(finished_already(found))
        return found
    from kdlab.training.ensure import ensure

    return ensure(config, key=key)
