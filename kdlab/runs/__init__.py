"""Runs: identity, provenance, training, resuming. ``ensure(config) -> Run`` is the way in."""
