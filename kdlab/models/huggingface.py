"""Hugging Face classifiers under their hub names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

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
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            # some versions would guess the type from the folder's name, and take its default settings
            if Path(model).is_dir() and "model_type" not in PreTrainedConfig.get_config_dict(model)[0]:
                raise ValueError(
                    f"'{model}' has no config.json with a model_type; write it with save_pretrained('{model}')"
                )
            known = AutoConfig.from_pretrained(model, revision=revision).num_labels
            other = {} if classes in (None, known) else {"num_labels": classes, "ignore_mismatched_sizes": True}
            with _quiet():  # kdlab reports the same in its own messages
                self.network, found = AutoModelForImageClassification.from_pretrained(
                    model, revision=revision, dtype="float32", output_loading_info=True, **other
                )
        except OSError as error:
            raise ValueError(
                f"'{model}' is neither a folder with a saved model nor reachable on the Hugging Face hub: "
                f"{str(error).splitlines()[0]}"
            ) from error
        except SafetensorError as error:
            raise ValueError(f"the weights of '{model}' are damaged ({error}); fetch them again") from error

        self._note(model, known, found)

    def _note(self, model: str, known: int, found: dict[str, Any]) -> None:
        """Notes what the weights do not fill. The head is the part that the class for classification adds to the
        library's model."""
        mismatched = {entry[0] for entry in found["mismatched_keys"]}
        unfilled = sorted(
            {name for name in {*found["missing_keys"], *mismatched} if not name.endswith("num_batches_tracked")}
        )
        base = f"{self.network.base_model_prefix}."
        head = {name for name in self.network.state_dict() if not name.startswith(base)}
        classes = known if mismatched or not unfilled else None
        note_weights(
            self, model, classes, [f"network.{name}" for name in unfilled], [f"network.{name}" for name in head]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``(B, C, H, W)``."""
        return self.network(pixel_values=x).logits


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
