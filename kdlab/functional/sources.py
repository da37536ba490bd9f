"""The source of a method: its paper, and the code with whose numbers it was compared. ``kdlab methods`` reads only
this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

#: the commit of each repository whose code computed the numbers in tests/golden
COMMITS = {
    "HobbitLong/RepDistiller": "b84f547c5db6a35318d4671d7d5c4de74c822403",
    "megvii-research/mdistiller": "a08d46f10d6102bd6e3f258ca5ac880b020ea259",
    "yzd-v/cls_KD": "1e5d48f36957ee460d39d7ebc592c6cc7f8f3d66",
    "hunto/image_classification_sota": "6f7a70a1dd57fd88413d83909d3d53243068f701",
    "hunto/DIST_KD": "2418f18b1fedd7c2646a7b1b9a27d5c674c2170b",
    "sunshangquan/logit-standardization-KD": "f6e5aa5172bad618e801163c3385322eea673754",
    "Jin-Ying/Multi-Level-Logit-Distillation": "5ee473fcf193dfb00a0598b64d0acfe6ad58a482",
    "yuanli2333/Teacher-free-Knowledge-Distillation": "d000ab378a409535a5f5f645b473e05e27529a02",
    "yoshitomo-matsubara/torchdistill": "3e4373c45214c5c56eebac481d5bfe8b8735aa05",
    "DefangChen/SimKD": "2b389c31ed7779aea31e7aaf0bb0f2d8b6ac2f01",
    "YingZhangDUT/Deep-Mutual-Learning": "c3d6ff1ecae282a1192be1b32aa38cfb669656ac",
    "shaoeric/Online-Knowledge-Distillation-via-Collaborative-Learning": "1ba546150c009dedea0587948a5d351e0538a120",
    "wangz3066/OnlineDistillGCN": "3e49c5872f387306e3ad58c7956346f31c8f0a8a",
    "Lan1991Xu/ONE_NeurIPS2018": "54afde30fe039c8bd66668f0d17944b451b8b189",
    "lgcnsai/PS-KD-Pytorch": "9aa0828d099f2faed16bbac258e4153902a55021",
    "alinlab/cs-kd": "b447f250405932501cb28db0dc09eadeab526b80",
    "Meta-knowledge-Lab/DLB": "8949a4621072cbd9d0d9d78bf8d9fba0f1814ed0",
    "luanyunteng/pytorch-be-your-own-teacher": "8045079f9933b3dd694dee5294faac0bd8d54fab",
    "jongwooko/distillm": "d47e77ff9d27721783b32213be38c1204230cc0a",
    "microsoft/LMOps": "4f2a9deb5f08e459fd44c2e4792344d78ca89fc3",
    "jongwooko/distillm-2": "fe4cf9bfbb4f83219dd1d69219800164b59685fa",
    "songmzhang/DSKD": "077337ac989045ccf11a6dd927418e3cf4f40971",
    "huggingface/trl": "f2cd57710ae345ea6428ae95363267fcf38a3dc8",
    "Nicolas-BZRD/llm-recipes": "ab6e79800d28a1820348d72fc43ad964bb51ac29",
    "bloomberg/minilmv2.bb": "0d78e201a8cd02dbf10de414ec418dd12afc37cd",
    "huawei-noah/Pretrained-Language-Model": "0598f02d7fc4eaa7b4cbc1e9d7ab18bc875c24f9",
    "intersun/PKD-for-BERT-Model-Compression": "9e9e860997ad4815f6ac655d1beb26a85ddd70bb",
    "huggingface/transformers-research-projects": "fccd0cdab03c1407bb7def05e1b48528fc817078",
    "airaria/TextBrewer": "2c105fa664bbc10669cd2888bd846d2c9b8afca8",
}

#: relative agreement, in float64, that tests/golden requires of the value and of every gradient
TOLERANCE = 1e-8

_MLKD = "mask_after_mean=true reuse_weak=true strong_correlations=false"
_DML = "update=alternating teachers=sum epsilon=1e-8"

#: entry of tests/golden -> the switches with which kdlab agrees, if they are not the defaults
SWITCHES = {
    "mlkd": _MLKD,
    "mlkd_logit_std": f"{_MLKD} standardised=true",
    "uskd": "rank_by_logarithm=true",
    "label_smoothing_tfkd": "smoothing_over=others",
    "sp_torchdistill": "norm=1",
    "cc_kernel": "normalise=false squared=false",
    "at_torchdistill": "form=paper",
    "ft_torchdistill": "form=paper",
    "pkd_kd": "reduction=elementmean",
    "tinybert_pred": "reduction=elementmean",
    "distillm_forward_kl": "skip_infinite=true",
    "distillm_reverse_kl": "skip_infinite=true",
    "distillm_symmetric_kl": "entropy=false skip_infinite=true",
    "distillm_js_distance": "skip_infinite=true",
    "distillm_tv_distance": "skip_infinite=true",
    "distillm_skewed_forward_kl": "entropy=false skip_infinite=true",
    "distillm_skewed_reverse_kl": "skip_infinite=true",
    "dskd_js_divergence": "epsilon=1e-9",
    "textbrewer_att_mse_sum_loss": "over_heads=sum",
    "textbrewer_att_ce_loss": "renormalise=false",
    "textbrewer_att_ce_mean_loss": "over_heads=mean renormalise=false",
    "textbrewer_pkd_loss": "mean_over_width=false",
    "dml_kl": _DML,
    "dml_total": _DML,
    "oad_dml_loss": "detach=false",
    "oad_co_distill_loss": "teachers=mean_logits",
    "one_kl": "epsilon=1e-7",
    "one_total": "epsilon=1e-7",
    "minillm_lmops": "whiten=true padding=counted",
    "trl_minillm_advantage": "discount_from=start padding=counted padding_length=1e-4 detach=false",
    **dict.fromkeys(
        ("distillm2_distillm_v1", "distillm2_distillm_v2", "distillm2_gkd", "distillm2_kd"), "detach_alpha=false"
    ),
    "uld_official": "positions=clamped",
    "uld_dskd": "positions=answer",
    "kdcl_mean": "rule=mean",
    "kdcl_naive_loss": "rule=naive",
}

#: a function or a class, unchanged by its decorator
Marked = TypeVar("Marked", bound=Callable[..., Any])

FAMILIES = ("divergence", "logits", "features", "relations", "transformer", "sequences", "strategy")
TASKS = ("classifier", "encoder", "language model")
#: kinds of networks that `kdlab methods --for` knows; the first three predict classes
KINDS = (*TASKS, "multi-label", "regression", "embedding")


@dataclass(frozen=True)
class Paper:
    """A paper: ``authors`` in citation form (Hinton et al.), and ``link``, a permanent address."""

    authors: str
    year: int
    title: str
    link: str

    def __str__(self) -> str:
        return f'{self.authors} ({self.year}), "{self.title}", {self.link}'


@dataclass(frozen=True)
class Method:
    """A method's family and sources, besides its formula.

    Args:
        family: one of FAMILIES. ``strategy`` is for strategies, and for functions that are part of a strategy and not a
            loss term by themselves.
        paper: the paper; None if there is none, which only a strategy may have.
        verified: repository (a key of COMMITS) -> the entries of tests/golden that agree with it, separated by blanks.
            Empty if neither code of the authors nor a known re-implementation was run.
        serves: the tasks for which it is suitable.
    """

    family: str
    paper: Paper | None
    verified: Mapping[str, str]
    serves: tuple[str, ...]


def method(
    family: str,
    paper: Paper | None,
    verified: Mapping[str, str] | None = None,
    serves: tuple[str, ...] = ("classifier",),
) -> Callable[[Marked], Marked]:
    """Decorator: gives a pure function, or the class of a strategy, its :class:`Method`, as the attribute
    ``method``."""
    verified = dict(verified or {})
    if family not in FAMILIES or set(serves) - set(KINDS) or set(verified) - set(COMMITS):
        raise ValueError(f"unknown family, task or repository in method({family!r}, …, {verified!r}, {serves!r})")

    if paper is None and family != "strategy":
        raise ValueError(f"method({family!r}, None): only a strategy may have no paper")

    def mark(function: Marked) -> Marked:
        cast(Any, function).method = Method(family, paper, verified, tuple(serves))
        return function

    return mark


def method_of(thing: Callable[..., Any]) -> Method | None:
    """The :class:`Method` of a function or class. A class does not inherit that of its base: a subclass is another
    method.

    >>> @method("strategy", Paper("A et al.", 2000, "B", "https://example.org"))
    ... class Base:
    ...     pass
    >>> class Derived(Base):
    ...     pass
    >>> method_of(Base).paper.year, method_of(Derived)
    (2000, None)
    """
    return vars(thing).get("method")


def required_method(thing: Callable) -> Method:
    """The :class:`Method` of a function or class that has one. Raises ValueError where it has none."""
    found = method_of(thing)
    if found is None:
        raise ValueError(f"{thing!r} has no method: decorate it with kdlab.functional.sources.method")
    return found
