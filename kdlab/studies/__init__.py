"""Studies: a paper's experiments as one file, trained by one command, and compared with what is expected and with the
results in git.

:mod:`study` finds them, :mod:`reading` reads and checks study.yaml, :mod:`expansion` makes rows of sweeps, :mod:`names`
and :mod:`training` check and train what is missing, :mod:`records` stores the results, one line per run. :mod:`tables`
and :mod:`expectations` use only these lines. :mod:`readme` puts them between markers, and :mod:`results` writes
everything, including :mod:`curves`. :mod:`rerun` compares a rerun with git. :mod:`check` checks the results in git
without training.
"""
