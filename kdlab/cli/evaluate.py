"""``kdlab evaluate RUN [data=… OVERRIDE…]``: evaluates a trained student.

Without overrides, the scores are computed from the run's saved test predictions. With overrides of ``data``, the
student is evaluated on the test split of that data set.

A run of task=causal_lm can be asked for other metrics of generated answers, with several seeds: the mean and each one.

  kdlab evaluate RUN 'task.measured=[rouge_l,distinct_2]' task.answer_temperature=1 'task.answer_seeds=[1,2,3,4,5]'

With --probe, for a run of task=embedding: how well classes can be read from the vectors of student and teacher, by 10
nearest neighbours and by a logistic regression, from train to test. Data that were trained on without labels need their
column: kdlab evaluate RUN --probe data.label=label.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from kdlab.errors import InputError, did_you_mean
from kdlab.runs.run import Run

from .parser import Parser

#: the keys of a language model's task that may be overridden: what is measured of it
MEASURING = ("task.measured", "task.longest_answer", "task.answer_temperature", "task.answer_seeds")


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
    parser.add_argument("--probe", action="store_true", help="read classes from the vectors of task=embedding")
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

    if found.read().task.answers == "vectors":
        if options.bias or options.per_class or options.network:
            raise InputError("evaluate: --bias, --per-class and --network are for classes, and this run has vectors")
        return _of_vectors(found, options.which, options.override, options.probe)
    if options.probe:
        raise InputError(
            f"evaluate: --probe is for vectors (task=embedding), and this run's task is {found.read().task.task}"
        )
    if not _keeps_logits(found):
        if options.bias or options.per_class or options.network:
            raise InputError(
                "evaluate: --bias, --per-class and --network are for classes, and this run's are words of a vocabulary"
            )
        return _of_words(found, options.which, options.override)
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


def _of_vectors(found: Run, which: str, overrides: list[str], probed: bool) -> int:
    """Print what is known of a run of vectors: its own scores on test, those on other data, or of its probes."""
    from kdlab.tasks import task_of
    from kdlab.training.assemble import make_data, read_data
    from kdlab.training.evaluation import evaluate
    from kdlab.training.probing import probe
    from kdlab.training.teacher import teacher_of

    if not overrides and not probed:
        return _own_scores(found, which)
    found.check_recipe("it cannot be evaluated on other data")
    config = _data_of(found, overrides) if overrides else found.config
    data, task = make_data(config["data"]), task_of(found.config)
    read_data(data, config["data"], task)
    network = found.network(which)
    torch.set_num_threads(found.config["threads"])
    try:
        teacher = teacher_of(found, data, task)
    except InputError as error:  # the student can be probed without it
        if not probed:
            raise
        teacher = None
        print(f"no probe of the teacher: {error}")
    answers = {"student": lambda batch: task.network_outputs(network, batch)}
    if teacher is not None:
        answers["teacher"] = teacher.teach
    name = config["data"].get("name") or config["data"]["_target_"]
    if not probed:
        if teacher is None:
            raise InputError(f"{found.path}: its metrics compare with its teacher, and it has none")
        scores = evaluate({"": answers["student"]}, data.test_dataloader(), task, teacher=teacher.teach)[""].metrics
        print(f"{found.path}  {which}, test split of {name}")
        for key, score in scores.items():
            print(f"{key}  {score:.4f}")
        return 0
    print(f"{found.path}  {which}, probes from train to test of {name}")
    for who, answer in answers.items():
        for key, score in probe(answer, data).items():
            print(f"{who} {key}  {score:.4f}")
    return 0


def _keeps_logits(found: Run) -> bool:
    """Whether a run's predictions hold logits. Those of words of a vocabulary would be too large."""
    from kdlab.config.keys import DEFAULT_TASK
    from kdlab.config.signature import locate

    try:
        return bool(getattr(locate((found.config.get("task") or DEFAULT_TASK)["_target_"]), "keeps_logits", True))
    except (LookupError, TypeError):  # of a run without a config
        return True


def _own_scores(found: Run, which: str) -> int:
    """Print the scores on test that a run has measured."""
    end = "" if which == "last" else "_best"
    print(f"{found.path}  {which}, the run's own scores on test")
    for metric in found.read().task.metrics:
        if (value := found.metrics.get(f"test/{metric.name}{end}")) is not None:
            print(f"{metric.name}  {value:.4f}")
    return 0


