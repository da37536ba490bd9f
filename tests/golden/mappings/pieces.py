"""Pieces that strategies compose: peers and branches."""

from kdlab import functional


def _others(networks, number):
    return networks[:number] + networks[number + 1 :]


def oad_dml_loss(case):
    networks = case.several("logits_")
    rows, classes = networks[0].shape
    values = [
        functional.mutual_kl(z, _others(networks, number), case.hyper["temp"], detach=False)
        for number, z in enumerate(networks)
    ]
    return sum(functional.reduce(value, normaliser=rows * rows * classes) for value in values)


_MAPPINGS = (oad_dml_loss,)
ENTRIES = {mapping.__name__: mapping for mapping in _MAPPINGS}
