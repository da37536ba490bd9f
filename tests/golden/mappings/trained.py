"""Online and self-distillation through the strategies themselves: networks that answer with the case's logits, and one
step of ``distill``."""

from collections import OrderedDict

import torch
from torch import nn

from kdlab import functional
from kdlab.batch import Batch
from kdlab.losses import CrossEntropy, HintonKD, MutualKL, OneKL, SoftCrossEntropy, VirtualTeacher
from kdlab.objective import Objective
from kdlab.outputs import Outputs
from kdlab.schedules import Complement, RampUp, WarmUp
from kdlab.strategies import (
    ClassWise,
    Collaborative,
    LastBatch,
    NativeEnsemble,
    Offline,
    Online,
    OwnTeacher,
    Progressive,
    Step,
    Supervised,
)
from kdlab.strategies.cohort import Peer
from kdlab.strategies.optimization import OptimizerRecipe
from kdlab.tasks import Classification
from kdlab.teachers import Frozen
from kdlab.training.preparation import prepare


class Says(nn.Module):
    """A network whose inputs are the numbers of the samples, and which answers with the case's logits of those."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits  # a plain attribute: the gradient is that of the case's own tensor

    def forward(self, index):
        return self.logits[index]


def batch_of(target, epoch=0):
    index = torch.arange(len(target))
    return Batch(index, target, index, epoch=epoch)


def strategy_of(kind, student, terms, weights, target, *, teacher=None, prepared=True, schedules=None, **options):
    """A strategy as a run has it, ready for a step on ``batch_of(target)``. A case without labels is prepared with
    them, as a run must be, and then they count nothing."""
    unlabelled = not any(weights.get(name) for name, term in terms.items() if not term.needs_teacher)
    terms, weights = ({"ce": CrossEntropy(), **terms}, {**weights, "ce": 1.0}) if unlabelled else (terms, weights)
    recipe = OptimizerRecipe(lambda params: torch.optim.SGD(params, lr=0.1))
    made = kind(
        student=student,
        teacher=teacher,
        objective=Objective(terms, weights, schedules),
        task=Classification(int(target.max()) + 1),
        optimization=recipe,
        **options,
    )
    made.task.classes = None  # logits of a case may have more classes than its labels show
    if prepared:
        prepare(made, batch_of(target), len(target), target)
    for objective in (made.objective, *getattr(made, "objectives", {}).values()) if unlabelled else ():
        objective.weights["ce"] = 0.0
    return made.double().train()


def dml_kl(case):
    """The student's loss of the pair: the peer's part of the sum is 0, since it has no other weights than the
    student's."""
    terms, weights = {"mutual_kl": MutualKL(case.hyper["temperature"], epsilon=case.hyper["eps"])}, {"mutual_kl": 1.0}
    online = strategy_of(
        Online,
        Says(case["logits_self"]),
        terms,
        weights,
        torch.zeros(len(case["logits_self"]), dtype=torch.long),
        peers={"peer": Peer(Says(case["logits_peer"]))},
        update="alternating",
        teachers="sum",
    )
    return online.distill(batch_of(torch.zeros(len(case["logits_self"]), dtype=torch.long))).loss.total


def dml_total(case):
    """The authors update one network after the other: the first one's turn."""
    student, *peers = case.several("logits_")
    terms, weights = {"ce": CrossEntropy(), "mutual_kl": MutualKL(epsilon=1e-8)}, {"ce": 1.0, "mutual_kl": 1.0}
    online = strategy_of(
        Online,
        Says(student),
        terms,
        weights,
        case["target"],
        teachers="sum",
        update="alternating",
        peers={f"peer{number}": Peer(Says(logits)) for number, logits in enumerate(peers)},
    )
    return online.distill(batch_of(case["target"])).loss.total


def _cohort(kind, case, terms, weights, **options):
    """The case's networks under a strategy, the first of them as the student."""
    student, *peers = case.several("logits_")
    named = {f"peer{number}": Peer(Says(logits)) for number, logits in enumerate(peers, start=2)}
    return strategy_of(kind, Says(student), terms, weights, case["target"], peers=named, **options)


def kdcl_mean(case):
    alpha = case.hyper["alpha"]
    strategy = _cohort(
        Collaborative,
        case,
        {"ce": CrossEntropy(), "kd": HintonKD(case.hyper["T"])},
        {"ce": 1 - alpha, "kd": alpha},
        rule="mean",
    )
    loss = strategy.distill(batch_of(case["target"])).loss
    each = [(1 - alpha) * loss.parts[f"ce_{name}"] + alpha * loss.parts[f"kd_{name}"] for name in strategy.networks()]
    return loss.total, {"loss_per_net": torch.stack(each)}


def _graph(kind, case, **options):
    """OnlineDistillGCN: no cross-entropy inside; the sum over rows is divided by B * B * C."""
    rows, classes = case.several("logits_")[0].shape
    strategy = _cohort(kind, case, {"kd": HintonKD(case.hyper["temp"])}, {"kd": 1.0}, **options)
    return strategy.distill(batch_of(case["target"]).replace(normaliser=rows * rows * classes))


