"""From names and options to live losses, optimiser and strategy: the files in ``conf/`` with their defaults, or objects
of one's own."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kdlab.config.check import problems
from kdlab.config.compose import compose
from kdlab.config.quoting import value_text
from kdlab.errors import InputError, KdlabError, did_you_mean
from kdlab.losses import Loss
from kdlab.objective import Objective
from kdlab.strategies import Strategy
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.training.assemble import make_objective, make_optimization

#: the parts of a config that names and options are composed into
PARTS = ("loss", "strategy", "optimizer", "scheduler", "trainer.max_epochs", "seed")
DEFAULT_TERMS = ("ce", "kd")


@dataclass
class Recipe:
    """What was asked for, composed.

    Args:
        config: the composed config: its ``loss``, ``strategy``, ``optimizer`` and ``scheduler`` count.
        strategy: the class or factory, if it was given as an object; None: as the config has it.
        terms: the losses that were given as objects, by name.
        order: the names of all terms.
        weights: of the terms that are objects.
        objective: if it was given as a whole.
        optimization: makes optimiser and schedule.
        described: how the parts that are objects are written down, by part.
    """

    config: dict
    strategy: Callable | None
    terms: dict[str, Loss]
    order: list[str]
    weights: dict[str, float]
    objective: Objective | None
    optimization: OptimizerRecipe
    described: dict[str, Any]

    def make_objective(self) -> Objective:
        """The objective. Losses that are objects are copied, so that one call leaves nothing in them for the next."""
        if self.objective is not None:
            return copy.deepcopy(self.objective)
        named = {name: node for name, node in self.config["loss"].items() if name in self.order}
        made = make_objective(named) if named else None
        losses = made.losses if made else {}
        terms = {name: copy.deepcopy(self.terms[name]) if name in self.terms else losses[name] for name in self.order}
        weights = {**(made.weights if made else {}), **self.weights}
        return Objective(terms, weights, made.schedules if made else None)


def recipe(
    loss: Any = None,
    weights: Mapping[str, float] | None = None,
    strategy: Any = "offline",
    optimizer: Any = "adamw",
    lr: float | None = None,
    scheduler: Any = "cosine",
    epochs: int = 40,
    seed: int = 1,
) -> Recipe:
    """Composes what was asked for. Arguments as for :func:`kdlab.distill`.

    Raises:
        InputError: a name or an option does not exist, or a value does not fit.
    """
    if lr is not None and (isinstance(lr, bool) or not isinstance(lr, (int, float)) or not 0 < lr < float("inf")):
        raise InputError(f"lr must be a number greater than 0, got {lr!r}")
    overrides = ["teacher=none", f"seed={value_text(seed)}", f"trainer.max_epochs={value_text(epochs)}"]
    name, options, factory = _strategy(strategy)
    overrides += [f"strategy={value_text(name)}", *_texts("strategy", options)]
    order, named, terms, own_weights, objective = _loss(loss, weights, factory is not None)
    if named is not None:
        overrides.append(f"loss=[{','.join(map(value_text, named))}]")
        overrides += [text for term, given in named.items() for text in _texts(f"loss.{term}", given)]
    given_lr = {} if lr is None else {"lr": lr}
    optimizer_name, optimizer_options, make_optimizer = _group("optimizer", optimizer, given_lr)
    overrides += [f"optimizer={value_text(optimizer_name)}"] if optimizer_name else []
    overrides += _texts("optimizer", optimizer_options)
    scheduler_name, scheduler_options, make_scheduler = _group("scheduler", scheduler, {})
    overrides += [f"scheduler={value_text(scheduler_name)}", *_texts("scheduler", scheduler_options)]
    if make_optimizer is not None and scheduler_name == "onecycle":
        rate = lr if lr is not None else (getattr(make_optimizer, "keywords", None) or {}).get("lr")
        if rate is None and "max_lr" not in scheduler_options:
            raise InputError("scheduler: onecycle needs the highest learning rate; give it with lr=")
        overrides += [] if rate is None else _texts("optimizer", {"lr": rate})
    config = copy.deepcopy(_composed(tuple(overrides)))
    for part, node in (("optimizer", optimizer), ("scheduler", scheduler)):
        if isinstance(node, Mapping) and "_target_" in node:
            own = {"interval": "epoch", "horizon": None} if part == "scheduler" else given_lr
            config[part] = {**own, **node}
    _check(config)
    described: dict[str, object] = {}
    optimization = _optimization(config, make_optimizer, make_scheduler, given_lr, described)
    if objective is not None:
        order = list(objective.terms)
        described["loss"] = {term: describe(loss) for term, loss in objective.terms.items()}
        described["weights"] = dict(objective.weights)
    else:
        order = order or list(config["loss"])
        described["loss"] = {
            term: {**describe(terms[term]), "weight": own_weights[term]} if term in terms else config["loss"][term]
            for term in order
        }
    if factory is not None:
        described["strategy"] = describe(factory)
    return Recipe(config, factory, terms, order, own_weights, objective, optimization, described)


def make_strategy(made: Recipe, **given: Any) -> Strategy:
    """The strategy.

    Args:
        given: its arguments that kdlab gives; ``peers`` only if there are some.

    Raises:
        InputError: it refuses them.
    """
    from kdlab.config.build import build

    if made.strategy is None:
        return build(
            {key: value for key, value in made.config["strategy"].items() if key != "peers"}, "strategy", **given
        )
    try:
        strategy = made.strategy(**given)
    except KdlabError:
        raise
    except Exception as error:  # a class of the user's own may fail in any way
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise InputError(f"strategy: {kind}{error}") from error
    if not isinstance(strategy, Strategy):
        raise InputError(f"strategy: the factory made a {type(strategy).__name__}, and no kdlab.Strategy")
    return strategy


@functools.lru_cache(maxsize=64)
def _composed(overrides: tuple[str, ...]) -> dict:
    return compose(overrides)


def _check(config: dict) -> None:
    found = [text for text in problems(config) if text.startswith(PARTS)]
    if found:
        raise InputError(*dict.fromkeys(found))


def _strategy(given: Any) -> tuple[str, Mapping, Callable | None]:
    """Name, options, factory."""
    if isinstance(given, str):
        return given, {}, None
    if isinstance(given, Mapping):
        name, options = _one(given, "strategy")
        return name, options, None
    if isinstance(given, Strategy):
        raise InputError(
            f"strategy is a finished {type(given).__name__}, and kdlab gives it the networks; give the class, with "
            "functools.partial for its own arguments"
        )
    if not callable(given):
        raise InputError(f'strategy must be a name ("offline"), {{name: options}} or a class, got {given!r}')
    return "offline", {}, given


def _group(part: str, given: Any, more: Mapping) -> tuple[str | None, Mapping, Callable | None]:
    """Name of the file in ``conf/``, options, factory, of the optimiser or the learning-rate schedule."""
    if given is None and part == "scheduler":
        return "none", {}, None
    if isinstance(given, str):
        return given, more, None
    if isinstance(given, Mapping):
        if "_target_" in given:  # put in afterwards; here only what other parts refer to
            return (
                None if part == "optimizer" else "none",
                {"lr": given["lr"], **more} if "lr" in given else more,
                None,
            )
        name, options = _one(given, part)
        return name, {**options, **more}, None
    if isinstance(given, torch.optim.Optimizer) or not callable(given):
        raise InputError(
            f"{part} must be a name, {{name: options}}, or what makes one, for example "
            "functools.partial(torch.optim.SGD, momentum=0.9): losses may have parameters of their own, which are made "
            f"later; got {type(given).__name__}"
        )
    return None if part == "optimizer" else "none", {}, given


def _one(given: Mapping, part: str) -> tuple[str, Mapping]:
    if len(given) != 1 or not isinstance(next(iter(given.values())), (Mapping, type(None))):
        raise InputError(f"{part} as a dict is one name with its options, {{name: {{option: value}}}}, got {given!r}")
    [(name, options)] = given.items()
    return name, options or {}


def _loss(
    given: Any, weights: Mapping[str, float] | None, own_strategy: bool
) -> tuple[list[str] | None, dict[str, Any] | None, dict[str, Loss], dict[str, float], Objective | None]:
    """Order of the terms (None: the strategy's own), named terms with options (None: the strategy's own), losses,
    their weights, objective."""
    if isinstance(given, Objective):
        if weights:
            raise InputError("weights: the objective in loss= has weights of its own; leave weights= out")
        return None, {"ce": {}}, {}, {}, given
    if given is None and not own_strategy and not weights:
        return None, None, {}, {}, None
    if given is None:
        given = DEFAULT_TERMS if own_strategy else None
        if given is None:
            raise InputError(
                'weights= needs the terms that they belong to: give loss= too, for example loss=["ce", "kd"]'
            )
    given = [given] if isinstance(given, (str, Mapping)) else given
    if isinstance(given, Loss) or not isinstance(given, Sequence):
        raise InputError(f'loss must be names ["ce", "kd"], {{name: options or loss}} or an Objective, got {given!r}')
    terms: dict[str, Any] = {}
    for one in given:
        several = dict.fromkeys([one]) if isinstance(one, str) else one
        if not isinstance(several, Mapping):
            raise InputError(f"loss: a term is a name, or {{name: options or loss}}, got {type(one).__name__}")
        if twice := [name for name in several if name in terms]:
            raise InputError(f"loss: the term '{twice[0]}' is there twice")
        terms.update(several)
    if not terms:
        raise InputError('loss: no term is chosen; for example loss=["ce", "kd"]')
    strangers = [name for name in weights or {} if name not in terms]
    if strangers:
        raise InputError(f"weights: there is no term '{strangers[0]}'{did_you_mean(strangers[0], terms)} in loss")
    losses = {name: value for name, value in terms.items() if isinstance(value, Loss)}
    named = {name: dict(value or {}) for name, value in terms.items() if isinstance(value, (Mapping, type(None)))}
    wrong = [name for name in terms if name not in losses and name not in named]
    if wrong:
        raise InputError(
            f"loss.{wrong[0]} must be a dict of options or a kdlab.Loss, got {terms[wrong[0]]!r}"
            + ("; its weight is given with weights=" if isinstance(terms[wrong[0]], (int, float)) else "")
        )
    for name, weight in (weights or {}).items():
        if name in named:
            named[name]["weight"] = weight
    own = {name: _weight(name, (weights or {}).get(name, 1.0)) for name in losses}
    return list(terms), named or {"ce": {}}, losses, own, None


def _weight(name: str, weight: object) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
        raise InputError(f"weights: the weight of '{name}' must be a number of at least 0, got {weight!r}")
    return float(weight)


def _texts(part: str, options: Mapping) -> list[str]:
    return [f"++{part}.{key}={value_text(_plain(f'{part}.{key}', value))}" for key, value in options.items()]


def _plain(key: str, value: Any) -> Any:
    """A value that a config can hold; NumPy's and torch's numbers become Python's."""
    if isinstance(value, Mapping):
        return {name: _plain(f"{key}.{name}", one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(key, one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)) and type(value).__module__ == "builtins":
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return value.item()
    raise InputError(f"{key} must be a plain value (a number, a text, a list, a dict), got {type(value).__name__}")


def _optimization(
    config: dict, make_optimizer: Callable | None, make_scheduler: Callable | None, given_lr: dict, described: dict
) -> OptimizerRecipe:
    made = make_optimization(config)
    if make_optimizer is not None:
        described["optimizer"] = {**describe(make_optimizer), **given_lr}
        made.optimizer = _calling(make_optimizer, "optimizer", given_lr)
    if make_scheduler is not None:
        described["scheduler"] = describe(make_scheduler)
        made.scheduler, made.interval, made.horizon = _calling(make_scheduler, "scheduler", {}), "epoch", None
    return made


def _calling(factory: Callable, part: str, more: Mapping) -> Callable:
    """A factory whose errors name the argument."""

    def call(**given: Any) -> Any:
        try:
            return factory(**given, **more)
        except (ValueError, TypeError) as error:
            raise InputError(f"{part}: {error}") from error

    return call


def describe(made: Any) -> dict:
    """How an object of the user's own is written down: its class or function, and the plain values in it.

    >>> describe(functools.partial(torch.optim.SGD, lr=0.1))
    {'class': 'torch.optim.sgd.SGD', 'lr': 0.1}
    """
    if isinstance(made, functools.partial):
        return {**describe(made.func), **{key: _written(value) for key, value in made.keywords.items()}}
    named = made if inspect.isclass(made) or inspect.isroutine(made) else type(made)
    values = {} if named is made else {key: value for key, value in vars(made).items() if not key.startswith("_")}
    plain = {
        key: value for key, value in values.items() if isinstance(value, (bool, int, float, str)) and key != "training"
    }
    return {"class": f"{named.__module__}.{named.__qualname__}", **plain}


def _written(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_written(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else describe(value)["class"]
