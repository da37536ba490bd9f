"""Routed: several teachers, each of which answers rows of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from kdlab.batch import Batch
from kdlab.errors import InputError
from kdlab.outputs import Outputs

from .base import Teacher
from .joined import MOST, joined

#: split -> for each stored sample ``(N,)`` the number of the member that answers it, -1 for none
Routes = Mapping[str, Tensor]


class Routed(Teacher):
    r"""Each sample i is answered by one of several teachers: :math:`z_i = T_{m(i)}(x_i)`.

    A member is asked once a batch, about its own rows. A batch names its samples by their split and their number, so a
    prompt whose answer the student has generated, now or earlier, is routed as the text of the data.

    Features are those of the members, which must have one shape.

    Args:
        members: name -> the teacher.
        routes: by split, for each stored sample ``(N,)`` the number of its member, in the order of ``members``, from 0.
            Validation is held out of the stored samples of ``train``, so it needs no entry, unless it has numbers of
            its own. Or a function that returns this, called when it is first needed.

    Raises:
        InputError: there are no members, more than 256, or one has a teacher for each term of the loss.

    >>> class Says(Teacher):
    ...     def __init__(self, number):
    ...         self.number = number
    ...     def teach(self, batch):
    ...         return Outputs(torch.full((len(batch), 1), self.number))
    >>> routed = Routed({"maths": Says(1.0), "code": Says(2.0)}, {"train": torch.tensor([1, 0, 1])})
    >>> routed.teach(Batch(torch.zeros(3, 1), None, torch.tensor([2, 1, 0]))).logits.flatten().tolist()
    [2.0, 1.0, 2.0]
    """

    #: of batches that hold validation, where it has no routes of its own
    HELD_OUT_OF: ClassVar[Mapping[str, str]] = {"validation": "train"}

    def __init__(self, members: Mapping[str, Teacher], routes: Routes | Callable[[], Routes]):
        if not members:
            raise InputError("teacher.members: a routed teacher needs at least one member")
        if len(members) > MOST:
            raise InputError(f"teacher.members: a routed teacher has at most {MOST} members, got {len(members)}")
        if wrong := [name for name, member in members.items() if member.terms]:
            raise InputError(
                f"teacher.members.{wrong[0]}: it has a teacher for each term of the loss; name one teacher"
            )
        self.members = dict(members)
        self.gives_logits = all(member.gives_logits for member in members.values())
        self._routes = routes

    @property
    def routes(self) -> Routes:
        """The number of each stored sample's member, by split.

        Raises:
            InputError: there is a sample without one.
        """
        if not isinstance(self._routes, Mapping):
            self._routes = self._routes()
        return self._routes

    def watch(self, taps: Collection[str]) -> None:
        """Sets the taps of all members.

        Raises:
            InputError: a member has no such tap.
        """
        problems: list[str] = []
        for name, member in self.members.items():
            try:
                member.watch(taps)
            except InputError as error:
                problems += [f"teacher.members.{name}: {problem}" for problem in error.problems]
        if problems:
            raise InputError(*problems)

    def numbers(self, split: str, index: Tensor) -> Tensor:
        """The numbers of the members that answer samples, ``(B,)``, on the CPU.

        Args:
            index: the samples' numbers in the stored split ``(B,)``.

        Raises:
            InputError: a sample has none.
        """
        table = self.routes.get(split, self.routes.get(self.HELD_OUT_OF.get(split, "")))
        index = index.cpu()
        if table is None or len(index) and int(index.max()) >= len(table):
            known = "none of this split" if table is None else f"{len(table)} samples of {split}"
            raise InputError(f"teacher: it is routed by the number of a sample, and there are routes of {known}")
        found = table[index]
        if bool((found < 0).any()):
            raise InputError(f"teacher: no member answers sample {int(index[found < 0][0])} of {split}")
        return found

    def own(self, name: str, batch: Batch) -> Tensor:
        """The places of a member's own rows in a batch ``(K,)``."""
        number = list(self.members).index(name)
        return (self.numbers(batch.split, batch.index) == number).nonzero().flatten().to(batch.index.device)

    def counts(self, split: str, index: Tensor) -> dict[str, int]:
        """How many of the samples each member answers."""
        found = torch.bincount(self.numbers(split, index), minlength=len(self.members))
        return dict(zip(self.members, found.tolist()))

    def teach(self, batch: Batch) -> Outputs:
        """The members' Outputs on their own rows, detached, in the order of the batch.

        Raises:
            InputError: a sample has no member, or the members' answers are of several kinds.
        """
        numbers, members = self.numbers(batch.split, batch.index), list(self.members.values())
        present = numbers.unique().tolist() or [0]  # a process may have no sample
        if len(present) == 1:
            return members[present[0]].teach(batch)
        parts = []
        for number in present:
            places = (numbers == number).nonzero().flatten().to(batch.index.device)
            parts.append((places, members[number].teach(batch.take(places))))
        return joined(parts, len(batch))
