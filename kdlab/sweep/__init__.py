"""Sweeps: Hydra's multirun in warm processes. A sweep survives failures, interrupts and kills.

:mod:`grid` and :mod:`search` (Optuna) choose the jobs, and :mod:`launcher` runs them. For this :mod:`composing`
composes each job, :mod:`plan` checks them, :mod:`scheduler` runs them in :mod:`worker` processes on the machine's
:mod:`slots`, and :mod:`view` shows the progress. :mod:`submitit_launcher` and :mod:`ray_launcher` send them to a
cluster (:mod:`elsewhere`). :mod:`plugins` enters all of these in Hydra's table.
"""
