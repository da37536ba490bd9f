"""What a task reports, in plain data: run.json keeps it, so that a comparison knows each metric without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdlab.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Metric:
    """A number that is reported of predictions.

    Args:
        name: as in ``val/NAME`` and ``test/NAME``.
        higher_is_better: whether a higher value is better.
        unit: of the value; empty if it has none.
    """

    name: str
    higher_is_better: bool
    unit: str = ""


@dataclass(frozen=True)
class Report:
    """The metrics of a task.

    Args:
        task: the task's name.
        answers: what the columns of a network's answers are: ``classes``, ``labels``, ``values`` or ``vectors``
            (:class:`kdlab.tasks.Task`).
        metrics: the first is the headline: it chooses the best checkpoint and is the main column of a comparison.
    """

    task: str
    answers: str
    metrics: tuple[Metric, ...]

    @property
    def headline(self) -> Metric:
        """The metric that chooses the best checkpoint."""
        return self.metrics[0]

    def higher_is_better(self, name: str) -> bool:
        """Whether a higher value of a metric is better. Losses are better if lower; of an unknown metric, higher is.

        Args:
            name: a metric, also with ``val/`` or ``test/`` before it and ``_best`` after it.

        >>> [CLASSIFICATION.higher_is_better(name) for name in ("accuracy", "val/nll_best", "train/loss_kd", "class_3")]
        [True, False, False, True]
        """
        split, _, rest = name.rpartition("/")
        plain = rest.removesuffix("_best")
        if split == "train" and (plain == "loss" or plain.startswith("loss_")):
            return False
        return next((metric.higher_is_better for metric in self.metrics if metric.name == plain), True)

    def is_share(self, name: str) -> bool:
        """Whether a metric is a share between 0 and 1, so that a student's can be a part of its teacher's. An unknown
        metric (the recall of a class) counts as one.

        >>> [REGRESSION.is_share(name) for name in ("mse", "r2")], CLASSIFICATION.is_share("accuracy")
        ([False, False], True)
        """
        known = next((metric for metric in self.metrics if metric.name == name), None)
        return known is None or known.higher_is_better and known.unit.startswith("share")

    def measuring(self, names: Sequence[str]) -> Report:
        """The report with the named metrics first: those of :data:`FURTHER` too, which are measured only where they are
        named.

        Raises:
            InputError: the task has no such metric.

        >>> [one.name for one in CLASSIFICATION.measuring(["mcc", "nll"]).metrics]
        ['mcc', 'nll', 'accuracy', 'ece', 'agreement', 'kl_to_teacher']
        """
        if not names:
            return self
        known = {one.name: one for one in (*self.metrics, *FURTHER.get(self.task, ()))}
        fidelity = [one.name for one in (AGREEMENT, KL_TO_TEACHER, MSE_TO_TEACHER)]
        choices = [name for name in known if name not in fidelity]
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InputError(f"task.measured must be a list of metrics, for example [{choices[-1]}], got {names!r}")
        if strangers := [name for name in names if name not in choices]:
            raise InputError(
                f"task.measured: task={self.task} has no metric {strangers[0]!r}{did_you_mean(strangers[0], choices)} "
                f"(it has {', '.join(choices)})"
            )
        first = tuple(known[name] for name in dict.fromkeys(names))
        return replace(self, metrics=(*first, *(one for one in self.metrics if one not in first)))

    def as_record(self) -> dict[str, Any]:
        """The entry ``task`` of run.json; :meth:`of` reads it."""
        return {
            "name": self.task,
            "answers": self.answers,
            "metrics": [
                {"name": one.name, "higher_is_better": one.higher_is_better, "unit": one.unit} for one in self.metrics
            ],
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Report:
        """The report of a run, from its record. Records that were written before tasks could be chosen are of
        classifiers.

        Raises:
            ValueError: the entry ``task`` is damaged.

        >>> Report.of({}).headline.name, Report.of({"task": CLASSIFICATION.as_record()}) == CLASSIFICATION
        ('accuracy', True)
        """
        node = record.get("task")
        if node is None:
            return CLASSIFICATION
        try:
            metrics = tuple(
                Metric(str(one["name"]), bool(one["higher_is_better"]), str(one.get("unit", "")))
                for one in node["metrics"]
            )
            if not metrics:
                raise ValueError("there are no metrics")
            return cls(str(node["name"]), str(node["answers"]), metrics)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"task is {node!r}, and should name a task and its metrics") from error


def report_of(config: Mapping[str, Any]) -> Report:
    """The report of the task that a config names, without torch for kdlab's own tasks.

    >>> report_of({}).task, report_of({"task": {"_target_": "kdlab.tasks.Regression"}}).headline.name
    ('classification', 'mse')

    Raises:
        LookupError: there is no such task.
        InputError: the task has no metric that ``measured`` names.
    """
    node = config.get("task") or {}
    target = node.get("_target_")
    if target is None:
        return CLASSIFICATION
    name = target.rpartition(".")[2] if target.startswith("kdlab.tasks.") else ""
    if name in REPORTS:
        return REPORTS[name].measuring(node.get("measured") or ())
    from kdlab.config.signature import locate

    task: Any = locate(target)
    report: Report = task.report
    return report


#: reported of a run with one teacher, in addition (:mod:`kdlab.measure.fidelity`)
AGREEMENT, KL_TO_TEACHER = Metric("agreement", True, "share"), Metric("kl_to_teacher", False, "nats")
MSE_TO_TEACHER = Metric("mse_to_teacher", False, "target units squared")

CLASSIFICATION = Report(
    "classification",
    "classes",
    (
        Metric("accuracy", True, "share"),
        Metric("nll", False, "nats"),
        Metric("ece", False, "share"),
        AGREEMENT,
        KL_TO_TEACHER,
    ),
)
MULTILABEL = Report(
    "multilabel",
    "labels",
    (
        Metric("accuracy", True, "share of labels"),
        Metric("exact_match", True, "share of samples"),
        Metric("f1", True, "share, mean over labels"),
        Metric("bce", False, "nats a label"),
        AGREEMENT,
        KL_TO_TEACHER,
    ),
)
REGRESSION = Report(
    "regression",
    "values",
    (
        Metric("mse", False, "target units squared"),
        Metric("mae", False, "target units"),
        Metric("r2", True),
        MSE_TO_TEACHER,
    ),
)
TOKEN_CLASSIFICATION = Report(
    "token_classification",
    "classes",
    (
        Metric("f1", True, "share, mean over classes"),
        Metric("accuracy", True, "share of tokens"),
        Metric("nll", False, "nats a token"),
        AGREEMENT,
        KL_TO_TEACHER,
    ),
)


def _words(task: str, row: str) -> Report:
    """What is reported of a task whose classes are the words of a vocabulary."""
    return Report(
        task,
        "classes",
        (
            Metric("nll", False, f"nats a {row}"),
            Metric("perplexity", False, f"of a {row}"),
            Metric("accuracy", True, f"share of {row}s"),
            AGREEMENT,
            KL_TO_TEACHER,
        ),
    )


MASKED_LM, CAUSAL_LM = _words("masked_lm", "masked token"), _words("causal_lm", "token")
EMBEDDING = Report(
    "embedding",
    "vectors",
    (
        Metric("similarity_correlation", True, "correlation"),
        Metric("cosine_to_teacher", True, "cosine"),
        Metric("retrieval_agreement", True, "share of the 10 nearest neighbours"),
    ),
)
#: class of :mod:`kdlab.tasks` -> its report
REPORTS = {
    "Classification": CLASSIFICATION,
    "MultiLabel": MULTILABEL,
    "Regression": REGRESSION,
    "TokenClassification": TOKEN_CLASSIFICATION,
    "MaskedLM": MASKED_LM,
    "CausalLM": CAUSAL_LM,
    "Embedding": EMBEDDING,
}
#: name of a task -> the metrics that it measures only where ``task.measured`` names them
FURTHER = {
    "classification": (
        Metric("f1", True, "share; of class 1 if there are two, else the mean over classes"),
        Metric("mcc", True, "correlation"),
    ),
    "regression": (Metric("pearson", True, "correlation"), Metric("spearman", True, "correlation")),
    "causal_lm": (
        Metric("exact_match", True, "share of answers"),
        Metric("answer_tokens", True, "tokens"),
        Metric("truncated", False, "share of answers"),
        Metric("rouge_l", True, "share, F1 of the longest common subsequence"),
        Metric("distinct_1", True, "share of tokens"),
        Metric("distinct_2", True, "share of pairs of tokens"),
    ),
}
