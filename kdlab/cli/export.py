"""``kdlab export RUN --to hf``: writes a trained student in a form that other tools load.

``hf`` is a folder with weights, config, tokenizer and model card, as ``save_pretrained`` of transformers writes them.
The model is loaded again and compared with the student before the folder appears.
"""

from __future__ import annotations

from pathlib import Path

from kdlab.errors import InputError
from kdlab.runs.run import Run

from .parser import Parser

FORMS = ("hf",)


def run(arguments: list[str]) -> int:
    """Run ``kdlab export``: write the student of a finished run.

    Returns:
        0.

    Raises:
        InputError: the run is not finished, or its student has not this form.
    """
    parser = Parser(prog="kdlab export", description=__doc__)
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--to", choices=FORMS, required=True, help="hf: a folder that transformers loads")
    parser.add_argument("--folder", help="a new folder (default: hf in the run directory)")
    parser.add_argument("--which", choices=("last", "best"), default="last", help="the checkpoint (default: last)")
    options = parser.parse_args(arguments)
    found = Run(options.run)
    found.check()
    if not found.finished:
        raise InputError(f"{found.path} is not finished (its status is {found.status})")
    from kdlab.export import to_huggingface

    written = to_huggingface(found, Path(options.folder or found.path / options.to), options.which)
    with_tokenizer = " and its tokenizer" if written.tokenizer else ""
    print(f"{written.folder}: {written.kind}{with_tokenizer}; loaded again, it answers like the student, bit for bit")
    return 0
