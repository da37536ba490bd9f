"""PerTerm: a separate teacher for each term of the loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from kdlab.batch import Batch
from kdlab.errors import InputError, did_you_mean
from kdlab.outputs import Outputs

from .base import Teacher


class PerTerm(Teacher):
    r"""Each term of the loss learns from one of several teachers: :math:`L = \sum_k w_k\,\ell_k(z, z^{m(k)})`.

    A member is evaluated once per step for all of its terms. It is not evaluated while none of them is active (a weight
    of 0, a schedule that has not begun). It captures only the features that its own terms read.

    Args:
        members: name -> the teacher.
        terms: term of the loss -> the name of the member from which it learns.

    Raises:
        InputError: a term names a member that does not exist.

    >>> import torch
    >>> class Says:
    ...     def __init__(self, number):
    ...         self.number = number
    ...     def teach(self, batch):
    ...         return Outputs(torch.tensor([[self.number]]))
    >>> said = PerTerm({"strong": Says(1.0), "wide": Says(2.0)}, {"kd": "strong", "hint": "wide"}).teach(None)
    >>> {term: outputs.logits.item() for term, outputs in said.by_term.items()}
    {'kd': 1.0, 'hint': 2.0}
    """

    def __init__(self, members: Mapping[str, Teacher], terms: Mapping[str, str]):
        strangers = [name for name in terms.values() if name not in members]
        if strangers:
            raise InputError(
                f"teacher.terms: there is no member {strangers[0]!r}{did_you_mean(strangers[0], members)} (there are "
                f"{', '.join(members)})"
            )
        self.members, self.terms = dict(members), dict(terms)
        self._asking: Callable[[], Collection[str]] = self.terms.keys

    def prepare(self, taps: Mapping[str, Collection[str]]) -> None:
        """Sets the taps of each member by its own terms.

        Args:
            taps: each term of the loss that learns from a teacher -> the teacher's taps that it reads.

        Raises:
            InputError: a term has no entry in ``terms``, does not learn from a teacher, or reads a tap that its teacher
                does not have.
        """
        wrong = [
            f"teacher.terms: there is no member for loss.{term}; name it with "
            f"teacher.terms.{term}={' or '.join(self.members)}, or leave the term out"
            for term in taps
            if term not in self.terms
        ]
        wrong += [
            f"teacher.terms.{term}: the loss has no such term that learns from a teacher{did_you_mean(term, taps)} (it "
            f"has {', '.join(taps) or 'none'}); leave it out with '~teacher.terms.{term}', or choose it with "
            f"loss=[…,{term}]"
            for term in self.terms
            if term not in taps
        ]
        if wrong:
            raise InputError(*wrong)
        for name, member in self.members.items():
            read = {tap for term, theirs in self.terms.items() if theirs == name for tap in taps[term]}
            try:
                member.watch(read)
            except InputError as error:
                raise InputError(*(f"teacher.members.{name}: {problem}" for problem in error.problems)) from error

    def attend(self, asking: Callable[[], Collection[str]]) -> None:
        """From now on, evaluates only the terms that ``asking`` names in each step."""
        self._asking = asking

    def teach(self, batch: Batch) -> Outputs:
        """Outputs whose ``by_term`` holds the Outputs of each term's teacher. Their other fields are those of the first
        term."""
        asking = [term for term in self.terms if term in self._asking()] or list(self.terms)
        said = {name: self.members[name].teach(batch) for name in dict.fromkeys(self.terms[term] for term in asking)}
        by_term = {term: said[self.terms[term]] for term in asking}
        return by_term[asking[0]].replace(by_term=by_term)
