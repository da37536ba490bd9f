"""Time and memory of a divergence over a large vocabulary: all logits at once, a part of the rows at a time, and Liger.

    python experiments/speed/vocabulary.py --rounds 5
    python experiments/speed/vocabulary.py --growth --rounds 1

Each point is a new process: hidden states of student and teacher, their heads, forward and backward pass, one warm pass
and then the median of three. Memory is the largest resident size beyond that with the inputs. Liger is the chunked loss
of liger-kernel as it comes, without torch.compile; its divergence is the generalised JSD, forward KL at beta 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial

import torch
from common import HERE, available, memory, rounds, summary, write

WIDTH, ROWS = 576, 256
TERMS = {"forward KL": ("ForwardKL", 0.0), "JSD": ("JensenShannon", 0.5)}
WAYS = ("all at once", f"{ROWS} rows at a time", "Liger")
TOKENS, VOCABULARY = 2048, 49_152
GROWTH = {"tokens": (512, 1024, 2048, 4096), "vocabulary": (12_288, 24_576, 49_152, 98_304)}


def loss_of(way: str, term: str, states: list, heads: list):
    """The mean of the divergence over the rows."""
    if way == "Liger":
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        liger = LigerFusedLinearJSDLoss(0.0, 1.0, beta=TERMS[term][1], compiled=False)
        labels = torch.zeros(len(states[0]), dtype=torch.long)
        return liger(states[0], heads[0], states[1], heads[1], labels)
    import kdlab.losses
    from kdlab.batch import Batch
    from kdlab.objective import Objective
    from kdlab.outputs import LazyLogits, Outputs

    objective = Objective({"term": getattr(kdlab.losses, TERMS[term][0])()}, {"term": 1.0})
    student, teacher = (
        LazyLogits(hidden, lambda x, head=head: x @ head.T, (head,), None if way == WAYS[0] else ROWS, linear=True)
        for hidden, head in zip(states, heads)
    )
    rows = Batch(None, torch.zeros(len(states[0]), dtype=torch.long), torch.arange(len(states[0])))
    return objective(Outputs(student), Outputs(teacher).detach(), rows).total


def point(way: str, term: str, tokens: int, vocabulary: int) -> dict:
    """Seconds of a forward and a backward pass, MB beyond the inputs, the value, and the size of the gradient."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    states = [torch.randn(tokens, WIDTH) for _ in range(2)]
    heads = [torch.randn(vocabulary, WIDTH) / WIDTH**0.5 for _ in range(2)]
    states[0].requires_grad_(), heads[0].requires_grad_()
    small = [one[:8] for one in states], [one[:16] for one in heads]
    loss_of(way, term, [one.detach() for one in small[0]], [one.detach() for one in small[1]])  # imports
    before, seconds = memory(), []
    for _ in range(4):
        states[0].grad = heads[0].grad = None
        start = time.perf_counter()
        loss = loss_of(way, term, states, heads)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds[1:]),
        "memory": memory() - before,
        "loss": float(loss.detach()),
        "gradient": float(heads[0].grad.norm()),
    }


