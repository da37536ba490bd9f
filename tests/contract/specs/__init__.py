"""A Spec for every pure function of a method."""

from . import divergences, features

SPECS = [*divergences.SPECS, *features.SPECS]
