"""Defects in what is measured: fidelity, alignment, FLOPs, memory, speed, scores."""

DEFECTS = [
    ("measure/fidelity.py", "forward_kl(ours.double(), theirs.double())", "forward_kl(theirs.double(), ours.double())"),
    ("measure/fidelity.py", 'average="micro"', 'average="macro"'),
    ("measure/fidelity.py", "return total / len(student)", "return total / min(len(student), _ROWS)"),
    ("measure/fidelity.py", "if teacher is None or teacher.shape != student.shape:", "if teacher is None:"),
    ("measure/flops.py", "copy.deepcopy(network).cpu().eval()", "copy.deepcopy(network).cpu()"),
    ("measure/flops.py", "copy.deepcopy(network).cpu().eval()", "network.cpu().eval()"),
    (
        "measure/flops.py",
        "return count if count or not any(True for _ in network.parameters()) else None",
        "return count",
    ),
    ("measure/alignment.py", "return feature.mean(1)", "return feature.mean(2)"),
    ("measure/alignment.py", "_from_the_first(part) for part in", "part.float() for part in"),
    ("measure/alignment.py", "result.setdefault(tap, {})[other] =", "result.setdefault(other, {})[tap] ="),
    ("measure/memory.py", "self.most = max(self.most, self.now)", "self.most = self.now"),
    ("measure/memory.py", "            if address not in self._known:\n", "            if True:\n"),
    ("measure/size.py", "(value.data_ptr(), value.shape, value.stride())", "name"),
    ("measure/speed.py", "[:: -1 if turn % 2 else 1]", ""),
    ("measure/speed.py", "np.percentile(durations, [50, 90])", "np.percentile(durations, [50, 95])"),
    ("measure/speed.py", "batch * len(durations) / sum(durations)", "len(durations) / sum(durations)"),
    ("measure/speed.py", "        finish()\n", ""),
    ("metrics.py", "2 / (size - 2) * (rows * columns).sum()", "2 / (size - 1) * (rows * columns).sum()"),
    ("metrics.py", "k, m = (x - torch.diag(x.diagonal()) for x in (k, m))", "k, m = k, m"),
    ("metrics.py", "probabilities.minimum(below_one)", "probabilities"),
    (
        "tasks/classification.py",
        '"nll": cross_entropy(logits, target).mean().item()',
        '"nll": cross_entropy(logits, target).sum().item()',
    ),
    ("tasks/classification.py", 'alternative="greater"', 'alternative="two-sided"'),
    (
        "tasks/classification.py",
        "frequent = (target.bincount().max() / len(target)).item()",
        "frequent = 1 / self.classes",
    ),
]
