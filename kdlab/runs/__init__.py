"""Runs: identity, provenance, files. :func:`kdlab.training.ensure.ensure` returns the run of a config."""