def kdcl_naive_loss(case):
    """There the chosen network is left out of the sum: what it learns from itself is 0, and so is the gradient."""
    return _graph(Collaborative, case, rule="naive").loss.total


def kdcl_minlogit(case):
    step = _graph(Collaborative, case, rule="min_logit")
    return step.loss.total, {"target_logits": step.outputs["target"].logits}


def oad_co_distill_loss(case):
    return _graph(Online, case, teachers="mean_logits").loss.total


class _Answers(nn.Module):
    """What lies behind the split: the case's logits, whatever the shared feature is."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, shared):
        return self.logits


def _branched(shared, branches, target, terms, weights):
    """ONE on a stem that gives the shared feature, and branches that give the case's logits."""
    student, *peers = [nn.Sequential(OrderedDict(stage1=Says(shared), head=_Answers(logits))) for logits in branches]
    return strategy_of(
        NativeEnsemble,
        student,
        terms,
        weights,
        target,
        peers={f"peer{number}": Peer(peer) for number, peer in enumerate(peers)},
    )


def one_kl(case):
    """A gate of equal shares, and a second branch that makes the ensemble the case's; it does not learn itself."""
    student, ensemble = case["student_logits"], case["ensemble_logits"]
    target = torch.zeros(len(student), dtype=torch.long)
    terms = {"ce": CrossEntropy(), "one_kl": OneKL(case.hyper["temperature"], case.hyper["eps"])}
    shared, branches = torch.zeros(len(student), 1, dtype=torch.float64), [student, (2 * ensemble - student).detach()]
    strategy = _branched(shared, branches, target, terms, {"ce": 0.0, "one_kl": 1.0})
    strategy.gate.linear.weight.data.zero_()
    strategy.objectives["branch2"].weights["one_kl"] = 0.0
    return strategy.distill(batch_of(target)).loss.total


def one_total(case):
    epsilon, temperature = case.hyper.get("eps", 1e-7), case.hyper.get("temperature", 3.0)
    terms, rising = (
        {"ce": CrossEntropy(), "one_kl": OneKL(temperature, epsilon)},
        RampUp(end=1.0, epochs=case.hyper["consistency_rampup"]),
    )
    weight = rising(case.hyper["epoch"])
    strategy = _branched(
        case["gate_feature"], case.several("logits_"), case["target"], terms, {"ce": 1.0, "one_kl": weight}
    )
    case.put("gate_weight", strategy.gate.linear.weight)
    case.put("gate_bias", strategy.gate.linear.bias)
    step = strategy.distill(batch_of(case["target"]))
    cross = sum(value for name, value in step.loss.parts.items() if name.startswith("ce_"))
    return step.loss.total, {
        "gate": strategy.gate(case["gate_feature"]),
        "ensemble_logits": step.outputs["ensemble"].logits,
        "consistency_weight": torch.tensor(weight, dtype=torch.float64),
        "loss_cross": cross,
    }


def pskd(case):
    """What was said before is said in a step before; in the first epoch nothing was."""
    epoch, target = case.hyper["epoch"], case["target"]
    alpha = WarmUp(case.hyper["alpha_T"], case.hyper["end_epoch"])
    progressive = strategy_of(
        Progressive,
        Says(case["student_logits"]),
        {"ce": CrossEntropy(), "soft_cross_entropy": SoftCrossEntropy()},
        {"ce": 1.0, "soft_cross_entropy": 1.0},
        target,
        schedules={"ce.weight": Complement(alpha), "soft_cross_entropy.weight": alpha},
    )
    batch = batch_of(target, epoch)
    if epoch > 0:
        progressive.after_step(Step(None, {"student": Outputs(case["previous_probs"].log())}), batch)
    progressive.objective.advance(epoch)
    weights, taught = progressive.objective.weights, progressive.taught_by(batch).logits
    onehot = torch.nn.functional.one_hot(target, taught.shape[1]).double()
    return progressive.distill(batch).loss.total, {
        "soft_targets": weights["ce"] * onehot + weights["soft_cross_entropy"] * taught.softmax(-1)
    }


class SaysInStages(Says):
    """With a stage that gives each feature of the case, and the deepest one."""

    def __init__(self, logits, deepest, features):
        super().__init__(logits)
        self.stages = nn.ModuleList(map(Says, features))
        self.embedding = Says(deepest)

    def forward(self, index):
        for stage in (*self.stages, self.embedding):
            stage(index)
        return super().forward(index)


class ExitSays(nn.Module):
    """In the place of an exit: its bottleneck's feature and its logits are the case's."""

    def __init__(self, logits, feature):
        super().__init__()
        self.logits, self.feature = logits, feature

    def forward(self, feature):
        return self.logits, self.feature


