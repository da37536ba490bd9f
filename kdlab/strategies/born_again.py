"""Born-again networks: generations of equal students. Furlanello et al. (2018), https://arxiv.org/abs/1805.04770."""

from .offline import Offline


class BornAgain(Offline):
    r"""Generation :math:`k` learns from generation :math:`k - 1`, an equal network that is finished (section 3):

    .. math:: \theta_k = \arg\min_\theta L\big(f(x, \theta_{k-1}), f(x, \theta)\big), \qquad \theta_0 = \arg\min_\theta L\big(y, f(x, \theta)\big)

    Each is a run of its own, and a chain of them one command; see ``conf/strategy/born_again.yaml``. With ``ce`` among the losses the labels
    stay in it, as in the paper's BAN+L.

    Args:
        generation: this run's, from 1; generation 0 is a run of ``strategy=supervised``.
    """

    def __init__(self, *, generation: int, **options):
        if generation < 1:
            raise ValueError(f"generation must be 1 or greater, got {generation}; generation 0 is the student alone: strategy=supervised")
        super().__init__(generation=generation, **options)

    def validate_combination(self) -> list[str]:
        if self.teacher is None:
            return ["strategy=born_again learns from the generation before it; leave teacher= away"]
        return super().validate_combination()
