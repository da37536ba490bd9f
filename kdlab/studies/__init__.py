"""Studies: a paper's experiments as one file, trained by one command, held against what is expected and against what is
in git.

:mod:`study` finds them, :mod:`reading` reads and checks study.yaml, :mod:`expansion` makes rows of sweeps, :mod:`names`
and :mod:`training` check and train what is missing, :mod:`records` keeps what came of it as a line a run. From these
lines alone come :mod:`tables` and :mod:`expectations`; :mod:`readme` puts them between markers, :mod:`results` writes
everything, :mod:`curves` with it. :mod:`rerun` compares a rerun with git, :mod:`check` trains nothing.
"""
