"""A Spec for every pure function of a method."""

from . import divergences

SPECS = [*divergences.SPECS]
