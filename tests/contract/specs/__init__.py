"""A Spec for every pure function of a method."""

from . import divergences, relations, transformer

SPECS = [*divergences.SPECS, *relations.SPECS, *transformer.SPECS]
