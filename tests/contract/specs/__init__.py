"""A Spec for every pure function of a method."""

from . import branches, columns, correlation, divergences, features, logits, peers, relations, sequences, transformer

FAMILIES = (branches, columns, correlation, divergences, features, logits, peers, relations, sequences, transformer)
SPECS = [spec for family in FAMILIES for spec in family.SPECS]