def byot(case):
    """A part of weight 0 is not computed by the strategy; what the case has of it is then what the function behind it
    says."""
    alpha, logits, features = case.hyper["alpha"], case.several("logits_"), case.several("feature_")
    network = SaysInStages(case["logits_final"], case["feature_final"], features)
    kd = SoftCrossEntropy(case.hyper["temperature"], temperature_squared=True)
    own = strategy_of(
        OwnTeacher,
        network,
        {"ce": CrossEntropy(), "kd": kd},
        {"ce": 1 - alpha, "kd": alpha},
        case["target"],
        exits=[f"stages.{number}" for number in range(len(logits))],
        feature_weight=case.hyper["beta"],
    )
    for name, exit_logits, feature in zip(own.exits, logits, features, strict=True):
        own.exits[name] = ExitSays(exit_logits, feature)
    loss = own.distill(batch_of(case["target"])).loss
    final = Outputs(case["logits_final"].detach())
    unweighted = {
        "kd": [kd(Outputs(exit_logits), final, None).mean() for exit_logits in logits],
        "feature": [
            functional.byot_feature(feature, case["feature_final"], positive_only=True, reduction="sum")
            for feature in features
        ],
    }
    return loss.total, {
        part: torch.stack([loss.parts.get(f"{part}_{name}", value) for name, value in zip(own.exits, values)])
        for part, values in unweighted.items()
    }


def _class_wise(case, target, weights):
    """The second half of the batch are the partners of the first."""
    network, both = Says(torch.cat([case["logits"], case["pair_logits"]])), torch.cat([target, target])
    strategy = strategy_of(
        ClassWise, network, {"ce": CrossEntropy(), "kd": HintonKD(case.hyper["temp"])}, weights, both
    )
    return strategy.distill(batch_of(both)).loss


def cskd_kl(case):
    return _class_wise(case, torch.zeros(len(case["logits"]), dtype=torch.long), {"ce": 0.0, "kd": 1.0}).taught


def cskd_total(case):
    return _class_wise(case, case["target"], {"ce": 1.0, "kd": case.hyper["lamda"]}).total


def dlb(case):
    """Two steps. The samples of the first have the first numbers, and their second view further ones, so that the
    network says what was recorded of the first view and the case's logits of the second."""
    recorded, again, current = case["logits_previous_recorded"], case["logits_previous_view2"], case["logits_current"]
    number = torch.arange(len(recorded) + len(again) + len(current)).split([len(recorded), len(again), len(current)])
    batches = [
        Batch(inputs, target, inputs, further_views=(view,))
        for inputs, view, target in (
            (number[0], number[1], case["target_previous"]),
            (number[2], number[2], case["target_current"]),
        )
    ]
    strategy = strategy_of(
        LastBatch,
        Says(torch.cat([recorded, again, current])),
        {"ce": CrossEntropy(), "kd": HintonKD(case.hyper["T"])},
        {"ce": 1.0, "kd": case.hyper["alpha"]},
        torch.cat([case["target_previous"], case["target_current"]]),
    )
    first = strategy.distill(batches[0])
    strategy.after_step(first, batches[0])
    return strategy.distill(batches[1]).loss.total, {"ce_first_iteration": first.loss.total}


def _tf_kd(case, times):
    """Tf-KD's KL divergence is a mean over rows and classes."""
    alpha, classes = case.hyper["alpha"], case["student_logits"].shape[1]
    offline = strategy_of(
        Offline,
        Says(case["student_logits"]),
        {"ce": CrossEntropy(), "kd": HintonKD(case.hyper["temperature"])},
        {"ce": 1 - alpha, "kd": alpha * times / classes},
        case["target"],
        teacher=Frozen(Says(case["teacher_logits"]), Classification(classes)),
    )
    return offline.distill(batch_of(case["target"])).loss.total


def tfkd_kd(case):
    return _tf_kd(case, 1.0)


def tfkd_self(case):
    return _tf_kd(case, case.hyper["multiplier"])


def tfkd_reg(case):
    alpha, classes = case.hyper["reg_alpha"], case["student_logits"].shape[1]
    teacher = VirtualTeacher(case.hyper.get("correct_prob", 0.99), case.hyper["reg_temperature"])
    supervised = strategy_of(
        Supervised,
        Says(case["student_logits"]),
        {"ce": CrossEntropy(), "virtual_teacher": teacher},
        {"ce": 1 - alpha, "virtual_teacher": alpha * case.hyper["multiplier"] / classes},
        case["target"],
    )
    return supervised.distill(batch_of(case["target"])).loss.total


_MAPPINGS = (
    dml_kl,
    dml_total,
    kdcl_mean,
    kdcl_naive_loss,
    kdcl_minlogit,
    oad_co_distill_loss,
    one_kl,
    one_total,
    pskd,
    byot,
    cskd_kl,
    cskd_total,
    dlb,
    tfkd_kd,
    tfkd_self,
    tfkd_reg,
)
ENTRIES = {mapping.__name__: mapping for mapping in _MAPPINGS}
