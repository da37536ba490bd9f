"""Hugging Face classifiers under their hub names."""

from __future__ import annotations

from torch import Tensor, nn


class HuggingFaceClassifier(nn.Module):
    """An image classifier of the Hugging Face hub, or one saved in a folder, answering with plain logits.

    Args:
        model: hub name ("microsoft/resnet-18") or folder.
        revision: branch, tag or commit of the hub; give a commit for a run that others can repeat.

    Taps are dotted module paths below ``network``, for example ``network.resnet.encoder``.

    Raises:
        ValueError: nothing loadable stands under that name.
    """

    CONTENT = ("model",)        # a folder is the same model by what is in it, not by its name

    def __init__(self, model: str, revision: str | None = None):
        super().__init__()
        from safetensors import SafetensorError
        from transformers import AutoModelForImageClassification
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self.network = AutoModelForImageClassification.from_pretrained(model, revision=revision, dtype="float32")
        except OSError as error:
            raise ValueError(f"'{model}' is neither a folder with a saved model nor reachable on the Hugging Face hub: "
                             f"{str(error).splitlines()[0]}") from error
        except SafetensorError as error:
            raise ValueError(f"the weights of '{model}' are damaged ({error}); fetch them again") from error

    def forward(self, x: Tensor) -> Tensor:
        return self.network(pixel_values=x).logits
