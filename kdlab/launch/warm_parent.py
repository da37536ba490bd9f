"""Imports all that a run needs, and prepares this process to be forked. Only the warm parent of a sweep's processes
(:mod:`kdlab.launch.processes`) may import this module.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
from importlib import import_module

from .processes import PRELOAD

gc.disable()  # imports make little garbage, and the search for it takes a twelfth of their time
for _name in PRELOAD:
    with contextlib.suppress(ImportError):  # the job that needs it says what is wrong
        import_module(_name)
# a collection in a forked process would write to all the memory that it shares with this one, and find nothing there
gc.freeze()
gc.enable()
# this process has nothing to save, and ending it without tearing down the modules spares seconds, in which the reader
# of a pipe behind the command waits for the end of the output
atexit.register(os._exit, 0)