def elsewhere(*arguments: object) -> dict:
    """:func:`point` in a new process."""
    program = [sys.executable, str(HERE / "vocabulary.py"), "--point", json.dumps(arguments)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        raise SystemExit(f"{arguments}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(term: str, tokens: int, vocabulary: int, number: int) -> dict:
    """Way -> summaries of time and memory, with ratios to all logits at once."""
    names = WAYS if available(["liger-kernel"]) else WAYS[:2]
    found = rounds({way: partial(elsewhere, way, term, tokens, vocabulary) for way in names}, number, warm=0)
    base = found[WAYS[0]]
    return {
        way: {key: summary([one[key] for one in values], [one[key] for one in base]) for key in ("seconds", "memory")}
        | {key: values[0][key] for key in ("loss", "gradient")}
        for way, values in found.items()
    }


def table(content: dict) -> str:
    """A table for each term and size."""
    lines = []
    for name, rows in content["sizes"].items():
        lines += [
            f"**{name}**",
            "",
            "| way | MB beyond the inputs | to all at once | seconds | to all at once | loss "
            "| norm of the head's gradient |",
            "|---|---:|---:|---:|---:|---:|---:|",
            *(
                f"| {way} | {row['memory']['median']:,.0f} | {row['memory']['ratio']:.2f} "
                f"| {row['seconds']['median']:.2f} | {row['seconds']['ratio']:.2f} "
                f"| {row['loss']:.5f} | {row['gradient']:.5g} |"
                for way, row in rows.items()
            ),
            "",
        ]
    return "\n".join(lines).strip()


def growth_table(content: dict) -> str:
    """A table for tokens and one for the vocabulary."""
    lines = []
    for axis, points in content["axes"].items():
        ways = list(next(iter(points.values())))
        lines += [
            f"| {axis} | " + " | ".join(f"{way}, MB | s" for way in ways) + " |",
            "|---:|" + "---:|---:|" * len(ways),
            *(
                f"| {int(place):,} | "
                + " | ".join(
                    f"{rows[way]['memory']['median']:,.0f} | {rows[way]['seconds']['median']:.2f}" for way in ways
                )
                + " |"
                for place, rows in points.items()
            ),
            "",
        ]
    figure = "![Memory by tokens and by vocabulary](results/vocabulary_growth.svg)"
    other = {"tokens": f"vocabulary {VOCABULARY:,}", "vocabulary": f"{TOKENS:,} tokens"}
    return "\n".join([f"Forward KL ({', or '.join(other[axis] for axis in content['axes'])}):", "", *lines, figure])


def draw_growth(content: dict) -> str:
    """Memory by tokens and by vocabulary, as SVG."""
    from kdlab.compare.figures.style import DASHES, MARKERS, SERIES, drawing, svg

    figure = drawing()
    for number, (axis, points) in enumerate(content["axes"].items()):
        axes = figure.add_subplot(1, len(content["axes"]), number + 1)
        for place, way in enumerate(next(iter(points.values()))):
            style = {"color": SERIES[place], "marker": MARKERS[place], "linestyle": DASHES[place]}
            memory = [rows[way]["memory"]["median"] for rows in points.values()]
            axes.plot([int(one) for one in points], memory, label=way, **style)
        axes.set(xlabel=axis, ylabel="MB beyond the inputs", xlim=(0, None), ylim=(0, None))
        axes.legend()
    return svg(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--growth", action="store_true", help="fewer and more tokens, and other vocabularies, instead")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round of a small size; keeps nothing")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(point(*json.loads(options.point))))
        return
    number = 1 if options.quick else options.rounds
    tokens, vocabulary = (256, 4096) if options.quick else (TOKENS, VOCABULARY)
    if options.growth:
        axes: dict[str, dict] = {}
        for axis, places in GROWTH.items():
            for place in (64, 128) if options.quick else places:
                sizes = {"tokens": tokens, "vocabulary": vocabulary, axis: place}
                found = measured("forward KL", sizes["tokens"], sizes["vocabulary"], number)
                axes.setdefault(axis, {})[str(place)] = found
                print(f"{axis} {place}: {found}", flush=True)
        print(f"\n{growth_table({'axes': axes})}", flush=True)
        write("vocabulary_growth", {"axes": axes, "rounds": number}, options.quick)
        return
    kept = {}
    for term in TERMS:
        name = f"{term}, {tokens:,} tokens, vocabulary {vocabulary:,}, width {WIDTH}"
        kept[name] = measured(term, tokens, vocabulary, number)
        print(f"\n{table({'sizes': {name: kept[name]}})}", flush=True)
    write("vocabulary", {"sizes": kept, "rounds": number}, options.quick)


if __name__ == "__main__":
    main()
