"""Losses on sequences of tokens: MiniLLM's, DistiLLM-2's, and ULD in its four forms."""

import torch

from kdlab import functional


def minillm_lmops(case):
    """LMOps: padding takes part in the whitening; the single-step term has weight 1 or 0; the length is divided by
    always."""
    hyper, prompt, temperature = case.hyper, case["query_ids"].shape[1], case.hyper.get("temperature", 1.0)
    mask = functional.generated_mask(
        torch.cat([case["query_ids"], case["response_ids"]], 1), prompt, hyper.get("pad_id", 0)
    )
    student, teacher = (
        functional.predicting(case[f"{side}_logits"])[:, prompt - 1 :] for side in ("student", "teacher")
    )
    advantages = functional.discounted_advantage(
        case["rewards"], hyper["gamma"], whiten=True, padding="counted", mask=mask
    )

    def loss(single_step):
        return functional.minillm(
            student,
            teacher,
            case["response_ids"],
            case["old_logprobs"],
            advantages,
            case["w"],
            temperature,
            hyper["cliprange"],
            single_step,
            mask=mask,
            reduction="mean",
        )

    regulariser = functional.reverse_kl(student, teacher, temperature, mask=mask, reduction="mean")
    return loss(float(hyper["single_step_reg"])), _stored(
        case, advantages=advantages, pg_loss=loss(0.0), reg_loss=regulariser
    )


def minillm_rev_kl_metric(case):
    return functional.reverse_kl_estimate(
        case["student_logprob"], case["teacher_logprob"], mask=_given(case, "mask"), reduction="sum"
    )


def trl_minillm_advantage(case):
    hyper, mask = case.hyper, _given(case, "mask")
    rewards = functional.reverse_kl_reward(case["student_logprob"], case["teacher_logprob"], mask=mask)
    length = "discounted" if hyper["length_normalization"] else "none"
    advantages = functional.discounted_advantage(
        rewards,
        hyper["gamma"],
        length=length,
        discount_from="start",
        padding="counted",
        padding_length=1e-4,
        detach=False,
        mask=mask,
    )
    return advantages.sum(), _stored(case, advantage=advantages)


def distillm2(kind, teacher_term, student_term):
    """DistiLLM-2: mean over pairs. The further outputs are of the chosen texts, then of the rejected."""

    def call(case):
        hyper, halves = case.hyper, ("chosen", "rejected")
        student, teacher, labels = (
            [case[f"{name}_{half}"] for half in halves] for name in ("student_logits", "teacher_logits", "labels")
        )
        gradual = hyper.get("gradual_beta") and kind == "v2"
        loss = functional.distillm2(
            student[0],
            teacher[0],
            student[1],
            teacher[1],
            *labels,
            hyper["base_alpha_1"],
            hyper["base_alpha_2"],
            functional.distillm2_beta(hyper["global_step"], hyper["max_steps"]) if gradual else 1.0,
            kind=kind,
            forward_anchor=hyper.get("logp_logq") if kind == "v2" else None,
            reverse_anchor=hyper.get("logq_logp") if kind == "v2" else None,
            detach_alpha=False,
            reduction="mean",
        )
        outputs = {
            f"{side}_logps": torch.cat([_mean_log_probability(*text) for text in zip(logits, labels)])
            for side, logits in (("student", student), ("teacher", teacher))
        }
        for name, divergence, alpha, anchor in (
            ("tea_pos_kl", teacher_term, "base_alpha_1", "logp_logq"),
            ("ref_pos_kl", student_term, "base_alpha_2", "logq_logp"),
        ):
            if divergence is not None:
                weight = 0.9 if divergence == "jensen_shannon" else hyper[alpha]
                anchored = hyper.get(anchor) if kind == "v2" else None
                outputs[name] = torch.cat(
                    [
                        functional.text_divergence(*text, weight, anchored, divergence=divergence)
                        for text in zip(student, teacher, labels)
                    ]
                )
        return loss, _stored(case, **outputs)

    return call


