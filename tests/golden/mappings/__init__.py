"""Each entry's name -> the call of kdlab's public function or module that computes it.

A mapping reads the case's inputs and hyper-parameters and calls kdlab; the only arithmetic in it is the weights that
the entry says are inside. It returns the loss, or (the loss, further outputs by name).
"""

from . import divergences, features, logits, pieces, relations, sequences, trained, transformer

FAMILIES = (divergences, features, logits, pieces, relations, sequences, transformer, trained)
ENTRIES = {name: mapping for family in FAMILIES for name, mapping in family.ENTRIES.items()}
