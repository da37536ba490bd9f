"""``kdlab evaluate RUN [data=… OVERRIDE…]``: evaluates a trained student.

Without overrides, the scores are computed from the run's saved test predictions. With overrides of ``data``, the
student is evaluated on the test split of that data set.
"""

from __future__ import annotations

import math

import torch

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.run import Run

from .parser import Parser


def run(arguments: list[str]) -> int:
    """Run ``kdlab evaluate``: print the scores of a finished run's network on test.

    Returns:
        0.

    Raises:
        InputError: the run is not finished, has no such network or predictions, or an option is wrong.
    """
    parser = Parser(prog="kdlab evaluate", description=__doc__)
    parser.add_argument("run", help="a run directory")
    parser.add_argument("override", nargs="*", default=[], help="data=… and keys below data")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="the checkpoint (default: last)")
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="the network (or ensemble), for a run with several; only for its saved test predictions "
        "(default: the network that the run keeps)",
    )
    parser.add_argument("--per-class", action="store_true", help="also print the accuracy of every class, by name")
    parser.add_argument(
        "--bias", action="append", default=[], metavar="CLASS=NUMBER", help="add a number to the logit of a class"
    )
    options = parser.parse_intermixed_args(arguments)
    found = Run(options.run)
    found.check()
    if not found.finished:
        raise InputError(f"{found.path} is not finished (its status is {found.status})")
    if options.network and options.override:
        raise InputError(
            "evaluate: --network chooses from the run's saved test predictions, so it cannot be combined with "
            "overrides; on other data, the network that the run keeps is evaluated"
        )
    from kdlab.tasks import task_of

    logits, target, source, data = (
        _stored(found, options.which, options.network)
        if not options.override
        else _fresh(found, options.which, options.override)
    )
    task = task_of(found.config)
    if task.report.answers != "classes" and (options.bias or options.per_class):
        raise InputError(f"evaluate: --bias and --per-class are for classes, and this run's task is {task.name}")
    for text in options.bias:
        number, value = _bias(text, logits.shape[-1])
        logits[:, number] += value
    print(f"{found.path}  {options.which}, {source}, {len(target)} samples")
    for name, value in task.score(logits, target).items():
        print(f"{name:<10}{value:.4f}" if len(name) < 10 else f"{name}  {value:.4f}")
    if options.per_class:
        from kdlab.training.assemble import class_names

        right, names = logits.argmax(-1) == target, class_names(data, logits.shape[-1])
        shown = ["" if name == str(number) else name for number, name in enumerate(names)]
        width = max(map(len, shown)) + 2 if any(shown) else 0
        for number, name in enumerate(shown):
            found_right = right[target == number]
            print(
                f"class {number:<4}{name:<{width}}{found_right.float().mean():.4f}  ({int(found_right.sum())} of "
                f"{len(found_right)})"
            )
    return 0


def _stored(found: Run, which: str, network: str | None) -> tuple[torch.Tensor, torch.Tensor, str, dict]:
    predictions = found.predictions()
    if which not in predictions:  # the last epoch always has predictions
        raise InputError(f"{found.path} has no '{which}': it was trained without validation, so no epoch was chosen")
    record = found.read()
    if network in (None, record.kept_network(which)):
        return predictions[which].clone(), predictions["target"], "the run's own test predictions", found.config["data"]
    known = [name for name in record.networks if f"{which}.{name}" in predictions]
    if network not in known:
        raise InputError(
            f"--network: {found.path} keeps no predictions of '{network}'{did_you_mean(network, known)} "
            f"(it has {', '.join([record.kept_network(which), *known])})"
        )
    return (
        predictions[f"{which}.{network}"].clone(),
        predictions["target"],
        f"the run's own test predictions of {network}",
        found.config["data"],
    )


def _fresh(found: Run, which: str, overrides: list[str]) -> tuple[torch.Tensor, torch.Tensor, str, dict]:
    from omegaconf import OmegaConf

    from kdlab.config.check import check
    from kdlab.config.compose import compose, explaining
    from kdlab.config.keys import DEFAULT_TASK
    from kdlab.config.written import as_dict
    from kdlab.tasks import task_of
    from kdlab.training.assemble import make_data, read_data
    from kdlab.training.evaluation import predict

    found.check_recipe("it cannot be evaluated on other data")
    wrong = [text for text in overrides if not text.lstrip("+~").startswith(("data=", "data.", "paths.data="))]
    if wrong:
        raise InputError(f"only data can be overridden here, not {', '.join(wrong)}")
    if any(text.startswith("data=") for text in overrides):
        # of the config, only the data are used
        chosen = (found.config.get("choices") or {}).get("task") or "classification"
        config = compose([*overrides, f"task={chosen}", "strategy=supervised"])
        config["task"] = found.config.get("task") or DEFAULT_TASK
    else:  # the run's own data, changed
        if any(text.startswith("~") for text in overrides):
            raise InputError("a key of the run's own data cannot be removed here; name the data set too: data=…")
        with explaining(overrides):
            dotted = OmegaConf.from_dotlist([text.lstrip("+") for text in overrides])
            config = as_dict(OmegaConf.merge({key: found.config[key] for key in ("data", "paths")}, dotted))
        config = {**found.config, **config}
    check(config)
    if (
        config["data"]["classes"] != found.config["data"]["classes"]
        or config["data"]["shape"] != found.config["data"]["shape"]
    ):
        raise InputError(
            f"the student needs inputs of shape {found.config['data']['shape']} and has "
            f"{found.config['data']['classes']} classes; these data have {config['data']['shape']} and "
            f"{config['data']['classes']}"
        )
    data, task = make_data(config["data"]), task_of(found.config)
    read_data(data, config["data"])
    network = found.network(which)
    torch.set_num_threads(found.config["threads"])
    predictions = predict(lambda batch: task.network_outputs(network, batch), data.test_dataloader(), task)
    source = f"test split of {config['data'].get('name') or config['data']['_target_']}"
    return predictions["logits"], predictions["target"], source, config["data"]


def _bias(text: str, classes: int) -> tuple[int, float]:
    try:
        key, amount = text.split("=")
        number, value = int(key), float(amount)
        if not math.isfinite(value):
            raise ValueError
    except ValueError as error:
        raise InputError(f"--bias must be CLASS=NUMBER, for example 3=2.0; got {text!r}") from error
    if not 0 <= number < classes:
        raise InputError(f"--bias: there is no class {number}; the classes are 0 to {classes - 1}")
    return number, value
