"""Divergences between two categorical distributions given by logits, one value a row."""

from torch import Tensor

from .rows import same_shape, wide


def forward_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Kullback-Leibler divergence of the student from the teacher,
    :math:`\mathrm{KL}(p \,\|\, q) = \sum_c p_c (\log p_c - \log q_c)` with
    :math:`p = \mathrm{softmax}(z_t / T)` and :math:`q = \mathrm{softmax}(z_s / T)`.

    Args:
        student, teacher: logits ``(..., C)``.
        temperature: T, positive.

    Returns:
        ``(...)``, in nats, in at least float32.

    Raises:
        ValueError: the shapes differ (both are printed).

    >>> import torch
    >>> forward_kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([0.1109])
    """
    same_shape(student, teacher, "forward_kl", "teacher and student must have the same classes")
    log_p = (wide(teacher) / temperature).log_softmax(-1)
    log_q = (wide(student) / temperature).log_softmax(-1)
    p = log_p.exp()
    # where p is 0 the term is 0, also for a class that the teacher excludes with -inf
    return (p * (log_p - log_q)).masked_fill(p == 0, 0.0).sum(-1)
