"""A Spec for every pure function of a method."""

from . import correlation, divergences, logits

SPECS = [*correlation.SPECS, *divergences.SPECS, *logits.SPECS]