def _of_words(found: Run, which: str, overrides: list[str]) -> int:
    """Print the scores of a run of a language model: its own on test, or new ones, with other data or other answers."""
    from kdlab.tasks import task_of
    from kdlab.training.assemble import make_data, read_data
    from kdlab.training.evaluation import evaluate
    from kdlab.training.networks import no_room_for_answers

    if not overrides:
        return _own_scores(found, which)
    found.check_recipe("it cannot be evaluated again")
    config = _measuring(found, overrides)
    data = make_data(config["data"])
    task = task_of(config, data.facts)
    read_data(data, config["data"], task)
    network = found.network(which)
    if problems := no_room_for_answers({"student": network}, data, task):
        raise InputError(*problems)
    torch.set_num_threads(found.config["threads"])
    seeds, test = getattr(task, "answer_seeds", ()), data.test_dataloader()
    scores: dict[str, dict[str, float]] = {}
    for seed in seeds if len(seeds) > 1 else ("",):
        alone = config if seed == "" else {**config, "task": {**config["task"], "answer_seeds": [seed]}}
        one = task_of(alone, data.facts)
        answer = partial(one.network_outputs, network)
        scores[str(seed)] = evaluate({"": answer}, test, one)[""].metrics
    source = config["data"].get("name") or config["data"]["_target_"]
    print(f"{found.path}  {which}, test split of {source}, {len(test.target)} samples")
    _print_means(scores)
    return 0


def _print_means(scores: dict[str, dict[str, float]]) -> None:
    """Print the mean of each metric over the seeds of the answers, and each seed's value of those of answers."""
    from kdlab.tasks.answers import OF_ANSWERS

    if len(scores) > 1:
        print(f"{'':<16}{'mean':>10}" + "".join(f"{'seed ' + seed:>10}" for seed in scores))
    for name in next(iter(scores.values())):
        values = [one[name] for one in scores.values() if name in one]
        each = values if len(scores) > 1 and name in OF_ANSWERS else []
        print(f"{name:<16}{sum(values) / len(values):>10.4f}" + "".join(f"{value:>10.4f}" for value in each))


def _measuring(found: Run, overrides: list[str]) -> dict:
    """The run's config with other data, or with other keys of what is measured of answers."""
    from omegaconf import OmegaConf

    from kdlab.config.check import check
    from kdlab.config.compose import explaining
    from kdlab.config.written import as_dict

    of_task = [text.lstrip("+") for text in overrides if text.lstrip("+").startswith("task.")]
    for text in of_task:
        if (key := text.partition("=")[0]) not in MEASURING:
            raise InputError(
                f"evaluate: {key}: only what is measured can be overridden here{did_you_mean(key, MEASURING)} "
                f"({', '.join(MEASURING)}, and data)"
            )
    of_data = [text for text in overrides if not text.lstrip("+").startswith("task.")]
    config = _data_of(found, of_data) if of_data else dict(found.config)
    with explaining(of_task):
        task = OmegaConf.merge({"task": config["task"]}, OmegaConf.from_dotlist(of_task))
        config = {**config, **as_dict(task)}
    check(config)
    return config


def _data_of(found: Run, overrides: list[str]) -> dict:
    """The run's config with other data. Raises InputError where the overrides are of something else, or the data do
    not fit the run's network."""
    from omegaconf import OmegaConf

    from kdlab.config.check import check
    from kdlab.config.compose import compose, explaining
    from kdlab.config.keys import DEFAULT_TASK
    from kdlab.config.written import as_dict

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
    _refuse_other_meaning(found, config["data"])
    return config


def _refuse_other_meaning(found: Run, data: dict) -> None:
    """Raises InputError where the data have other tokens than the student learned, or its classes in another order."""
    from kdlab.config.quoting import value_text
    from kdlab.data.text.tokenizers import same_tokenizer
    from kdlab.training.assemble import class_names
    from kdlab.training.class_order import named, order_of

    learned = found.config["data"]
    if not same_tokenizer(learned, data):
        raise InputError(
            f"data.tokenizer={data['tokenizer']}: the student learned other tokens; data.tokenizer="
            f"{learned['tokenizer']}"
        )
    if found.read().task.answers != "classes":
        return
    mine, theirs = (named(class_names(node, node["classes"])) for node in (learned, data))
    if mine and order_of(theirs, mine) not in (None, list(range(len(mine)))):
        raise InputError(
            f"data: the student learned the classes in the order {', '.join(mine)}, and these data have them in the "
            f"order {', '.join(theirs)}; data.class_names={value_text(mine)}"
        )


def _fresh(found: Run, which: str, overrides: list[str]) -> tuple[torch.Tensor, torch.Tensor, str, dict]:
    from kdlab.tasks import task_of
    from kdlab.training.assemble import make_data, read_data
    from kdlab.training.evaluation import predict

    config = _data_of(found, overrides)
    data, task = make_data(config["data"]), task_of(found.config)
    read_data(data, config["data"], task)
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
