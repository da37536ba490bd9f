"""Configuration: from overrides to one plain dict, checked before anything is built.

Hydra stands at the edge: :mod:`compose` yields a plain dict, :mod:`check` finds every problem in it, :mod:`build` turns
a node into an object. Nothing behind them knows Hydra.
"""
