"""A Spec for every pure function of a method."""

from . import branches, correlation, divergences, logits, peers, relations, transformer

SPECS = [*branches.SPECS, *correlation.SPECS, *divergences.SPECS, *logits.SPECS, *peers.SPECS, *relations.SPECS, *transformer.SPECS]
