"""Configuration: from overrides to one plain dict, checked before anything is built.

Hydra is used only at the edge: :mod:`compose` yields a plain dict, :mod:`check` finds every problem in it, :mod:`build`
turns a node into an object. The rest of kdlab does not depend on Hydra.
"""
