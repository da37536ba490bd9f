"""``kdlab train [OVERRIDE…] [-m]``: one run, or Hydra's multirun."""

from __future__ import annotations

import os
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.compose import VERSION_BASE, explain, plain, register_resolvers
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError, KdlabError, RunFailed

HELP = """kdlab train [OVERRIDE…]         train one run, or find it finished, or go on with it
kdlab train -m [OVERRIDE=a,b…]  every combination of the values after each other

  kdlab train                                         Hinton's distillation on digits, under a minute
  kdlab train strategy=supervised student=cnn         the student alone, from labels
  kdlab train loss.kd.temperature=8 seed=2            any line of the config
  kdlab train 'loss=[ce,kd,hint]' student=cnn         other losses
  kdlab train experiment=hinton2015/soft_targets      a paper's run
  kdlab train --cfg job                               print the config and stop
  kdlab train --hydra-help                            Hydra's own options (--config-dir, --info, …)
"""


def run(arguments: list[str]) -> int:
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP + choices())
        return 0
    register_resolvers()
    _failed.clear()
    before, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["kdlab train", *arguments]
    # otherwise Hydra prints its errors itself, with a hint at a traceback, and ends with 1
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(config_path=str(conf_dir()), config_name="train", version_base=VERSION_BASE)(_job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error)) from error
    finally:
        sys.argv = before
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
    return 1 if _failed else 0


def choices() -> str:
    """The groups and what stands in them, as the files are."""
    lines = ["Groups:"]
    for group in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        names = sorted(str(path.relative_to(group).with_suffix("")) for path in group.rglob("*.yaml"))
        lines.append(f"  {group.name + '=':<13}{' '.join(names)}")
    return "\n".join(lines)


_failed: list[str] = []     # the jobs of a sweep that failed


def _job(config: DictConfig) -> str | None:
    from kdlab.runs.ensure import ensure

    config = config.copy()
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        config.hydra = HydraConfig.get()
    sweep = HydraConfig.get().mode == hydra.types.RunMode.MULTIRUN
    if sweep:
        print(f"--- {' '.join(HydraConfig.get().overrides.task)}", flush=True)
    try:
        return str(ensure(plain(config)).path)
    except KdlabError as error:
        # not left to Hydra, which would print it once more and end with 1; a sweep goes on after a run that failed
        print(f"kdlab: {error}", file=sys.stderr)
        if sweep and isinstance(error, RunFailed):
            _failed.append(str(error))
            return None
        raise SystemExit(error.exit_code) from None
