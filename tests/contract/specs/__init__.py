"""A Spec for every pure function of a method."""

from . import branches, divergences, peers, relations, transformer

SPECS = [*branches.SPECS, *divergences.SPECS, *peers.SPECS, *relations.SPECS, *transformer.SPECS]
