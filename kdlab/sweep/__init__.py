"""Sweeps: Hydra's multirun on warm processes of its own, which survives failures, interrupts and kills.

:mod:`grid` and :mod:`search` (Optuna) choose the jobs, :mod:`launcher` runs them: :mod:`composing` composes each,
:mod:`plan` checks them, :mod:`scheduler` runs them in :mod:`worker` processes on the machine's :mod:`slots`, and
:mod:`view` shows how it goes. :mod:`submitit_launcher` and :mod:`ray_launcher` send them to a cluster
(:mod:`elsewhere`). :mod:`plugins` enters all of these in Hydra's table.
"""
