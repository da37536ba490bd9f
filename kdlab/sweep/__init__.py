"""Sweeps: Hydra's multirun on warm processes of its own, which survives failures, interrupts and kills.

:mod:`plugins` is what Hydra sees (launcher and sweeper), :mod:`plan` turns overrides into checked jobs,
:mod:`scheduler` runs them in :mod:`worker` processes on the machine's :mod:`slots`, :mod:`view` shows how it goes,
:mod:`search` is the search by Optuna.
"""
