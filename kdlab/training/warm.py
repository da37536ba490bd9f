"""What a run looks up of its installation, looked up when this module is imported. The warm parent of the processes of
a sweep imports it (:data:`kdlab.launch.processes.PRELOAD`), so that no job looks it up again.

Nothing here may start threads or ask for a GPU: both would break the processes that are forked from this one.
"""

from __future__ import annotations

from kdlab.runs import record

from .entry_points import look_up

record.versions()
# the code that the jobs run is what the warm parent has imported, so its commit is the one at this moment
record.checkout_of_kdlab()
look_up()
