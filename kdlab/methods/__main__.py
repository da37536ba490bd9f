"""``python -m kdlab.methods``: makes the printed index again, after a change of a method."""

from .pages import render
from .printed import store

store(render())
