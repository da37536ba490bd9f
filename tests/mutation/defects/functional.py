"""Defects in the pure functions."""

DEFECTS = [
    (
        "functional/divergences.py",
        "kl(log_p, log_q, _skipped(log_p, log_q, skip_infinite)), mask",
        "kl(log_q, log_p, _skipped(log_p, log_q, skip_infinite)), mask",
    ),
    (
        "functional/divergences.py",
        "return reduced(kl(log_q, log_p, _skipped",
        "return reduced(kl(log_p, log_q, _skipped",
    ),
    (
        "functional/divergences.py",
        "((1 - reverse_weight, log_p, log_q, entropy), (reverse_weight, log_q, log_p, True))",
        "((reverse_weight, log_p, log_q, entropy), (1 - reverse_weight, log_q, log_p, True))",
    ),
    (
        "functional/divergences.py",
        "values = values / (teacher_weight * (1 - teacher_weight))",
        "values = values * (teacher_weight * (1 - teacher_weight))",
    ),
    (
        "functional/divergences.py",
        "values = teacher_weight * first + (1 - teacher_weight) * second",
        "values = 0.5 * first + 0.5 * second",
    ),
    (
        "functional/divergences.py",
        "kl(log_p, log_mixture(log_p, log_q, teacher_weight)",
        "kl(log_p, log_mixture(log_q, log_p, teacher_weight)",
    ),
    ("functional/divergences.py", "log_q.detach() if detach_mixture else log_q", "log_q"),
    ("functional/divergences.py", "0.5 * difference.sum(-1)", "difference.sum(-1)"),
    ("functional/divergences.py", "ascending.cumsum(-1) <= tail_mass", "ascending.cumsum(-1) >= tail_mass"),
    (
        "functional/divergences.py",
        "(1 - tail_share) * kl(log_p, log_q, skipped) + tail_share * kl(log_q, log_p, skipped)",
        "tail_share * kl(log_p, log_q, skipped) + (1 - tail_share) * kl(log_q, log_p, skipped)",
    ),
    (
        "functional/divergences.py",
        "p, gap = log_p.exp(), (log_p.exp() - log_q.exp()).abs().detach()",
        "p, gap = log_p.exp(), (log_p.exp() - log_q.exp()).abs()",
    ),
    (
        "functional/divergences.py",
        "(without_masked(teacher, mask) / temperature).log_softmax(-1)",
        "without_masked(teacher, mask).log_softmax(-1)",
    ),
    (
        "functional/logits.py",
        "    return values * temperature**2 if temperature_squared else values\n"
        "\n"
        "\n"
        '@method("logits", _HINTON, {"huawei',
        '    return values * temperature if temperature_squared else values\n\n\n@method("logits", _HINTON, {"huawei',
    ),
    (
        "functional/logits.py",
        "forward_kl(student, teacher, temperature, mask=mask, reduction=reduction)",
        "forward_kl(teacher, student, temperature, mask=mask, reduction=reduction)",
    ),
    (
        "functional/logits.py",
        "squares.mean(-1) if mean_over_classes else squares.sum(-1)",
        "squares.sum(-1) if mean_over_classes else squares.mean(-1)",
    ),
    ("functional/logits.py", "(1 - correct_probability) / (classes - 1)", "(1 - correct_probability) / classes"),
    ("functional/logits.py", "without_masked(teacher, mask).argmax(-1)", "without_masked(teacher, mask).argmin(-1)"),
    (
        "functional/logits.py",
        "(target.masked_fill(ignored, 0), ~ignored)",
        "(target.masked_fill(ignored, 0), torch.ones_like(ignored))",
    ),
    ("functional/decoupled.py", "label + gamma * rest", "label + rest"),
    ("functional/decoupled.py", "-torch.expm1(-mine / theirs", "-torch.expm1(-theirs / mine"),
    (
        "functional/decoupled.py",
        "teacher.softmax(-1).gather(-1, own).detach() * student.log_softmax",
        "teacher.softmax(-1).gather(-1, own) * student.log_softmax",
    ),
    (
        "functional/decoupled.py",
        "soft_cross_entropy(*others, temperature, temperature_squared=True)",
        "soft_cross_entropy(*others, temperature)",
    ),
    (
        "functional/rows.py",
        "rows = values.numel() if mask is None else (mask != 0).sum().clamp(min=1)",
        "rows = values.numel()",
    ),
    ("functional/rows.py", "return values.sum() / len(values)", "return values.mean()"),
    ("functional/rows.py", "return x.masked_fill((mask == 0)[..., None], 0.0)", "return x * (mask != 0)[..., None]"),
    ("functional/rows.py", "return values.sum() / (rows * classes)", "return values.sum() / rows"),
    (
        "functional/temperature.py",
        "return constant - factor * (x - constant)",
        "return constant + factor * (x - constant)",
    ),
    ("functional/temperature.py", "values * temperature**2, mask", "values * temperature, mask"),
    (
        "functional/attention.py",
        "product(query, key.transpose(-2, -1)) / query.shape[-1] ** 0.5",
        "product(query, key.transpose(-2, -1)) / query.shape[-1]",
    ),
    ("functional/attention.py", 'heads, {"qk": 1.0, "vv": 1.0}', 'heads, {"qk": 1.0, "kk": 1.0}'),
    (
        "functional/attention.py",
        "terms.append(hidden_weight * sample_mean",
        "terms.append(attention_weight * sample_mean",
    ),
    (
        "functional/attention.py",
        'scores.sum(1) if over_heads == "sum" else scores.mean(1)',
        'scores.mean(1) if over_heads == "sum" else scores.sum(1)',
    ),
    (
        "functional/relations.py",
        "(difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)",
        "(difference[:-1] * difference[1:]).sum() / len(difference)",
    ),
    ("functional/relations.py", "distances / (distances.sum() / (size * (size - 1)))", "distances / distances.mean()"),
    ("functional/relations.py", "F.smooth_l1_loss(gram(unit(s)), gram(unit(t)))", "F.smooth_l1_loss(gram(s), gram(t))"),
    (
        "functional/relations.py",
        "(t * ((t + epsilon) / (s + epsilon)).log()).mean()",
        "(s * ((s + epsilon) / (t + epsilon)).log()).mean()",
    ),
    (
        "functional/relations.py",
        's, t = (gram(x - x.mean(0)) for x in flat(student, teacher, "cka"))',
        's, t = (gram(x) for x in flat(student, teacher, "cka"))',
    ),
    (
        "functional/features.py",
        "(student - teacher).square().flatten(1).mean(1)",
        "(student - teacher).square().flatten(1).sum(1)",
    ),
    ("functional/features.py", "unit(x.pow(power).mean(1).flatten(1))", "unit(x.pow(power).mean((2, 3)))"),
    (
        "functional/features.py",
        "0.5 * ((student - teacher).square() / variance + variance.log())",
        "0.5 * ((student - teacher).square() / variance - variance.log())",
    ),
    (
        "functional/ab.py",
        "torch.where(teacher > 0, (margin - student).relu(), (margin + student).relu())",
        "torch.where(teacher > 0, (margin + student).relu(), (margin - student).relu())",
    ),
    ("functional/ofd.py", "torch.where(target > 0, difference, difference.relu())", "difference"),
    (
        "functional/grams.py",
        "mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t)",
        "mean_kernel(t, t) + mean_kernel(s, s) - mean_kernel(s, t)",
    ),
    ("functional/branches.py", "(student <= 0) & (deepest <= 0)", "(student <= 0) | (deepest <= 0)"),
    ("functional/branches.py", "p = log_p.exp() + epsilon", "p = log_p.exp()"),
    (
        "functional/semckd.py",
        "(attention * counted(errors, mask)).sum(-1).mean(-1)",
        "(attention * counted(errors, mask)).mean(-1).mean(-1)",
    ),
    ("functional/peers.py", "return stack.detach() if detach else stack", "return stack"),
    (
        "functional/targets.py",
        "(stack - stack.gather(-1, labels)).amin(0)",
        "(stack - stack.gather(-1, labels)).amax(0)",
    ),
    ("functional/policy.py", "ratio.clamp(1 - clip, 1 + clip)", "ratio.clamp(1 - clip, 1 + 2 * clip)"),
    ("functional/policy.py", "torch.maximum(-advantages * ratio,", "torch.minimum(-advantages * ratio,"),
    ("functional/policy.py", "torch.expm1(difference) - difference", "torch.expm1(difference) + difference"),
    (
        "functional/kernels.py",
        "torch.where(positive, x / torch.where(positive, length, torch.ones_like(length)), torch.zeros_like(x))",
        "x / length",
    ),
    ("functional/distillm.py", 'reversed(likelihood) if divergence == "skew_reverse" else likelihood', "likelihood"),
    (
        "functional/answers.py",
        "size = counted.sum(-1, keepdim=True) - int(skip_end)",
        "size = counted.sum(-1, keepdim=True)",
    ),
]
