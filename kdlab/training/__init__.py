"""Training: a config becomes live parts, is trained, tested and recorded.

:func:`kdlab.training.ensure.ensure` is the door: the run of a config, trained if it is not there yet.
"""
