"""``kdlab train [OVERRIDE…] [-m]``: one run, or Hydra's multirun."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdlab.config.compose import VERSION_BASE, composing_within_hydra, explain, plain, register_resolvers
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError, KdlabError

HELP = """kdlab train [OVERRIDE…]         train one run, or find it finished, or go on with it
kdlab train -m [OVERRIDE=a,b…]  every combination of the values after each other

  kdlab train                                         Hinton's distillation on digits, under a minute
  kdlab train strategy=supervised student=cnn         the student alone, from labels
  kdlab train loss.kd.temperature=8 seed=2            any line of the config
  kdlab train 'loss=[ce,logit_mse]'                   other losses
  kdlab train experiment=hinton2015/three_percent_soft
                                                      a paper's run
  kdlab train --cfg job                               print the config and stop
  kdlab train --hydra-help                            Hydra's own options (--config-dir, --info, …)
"""


def run(arguments: list[str]) -> int:
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP + choices())
        return 0
    register_resolvers()
    _failed.clear()
    with tempfile.TemporaryDirectory() as scratch, _hydra_raises(), _terminated_is_interrupted():
        if {"-m", "--multirun"} & set(arguments):
            arguments = [*arguments, f"hydra.sweep.dir={scratch}"]      # multirun.yaml tells nothing that run.json does not
        before, sys.argv = sys.argv, ["kdlab train", *arguments]
        try:
            hydra.main(config_path=str(conf_dir()), config_name="train", version_base=VERSION_BASE)(_job)()
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(explain(error)) from error
        finally:
            sys.argv = before
    for job, code in _failed:
        print(f"failed ({code}): {job}", file=sys.stderr)
    return min((code for _, code in _failed), default=0)


@contextlib.contextmanager
def _hydra_raises():
    """Otherwise Hydra prints its errors itself, with a hint at a traceback, and ends with 1."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextlib.contextmanager
def _terminated_is_interrupted():
    """A SIGTERM ends a run as Ctrl-C does: recorded, and to be gone on with."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def choices() -> str:
    """The groups and what stands in them, as the files are."""
    lines = ["Groups:"]
    for group in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        names = sorted(str(path.relative_to(group).with_suffix("")) for path in group.rglob("*.yaml"))
        lines.append(f"  {group.name + '=':<13}{' '.join(names)}")
    return "\n".join(lines)


_failed: list[tuple[str, int]] = []     # the jobs of a sweep that failed, and how


def _job(config: DictConfig) -> str | None:
    from kdlab.runs.ensure import ensure

    config = config.copy()
    OmegaConf.set_readonly(config, False)
    with open_dict(config):
        config.hydra = HydraConfig.get()
    job = " ".join(HydraConfig.get().overrides.task)
    sweep = HydraConfig.get().mode == hydra.types.RunMode.MULTIRUN
    if sweep:
        print(f"--- {job}", flush=True)
    try:
        with composing_within_hydra():
            return str(ensure(plain(config)).path)
    except KdlabError as error:
        # not left to Hydra, which would print it once more and end with 1; a sweep goes on after a job that failed
        print(f"kdlab: {error}", file=sys.stderr)
        if not sweep:
            raise SystemExit(error.exit_code) from None
        _failed.append((job, error.exit_code))
        return None
