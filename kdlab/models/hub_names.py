"""Names of models on the Hugging Face hub: whether one may be there, found out before a library tries for a minute."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from kdlab.errors import did_you_mean

_TRIES, _PAUSE = 2, 1.0  # requests, and the seconds between them


def is_path(name: str) -> bool:
    """Whether a name can only be a folder: a name on the hub has one or two parts.

    >>> [is_path(name) for name in ("bert-base-uncased", "google/bert", "a/b/c", "./a", "~/a", "/a", "a/")]
    [False, False, True, True, True, True, True]
    """
    return name.startswith((".", "~", "/")) or Path(name).is_absolute() or name.count("/") > 1 or name.endswith("/")


def why_not_there(name: str, revision: str | None, files: Iterable[str]) -> str | None:
    """Why a model that is no folder cannot be loaded; None if a library may find it.

    The libraries repeat each failed request for 23 seconds. So if none of the files is on this machine, this asks the
    hub for the first one, with the library's own session and timeout. Any answer counts, also "not found".

    Args:
        name: a hub name, or the path of a folder that is not there.
        revision: branch, tag or commit of the hub.
        files: the files of which the library needs at least one.
    """
    if is_path(name):
        parent = Path(name).expanduser().parent
        near = [str(parent / one.name) for one in parent.iterdir() if one.is_dir()] if parent.is_dir() else []
        return f"there is no folder {name}{did_you_mean(name, near)}"
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:  # then the libraries ask nobody
        return None
    files = list(files)
    try:
        if any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in files):
            return None
        address = hf_hub_url(name, files[0], revision=revision)
    except HFValidationError:  # the library's message says what is wrong with the name
        return None
    for number in range(1, _TRIES + 1):
        try:
            get_session().head(address, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return None
        except Exception as error:  # of the HTTP library, which is another one in each version
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if number < _TRIES:
            time.sleep(_PAUSE)
    return f"{constants.ENDPOINT} does not answer: {reason}"
