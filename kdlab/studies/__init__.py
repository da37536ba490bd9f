"""Studies: a paper's experiments as one file, trained by one command, held against what is expected and against what is in git.

:mod:`study` finds them, :mod:`reading` reads and checks study.yaml, :mod:`expansion` makes rows of sweeps, :mod:`training` trains what is
missing, :mod:`records` keeps what came of it as one line a run.
"""
