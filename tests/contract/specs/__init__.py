"""A Spec for every pure function of a method."""

from . import branches, divergences, peers

SPECS = [*branches.SPECS, *divergences.SPECS, *peers.SPECS]
