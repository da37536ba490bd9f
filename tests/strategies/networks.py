"""Networks for the tests, named by ``_target_``."""

from kdlab.models import MLP


def asleep(classes: int, shape: list) -> MLP:
    """A network in evaluation mode."""
    return MLP(classes, shape, hidden=(8,), dropout=0.1).eval()