def _mean_log_probability(logits, labels):
    mask = functional.token_mask(labels)
    return functional.sequence_mean(
        functional.token_log_probability(functional.predicting(logits), functional.predicted(labels), mask=mask), mask
    )


def uld_official(case):
    """llm-recipes: mean over the pairs of a text, then over texts."""
    hyper = case.hyper
    values = functional.uld_sequences(
        *_texts(case),
        student_temperature=hyper.get("student_temperature", 1.0),
        teacher_temperature=hyper.get("teacher_temperature", 1.0),
        positions="clamped",
        skip_student_end=hyper.get("skip_student_eos", False),
        skip_teacher_end=hyper.get("skip_teacher_eos", False),
        reduction="sequences",
    )
    return hyper.get("distillation_weight", 1.0) * values.mean()


def gold_uld(case):
    """TRL's GOLD: mean over the pairs of a text, then over texts (0 for a text without any); what is observed is read
    at the tokens."""
    hyper = case.hyper
    merge = hyper.get("uld_token_merge_strategy", "observed")
    offsets = (
        (case["student_byte_offsets"], case["teacher_byte_offsets"]) if hyper.get("use_extended_uld") else (None, None)
    )
    matched = _matched(case) if hyper.get("uld_use_hybrid_loss") else (None, None)
    values = functional.uld_sequences(
        *_texts(case),
        *offsets,
        *matched,
        hyper.get("uld_student_temperature", 1.0),
        hyper.get("uld_teacher_temperature", 1.0),
        positions="answer" if merge == "observed" else "predicting",
        skip_student_end=hyper.get("uld_skip_student_eos", True),
        skip_teacher_end=hyper.get("uld_skip_teacher_eos", True),
        merge=merge,
        teacher_weight=hyper.get("beta", 0.5),
        matched_weight=hyper.get("uld_hybrid_matched_weight"),
        unmatched_weight=hyper.get("uld_hybrid_unmatched_weight"),
        reduction="sequences",
    )
    loss = hyper.get("uld_distillation_weight", 1.0) * values.mean()
    weight = hyper.get("uld_crossentropy_weight", 0.0)
    if weight:
        rows, target, counts = functional.token_rows(case["student_logits"], case["student_labels"])
        loss = loss + weight * functional.reduce(functional.cross_entropy(rows, target), counts)
    return loss


def uld_dskd(case):
    """DSKD: sum over pairs; its labels are shifted beforehand."""
    return functional.uld_sequences(*_texts(case), positions="answer", reduction="sum")


def _given(case, name):
    return case[name] if name in case else None


def _stored(case, **outputs):
    """Those of the further outputs that the case has."""
    return {name: value for name, value in outputs.items() if f"out_{name}" in case}


def _texts(case):
    return case["student_logits"], case["teacher_logits"], case["student_labels"], case["teacher_labels"]


def _matched(case):
    """The tokens that both vocabularies have: pairs of numbers, the teacher's first."""
    pairs = case["matched_teacher_student_ids"]
    return pairs[:, 1], pairs[:, 0]


ENTRIES = {
    "minillm_lmops": minillm_lmops,
    "minillm_rev_kl_metric": minillm_rev_kl_metric,
    "trl_minillm_advantage": trl_minillm_advantage,
    "distillm2_distillm_v1": distillm2("v1", "skew_forward", "skew_reverse"),
    "distillm2_distillm_v2": distillm2("v2", "skew_forward", "skew_reverse"),
    "distillm2_gkd": distillm2("gkd", "jensen_shannon", "jensen_shannon"),
    "distillm2_kd": distillm2("kd", "forward", None),  # what it keeps as its reverse KL is minus that, and unused
    "uld_official": uld_official,
    "gold_uld": gold_uld,
    "gold_uld_extended": gold_uld,
    "uld_dskd": uld_dskd,
}
