"""Models of Hugging Face, by hub name or from a folder: loading, with messages that say what is wrong and the cure."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .gguf import gguf_config, gguf_content, is_gguf, load_gguf
from .hub_names import is_path, why_not_there

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def model_content(folder: Path) -> str:
    """SHA-256 of what a saved model is: its config, its weights and the Python code that it brings. A tokenizer, a
    README or weights in other formats beside them do not count. Of a GGUF file, that of the file."""
    if is_gguf(str(folder)):
        return gguf_content(str(folder))
    safe = sorted(folder.glob("*.safetensors"))
    weights = safe or sorted(folder.glob("pytorch_model*.bin"))
    digest = hashlib.sha256()
    for file in [folder / "config.json", *weights, *sorted(folder.glob("*.py"))]:
        if file.is_file():
            digest.update(file.name.encode() + b"\0")
            with open(file, "rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
    return digest.hexdigest()


def read_config(model: str, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The config of a model on the hub, of one saved in a folder, or of one in a GGUF file.

    Args:
        model: hub name, folder or ``.gguf`` file.
        revision: branch, tag or commit of the hub.
        trust_remote_code: run the model's own Python code.

    Raises:
        ValueError: there is no such model, it is damaged, or it needs code of its own and ``trust_remote_code`` is
            false.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

    if is_gguf(model):
        with quiet():
            return gguf_config(model)
    folder = Path(model).is_dir()
    if not folder and (why := why_not_there(model, revision, ["config.json"])):
        raise _no_folder(model, why) if is_path(model) else _neither(model, why)
    try:
        # some versions would guess the type from the folder's name, and take its default settings
        found = PreTrainedConfig.get_config_dict(model, revision=revision)[0]
        kind = found.get("model_type")
        if folder and kind is None:
            raise ValueError(
                f"'{model}' has no config.json with a model_type; write it with save_pretrained('{model}')"
            )
        if not trust_remote_code and "auto_map" in found and kind not in CONFIG_MAPPING:
            raise ValueError(
                f"'{model}' is a model of type '{kind}', which transformers does not know, and brings Python code of "
                "its own. If you trust that code, run it with trust_remote_code=true"
            )
        return AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=trust_remote_code)
    except OSError as error:
        if folder and (Path(model) / "config.json").is_file():
            raise ValueError(f"'{model}/config.json' cannot be read ({_first(error)}); save the model again") from error
        if folder:
            raise ValueError(
                f"'{model}' has no config.json with a model_type; write it with save_pretrained('{model}')"
            ) from error
        raise _neither(model, _first(error)) from error


def load_model(
    kind: Any,
    model: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = True,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """A model with its weights, in float32, and what transformers found out while loading them (``missing_keys``,
    ``mismatched_keys``).

    Args:
        kind: the class that loads it, for example ``transformers.AutoModel``.
        model, revision, trust_remote_code: as of :func:`read_config`.
        allow_pickle: also load weights that are stored as pickles.
        options: of ``from_pretrained``.

    Raises:
        ValueError: the weights are missing, damaged, or stored as pickles and ``allow_pickle`` is false.
    """
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if is_gguf(model):
        with quiet():
            return load_gguf(kind, model, **options)
    if Path(model).is_dir():
        _check_folder(Path(model), allow_pickle)
    try:
        with quiet():  # kdlab reports the same in its own messages
            return kind.from_pretrained(
                model,
                revision=revision,
                trust_remote_code=trust_remote_code,
                use_safetensors=None if allow_pickle else True,
                dtype="float32",
                output_loading_info=True,
                **options,
            )
    except OSError as error:
        if "safetensors" in str(error) and not Path(model).is_dir():
            raise ValueError(f"'{model}' has no weights in safetensors; {_PICKLES}") from error
        raise _neither(model, _first(error)) from error
    except SafetensorError as error:
        raise ValueError(f"the weights of '{model}' are damaged ({error}); fetch them again") from error


_PICKLES = (
    "a pickle can run code when it is loaded. If you trust its author, load it with allow_pickle=true, or choose a "
    "model with a model.safetensors"
)


def _check_folder(folder: Path, allow_pickle: bool) -> None:
    """Raises ValueError where a folder holds no weights, a part of them, or pickles that are not allowed."""
    safe = [name for name in WEIGHTS if (folder / name).is_file()]
    pickled = [name for name in PICKLED if (folder / name).is_file()]
    if not safe and not pickled:
        raise ValueError(
            f"'{folder}' has a config.json and no weights ({WEIGHTS[0]}): the model is only half written; save it "
            f"again with save_pretrained('{folder}')"
        )
    if not safe and not allow_pickle:
        raise ValueError(f"'{folder}' has its weights only in {pickled[0]}; {_PICKLES}")
    index = (safe or pickled)[0]
    if index.endswith(".json"):
        try:
            named = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"'{folder}/{index}' cannot be read ({error!r}); fetch it again") from error
        if absent := sorted({name for name in named if not (folder / name).is_file()}):
            raise ValueError(
                f"'{folder}' lacks {absent[0]} and {len(absent) - 1} more of its files of weights; fetch them again"
                if len(absent) > 1
                else f"'{folder}' lacks {absent[0]}, one of its files of weights; fetch it again"
            )


def _neither(model: str, why: str) -> ValueError:
    return ValueError(f"'{model}' is neither a folder with a saved model nor reachable on the Hugging Face hub: {why}")


def _no_folder(model: str, why: str) -> ValueError:
    return ValueError(f"{why} (model.save_pretrained('{model}') writes a model of transformers there)")


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def unfilled(network: Any, found: dict[str, Any]) -> tuple[list[str], bool]:
    """The names in the state dict that the weights do not fill, and whether they have a head of another size.

    Args:
        found: the second value of :func:`load_model`.
    """
    mismatched = {entry[0] for entry in found["mismatched_keys"]}
    names = {*found["missing_keys"], *mismatched}
    return sorted(name for name in names if not name.endswith("num_batches_tracked")), bool(mismatched)


def names_of_classes(config: Any) -> list[str] | None:
    """The names of the classes in a model's config, by their numbers; None where it has none, or only LABEL_0, ….

    >>> from types import SimpleNamespace as Config
    >>> names_of_classes(Config(id2label={0: "neg", 1: "pos"})), names_of_classes(Config(id2label={0: "LABEL_0"}))
    (['neg', 'pos'], None)
    """
    named = getattr(config, "id2label", None) or {}
    names = [str(named.get(number)) for number in range(len(named))]
    return None if not names or names == [f"LABEL_{number}" for number in range(len(names))] else names


def head_names(network: Any) -> set[str]:
    """The names in the state dict of the head: the part that a class for a task adds to the library's model."""
    base = f"{network.base_model_prefix}."
    return {name for name in network.state_dict() if not name.startswith(base)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leaves out the warnings of transformers."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
