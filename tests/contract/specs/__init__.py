"""A Spec for every pure function of a method."""

from . import branches, correlation, divergences, features, logits, peers, relations, sequences, transformer

SPECS = [*branches.SPECS, *correlation.SPECS, *divergences.SPECS, *features.SPECS, *logits.SPECS, *peers.SPECS, *relations.SPECS, *sequences.SPECS, *transformer.SPECS]
