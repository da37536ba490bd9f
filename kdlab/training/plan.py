"""Plan: what a config determines about its run, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from kdlab.config.check import check, check_facts
from kdlab.config.references import Initial, Reference, initial_reference, teacher_reference
from kdlab.launch.devices import world_size
from kdlab.runs import known
from kdlab.runs.identity import group_hash, run_hash
from kdlab.runs.run import Run, RunStore


@dataclass(frozen=True, eq=False)
class Plan:
    """What :func:`kdlab.training.ensure.ensure` needs to know of a config before it builds anything.

    Args:
        config: checked.
        key: :func:`kdlab.runs.known.key_of` the config, taken before its hash was; None where it has none.
        hash: of the run.
        teacher: the reference to the teacher; None without a teacher.
        initial: what the student begins with; None for the weights of its constructor.
        world: the number of processes that train together.
    """

    config: dict
    key: str | None
    hash: str
    teacher: Reference | None
    initial: Initial | None
    world: int

    @classmethod
    def of(cls, config: dict, key: str | None = None) -> Plan:
        """The plan of a composed config.

        Args:
            key: that of the config, if it is known already.

        Raises:
            InputError: the config has problems, or names a file or run that does not exist.
        """
        check(config)
        check_facts(config)
        key = key or known.key_of(config)  # before the hash: see there
        return cls(
            config,
            key,
            run_hash(config),
            teacher_reference(config),
            initial_reference(config),
            world_size(config),
        )

    @cached_property
    def group(self) -> str:
        """The same hash for runs that differ only in the seed."""
        return group_hash(self.config)

    def run(self) -> Run:
        """The run, begun or not. It is looked up each time: another process may have begun it."""
        return RunStore(self.config["paths"]["runs"]).run(self.config, self.hash)

    def note(self, run: Run) -> None:
        """Note that the run is finished, for :func:`kdlab.runs.known.finished`."""
        known.note(self.config, run.hash, self.key)
