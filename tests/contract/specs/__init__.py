"""A Spec for every pure function of a method."""

from . import divergences, sequences

SPECS = [*divergences.SPECS, *sequences.SPECS]
