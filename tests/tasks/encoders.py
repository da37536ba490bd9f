"""A small text encoder with fixed weights, as a teacher of embeddings."""

import torch

from kdlab.models import TextEncoder


def fixed_encoder(width: int = 16, vocabulary: int = 33, constant: bool = False) -> TextEncoder:
    """A BERT of one layer whose weights are a function of their places; with ``constant`` its vectors are all 1."""
    made = TextEncoder(
        architecture="bert", head="embedding", vocabulary=vocabulary, layers=1, width=width, heads=2, positions=32
    )
    with torch.no_grad():
        for number, (name, value) in enumerate(made.named_parameters(), start=1):
            norm = "LayerNorm" in name
            wave = (torch.arange(value.numel()) * (0.7 + number) + 1).sin().view_as(value)
            value.copy_(1 + 0.1 * wave if norm and name.endswith("weight") else 0.5 * wave)
            if constant:
                value.zero_()
    return made
