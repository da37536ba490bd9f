"""A Spec for every pure function of a method."""

from . import divergences, relations

SPECS = [*divergences.SPECS, *relations.SPECS]
