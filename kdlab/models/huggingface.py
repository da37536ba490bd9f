"""Hugging Face classifiers under their hub names."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .hub import head_names, load_model, names_of_classes, read_config, unfilled
from .pretrained import note_weights


class HuggingFaceClassifier(nn.Module):
    """An image classifier of the Hugging Face hub, or one saved in a folder. Its output is plain logits.

    Args:
        model: hub name ("microsoft/resnet-18") or folder.
        revision: branch, tag or commit of the hub; give a commit for a run that others can repeat.
        classes: number of classes; None: as many as the model has. The pretrained head is kept if it has this number of
            classes; otherwise it is replaced by an untrained one.

    The attribute ``pretrained_weights`` holds the number of ``classes`` of the weights, and the parameters that they
    leave ``unfilled``: none, or the head. Taps are dotted module paths below ``network``, for example
    ``network.resnet.encoder``.

    Raises:
        ValueError: no loadable model has this name, or its weights leave parameters unfilled besides the head.
    """

    CONTENT = ("model",)  # a folder is identified by its content, not by its name

    def __init__(self, model: str, revision: str | None = None, classes: int | None = None):
        super().__init__()
        from transformers import AutoModelForImageClassification

        known = read_config(model, revision).num_labels
        other: dict[str, Any] = (
            {} if classes in (None, known) else {"num_labels": classes, "ignore_mismatched_sizes": True}
        )
        self.network, found = load_model(AutoModelForImageClassification, model, revision, **other)
        new, mismatched = unfilled(self.network, found)
        note_weights(
            self,
            model,
            known if mismatched or not new else None,
            [f"network.{name}" for name in new],
            [f"network.{name}" for name in head_names(self.network)],
        )

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes in the order of the logits; None where the model has none."""
        return names_of_classes(self.network.config)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, C, H, W)``."""
        return self.network(pixel_values=x).logits
