"""Measurements of a finished run: ``measurements.json``, next to run.json.

Its keys: ``measured`` (when), ``machine`` (processor, cores, system, torch, device) and ``threads``, for which alone
the times hold; ``network``, the one that is kept; ``batches``: batch size -> the result of :func:`kdlab.measure.speed`;
``lengths``, if texts of given lengths were measured: tokens -> batch size -> the same and ``peak_inference_bytes``;
``generation``, if answers of ``answer_tokens`` were generated: tokens of a prompt -> batch size -> the result of
:func:`kdlab.measure.generation_speed` and ``peak_inference_bytes``;
``in_turns_with``, how many other networks were timed in turns with it; ``peak_inference_bytes`` of the largest batch,
``peak_inference_batch``; where one frozen teacher taught, ``cka``: tap -> alignment with the teacher's of that name,
``cka_matrix``: student's tap -> teacher's tap -> alignment (null where a feature does not vary), and ``cka_samples``.

A new measurement replaces the old one, also that of another machine. Times of two machines cannot be compared, so a
file holds those of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .schema import is_number

FILE = "measurements.json"
SCALARS = ("latency_ms", "samples_per_second", "peak_inference_bytes", "cka")


def read(path: Path) -> tuple[dict, str]:
    """The measurements of the run in a directory, and a message. Both are empty where there are none; where the file is
    damaged, the message names the problem."""
    file = Path(path) / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not _sound(content):
            raise ValueError("it holds something else")
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return (
            {},
            f"{file} cannot be read as measurements ({reason}) and is ignored; kdlab measure {path} measures again",
        )
    return content, ""


def _sound(content: object) -> bool:
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("machine"), dict)
        or not isinstance(content.get("batches"), dict)
    ):
        return False
    batches, cka = content["batches"], content.get("cka", {})
    return (
        all(
            size.isascii() and size.isdecimal() and isinstance(one, dict) and one and all(map(is_number, one.values()))
            for size, one in batches.items()
        )
        and isinstance(cka, dict)
        and all(map(is_number, [*cka.values(), content.get("peak_inference_bytes", 0)]))
    )


def scalars(measurements: Mapping) -> dict[str, float]:
    """One number per name, for tables and figures: ``latency_ms`` of one sample, ``samples_per_second`` at the largest
    batch, ``peak_inference_bytes``, and ``cka``, the mean over the taps that student and teacher both have (an
    ``embedding`` that is the last stage, averaged over positions, is not counted a second time). Those that were not
    measured are absent.

    >>> scalars({"batches": {"1": {"latency_ms": 0.2, "samples_per_second": 5000},
    ...     "64": {"latency_ms": 2.0, "samples_per_second": 32000}},
    ...          "cka": {"stage1": 0.9, "embedding": 0.8}})
    {'latency_ms': 0.2, 'samples_per_second': 32000, 'cka': 0.85}
    """
    batches, cka = measurements.get("batches") or {}, dict(measurements.get("cka") or {})
    if cka.get("embedding") in [value for tap, value in cka.items() if tap != "embedding"]:
        del cka["embedding"]
    found = {
        "latency_ms": batches.get("1", {}).get("latency_ms"),
        "samples_per_second": batches[max(batches, key=int)].get("samples_per_second") if batches else None,
        "peak_inference_bytes": measurements.get("peak_inference_bytes"),
        "cka": round(sum(cka.values()) / len(cka), 6) if cka else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def machine_name(measurements: Mapping) -> str:
    """The machine in words. Numbers of different machines cannot be compared.

    >>> machine_name({"machine": {"processor": "A chip", "cores": 2, "torch": "2.9", "device": "cpu"}, "threads": 1})
    'A chip, 2 cores, torch 2.9, cpu, threads: 1'
    """
    machine = measurements["machine"]
    return (
        f"{machine.get('processor')}, {machine.get('cores')} cores, torch {machine.get('torch')}, "
        f"{machine.get('device')}, threads: {measurements.get('threads')}"
    )
