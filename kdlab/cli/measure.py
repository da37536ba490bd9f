"""``kdlab measure RUN_OR_FOLDER…``: latency, throughput and memory of finished runs, and the similarity of their
features to the teacher's.

The results are written to measurements.json next to each run.json and replace earlier ones. For read-only runs they are
only printed. Times hold for this machine only. The runs of one command are timed in turns, so measure the runs that you
want to compare with one command.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kdlab.errors import InputError
from kdlab.runs.measurements import machine_name, scalars
from kdlab.runs.run import FINISHED, Run, runs_in

from .parser import Parser

if TYPE_CHECKING:
    import torch

LARGEST_BATCH = 100_000


def run(arguments: list[str]) -> int:
    """Run ``kdlab measure``: measure finished runs and print a table of the results.

    Returns:
        0, or 1 where some runs could not be measured.

    Raises:
        InputError: an option is wrong, or no run could be measured.
    """
    parser = Parser(prog="kdlab measure", description=__doc__)
    parser.add_argument("folder", nargs="+", metavar="RUN_OR_FOLDER", help="runs, or folders with runs below them")
    parser.add_argument("--batches", default="1,64", help="batch sizes (default: 1,64)")
    parser.add_argument(
        "--lengths", default="", help="for texts: also measure batches of texts of so many tokens, for example 32,128"
    )
    parser.add_argument(
        "--answer",
        metavar="TOKENS",
        default="",
        help="for causal language models: also generate so many tokens after prompts of these lengths, for example 32",
    )
    parser.add_argument("--seconds", default="2", help="seconds of timing for each run and batch size (default: 2)")
    parser.add_argument("--device", default="cpu", help="cpu (with one thread; the default), cuda, cuda:1, …")
    options = parser.parse_args(arguments)
    batches, seconds = _sizes(options.batches, "--batches"), _seconds(options.seconds)
    lengths = _sizes(options.lengths, "--lengths") if options.lengths else []
    answer = _answer(options.answer, lengths) if options.answer else None
    runs = runs_in(options.folder)
    finished, left_out, damaged = _sorted_out(runs)
    if not finished:
        raise InputError(f"no finished run in {', '.join(options.folder)}", advice="\n".join([*left_out, *damaged]))
    device = _device(options.device)
    from kdlab.training.measuring import measure_runs

    notes: list[str] = []
    measured, failed = measure_runs(finished, batches, seconds, device, notes.append, lengths, answer)
    failed += damaged
    if not measured:
        raise InputError("no run could be measured", advice="\n".join([*failed, *left_out]))
    _show(measured, batches)
    if lengths:
        _show_lengths(measured)
    if answer is not None:
        _show_generation(measured)
    for line in [*notes, *failed, *left_out]:
        print(line)
    return 1 if failed else 0


def _sorted_out(runs: list[Run]) -> tuple[list[Run], list[str], list[str]]:
    """The finished runs, lines about unfinished runs, and lines about unreadable runs."""
    finished, unfinished, damaged = [], [], []
    for one in runs:
        try:
            status = one.record["status"]
        except InputError as error:
            damaged.append(f"could not be read: {one.path}: {error}")
            continue
        if status == FINISHED:
            finished.append(one)
        else:
            unfinished.append(f"not measured: {one.path} ({status})")
    return finished, unfinished, damaged


def _show(measured: list[tuple[Run, dict]], batches: list[int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console = console if console.is_terminal else Console(width=200)
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for size in batches:
        for name in (f"ms, batch {size}", "90 %", "samples/s"):
            table.add_column(name, justify="right")
    for name in ("peak MB", "CKA"):
        table.add_column(name, justify="right")
    for one, found in measured:
        cells = [
            text
            for size in batches
            for value in [found["batches"][str(size)]]
            for text in (
                f"{value['latency_ms']:.3f}",
                f"{value['latency_ms_p90']:.3f}",
                f"{value['samples_per_second']:,.0f}",
            )
        ]
        cka = scalars(found).get("cka")
        table.add_row(
            escape(str(one.path)),
            *cells,
            f"{found['peak_inference_bytes'] / 1e6:.2f}",
            "" if cka is None else f"{cka:.3f}",
        )
    console.print(table)
    print(
        f"Medians and 90th percentiles, with the runs timed in turns, on: {machine_name(found)}. Peak: tensors at "
        f"batch {max(batches)}. CKA: mean over the taps that student and teacher both have, on validation."
    )


def _show_lengths(measured: list[tuple[Run, dict]]) -> None:
    rows = [
        [
            str(one.path),
            length,
            size,
            f"{value['latency_ms']:.3f}",
            f"{value['latency_ms_p90']:.3f}",
            f"{value['samples_per_second']:,.0f}",
            f"{value['peak_inference_bytes'] / 1e6:.2f}",
        ]
        for one, found in measured
        for length, sizes in found["lengths"].items()
        for size, value in sizes.items()
    ]
    _table(["tokens", "batch", "ms", "90 %", "texts/s", "peak MB"], rows)


def _show_generation(measured: list[tuple[Run, dict]]) -> None:
    rows = []
    for one, found in measured:
        for length, sizes in found["generation"].items():
            for size, value in sizes.items():
                rows.append(
                    [
                        str(one.path),
                        length,
                        str(found["answer_tokens"]),
                        size,
                        f"{value['first_token_ms']:.3f}",
                        f"{value['prompt_tokens_per_second']:,.0f}",
                        f"{value['tokens_per_second']:,.0f}" if "tokens_per_second" in value else "",
                        f"{value['peak_inference_bytes'] / 1e6:.2f}",
                    ]
                )
    _table(["prompt", "answer", "batch", "ms to the first", "read, tokens/s", "written, tokens/s", "peak MB"], rows)
    print("Generation: greedy; prompt and answer in tokens. Peak: tensors, with the keys and values that are kept.")


def _table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table whose first column names the run."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console = console if console.is_terminal else Console(width=200)
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    for run, *cells in rows:
        table.add_row(escape(run), *cells)
    console.print(table)


def _sizes(text: str, option: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(1 <= size <= LARGEST_BATCH for size in sizes):
        raise InputError(f"{option} must be whole numbers from 1 to {LARGEST_BATCH}, for example 1,64; got '{text}'")
    return sorted(set(sizes))


def _answer(text: str, lengths: list[int]) -> int:
    if not lengths:
        raise InputError(f"--answer={text} needs the lengths of the prompts in tokens, for example --lengths 32,128")
    if not text.isascii() or not text.isdecimal() or not 2 <= int(text) <= LARGEST_BATCH:
        raise InputError(f"--answer must be a whole number from 2 to {LARGEST_BATCH}, for example 32; got '{text}'")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(f"--seconds must be a number greater than 0, for example 0.5; got '{text}'")
    return seconds


def _device(text: str) -> torch.device:
    import torch

    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device must be cpu or a GPU (cuda, cuda:1), got '{text}'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device={text}: torch finds {torch.cuda.device_count() or 'no'} "
            f"GPU{'s' if torch.cuda.device_count() > 1 else ''} here"
        )
    return device
