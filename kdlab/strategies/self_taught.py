"""Self-taught: common parts of the strategies in which a network is its own teacher."""

from __future__ import annotations

from .base import Strategy


class SelfTaught(Strategy):
    """Base of the strategies in which the student learns from its own outputs, earlier outputs or earlier weights.
    There is no other teacher."""

    def validate_combination(self) -> list[str]:
        """Problems: no term learns from labels, or there is another teacher."""
        problems = [*super().validate_combination(), *self.without_labels()]
        if self.teacher is not None:
            problems.append(
                f"strategy: in {type(self).__name__} the student is its own teacher, so there is no other; teacher=none"
            )
        return problems

    def one_view(self, why: str) -> list[str]:
        """A problem for each term that compares two views of a batch."""
        return [
            f"loss.{name}: it compares two views of a batch, and {why}; choose a loss of one view"
            for name, term in self.objective.losses.items()
            if term.views > 1
        ]
