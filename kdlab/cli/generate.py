"""``kdlab generate [OVERRIDE…]``: a teacher answers prompts; the answers are data for a student."""

from __future__ import annotations

import shlex
from typing import Any

from kdlab.errors import InputError, KdlabError
from kdlab.launch.processes import Interrupt, handling

HELP = """kdlab generate [OVERRIDE…]      a teacher answers the prompts in a file

  kdlab generate teacher.pretrained=FOLDER data.prompts=prompts.jsonl out=answers.jsonl
                                        a folder, a .gguf file or a hub name; the column of prompts is data.prompt
  kdlab generate … data.chat=true       a prompt is what a user says, written by the tokenizer's template for chats
  kdlab generate … data.messages=messages
                                        a column of chats, lists of {role, content}
  kdlab generate … sampling.temperature=0.8 sampling.samples=4
                                        four answers to each prompt
  kdlab generate teacher=run teacher.run=RUN data.prompts=prompts.jsonl out=answers.jsonl
                                        the student of a run of task=causal_lm
  kdlab generate teacher=served teacher.address=http://localhost:8000 teacher.model=NAME …
                                        an OpenAI-compatible server

The same command resumes. All keys, with their defaults: conf/generate.yaml. Then a student learns from the answers:

  kdlab train strategy=supervised task=causal_lm data=causal_text data.train=answers.jsonl data.prompt=prompt …
"""


def run(arguments: list[str]) -> int:
    """Run ``kdlab generate``.

    Returns:
        0.

    Raises:
        InputError: something is wrong, found before anything is generated.
        RunFailed: a server is gone; finished answers are kept.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP, end="")
        return 0
    if unknown := [argument for argument in arguments if argument.startswith("-")]:
        raise InputError(f"generate: there is no option {unknown[0]}; see kdlab generate --help")
    config = composed(arguments)
    from kdlab.generate import generate

    try:
        with handling(Interrupt()):
            made = generate(config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None
    except OSError as error:
        if error.errno is None:
            raise
        from kdlab.errors import RunFailed, told

        raise RunFailed(f"{told(error)}. Finished answers are kept; {resuming(arguments)}") from error
    counts = made.counts
    left_out = [f"{counts[name]:,} {name}" for name in ("empty", "truncated", "too long", "duplicate") if counts[name]]
    rate = f", {made.tokens / made.seconds:,.0f} tokens a second" if made.tokens and made.seconds > 0 else ""
    print(
        f"{made.out}: {counts['kept']:,} of {counts['answers']:,} answers to "
        f"{counts['prompts'] - counts['prompts left out']:,} prompts"
        + (f"; left out: {', '.join(left_out)}" if left_out else "")
        + (f"; {counts['prompts left out']:,} prompts left out" if counts["prompts left out"] else "")
        + (f"; {made.new:,} generated now{rate}" if made.new else "; all were there already")
    )
    columns = ["data.messages=messages"] if made.chat else ["data.prompt=prompt", "data.answer=answer"]
    line = ["kdlab", "train", "strategy=supervised", "task=causal_lm", "data=causal_text", f"data.train={made.out}"]
    print("a student learns from them: " + shlex.join([*line, *columns, f"data.tokenizer={made.tokenizer or 'NAME'}"]))
    return 0


def resuming(arguments: list[str]) -> str:
    """How finished answers are used again: with ``fresh=true`` the same command throws them away.

    >>> resuming(["out=a.jsonl"])
    'the same command resumes'
    >>> resuming(["fresh=true", "out=a.jsonl"])
    'the same command without fresh=true resumes'
    """
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith("fresh=")]
    without = " without fresh=true" if given and given[-1].strip().lower() == "true" else ""
    return f"the same command{without} resumes"


def composed(overrides: list[str]) -> dict[str, Any]:
    """The config of ``conf/generate.yaml`` with overrides, as a plain dict.

    Raises:
        InputError: an override names no key, or a value is missing.
    """
    from hydra import compose
    from omegaconf import OmegaConf

    from kdlab.config.compose import explaining, own_hydra, register_resolvers

    register_resolvers()
    with explaining(overrides), own_hydra():
        found = compose("generate", overrides)
        if found.teacher is not None and not {"_target_", "run"} & set(found.teacher):
            found.teacher = None  # none that writes texts; kdlab.generate says which ones do
        if missing := sorted(OmegaConf.missing_keys(found)):
            example = {"out": "answers.jsonl", "data.prompts": "prompts.jsonl", "teacher.pretrained": "FOLDER"}
            lines = [f"{key} has no value; give it with {key}={example.get(key, '…')}" for key in missing]
            raise InputError(*lines)
        plain = OmegaConf.to_container(found, resolve=True)
    if not isinstance(plain, dict):
        raise KdlabError("conf/generate.yaml is no mapping")
    return {str(key): value for key, value in plain.items()}
