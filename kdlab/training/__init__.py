"""Training: the parts of a run are built from its config, trained, tested and recorded.

The entry point is :func:`kdlab.training.ensure.ensure`: it returns the run of a config and trains it if needed.
"""
