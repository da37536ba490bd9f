"""Writes the tables and figures of README.md from results/*.json.

    python experiments/speed/page.py
    python experiments/speed/page.py --check

Between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` of README.md stands what is made of results/NAME.json. The rest
of the page is written by hand. ``--check`` writes nothing, and ends with 1 if the page is not what the results make.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable

import cached_epoch
import growth
import profile_step
import stacked
import startup
import step
import sweep
import vocabulary
from common import HERE, RESULTS

PAGE = HERE / "README.md"


def of_pairs(table: Callable[[dict], str]) -> Callable[[dict], str]:
    """A table for each pair."""

    def written(content: dict) -> str:
        return "\n\n".join(
            f"**{name}** ({of_pair(content, name)})\n\n{table(rows)}" for name, rows in content["pairs"].items()
        )

    return written


def of_pair(content: dict, name: str) -> str:
    """Commit, rounds and load of a pair."""
    one = content["of"][name]
    load = "" if one["load"] is None else f", load {one['load']}"
    busy = "; other work ran" if (one["load"] or 0) > 1.5 else ""  # one thread is measured
    return f"commit {one['commit']}, {one['rounds']} round{'s' * (one['rounds'] != 1)}{load}{busy}"


def of_sweep(content: dict) -> str:
    size = f"Each run has {content['epochs']} epochs of {content['steps'] // content['epochs']} steps."
    return "\n\n".join([size, *(sweep.table(rows, int(runs)) for runs, rows in content["runs"].items())])


def of_runs(content: dict) -> str:
    """Seconds of each way by the number of runs, and the figure."""
    ways = list(dict.fromkeys(way for rows in content["runs"].values() for way in rows))
    lines = [f"| runs | {' | '.join(ways)} |", f"|---|{'---:|' * len(ways)}"]
    for runs, rows in content["runs"].items():
        cells = [f"{rows[way]['median']:.1f}" if way in rows else "" for way in ways]
        lines.append(f"| {runs} | {' | '.join(cells)} |")
    figure = "![Seconds of a sweep by the number of its runs](results/sweep_digits_by_runs.svg)"
    return "\n".join([f"Each run has {content['epochs']} epochs. Seconds of the whole sweep:", "", *lines, "", figure])


def of_axes(content: dict) -> str:
    return "\n\n".join(growth.table(axis, rows) for axis, rows in content["axes"].items())


SECTIONS: dict[str, Callable[[dict], str]] = {
    "step": of_pairs(step.table),
    "profile": of_pairs(profile_step.table),
    "step_cuda": of_pairs(step.table),
    "sweep_digits": of_sweep,
    "sweep_fashion_mnist": of_sweep,
    "sweep_digits_by_runs": of_runs,
    "sweep_digits_launchers": of_sweep,
    "stacked": stacked.table,
    "cached_epoch": of_pairs(cached_epoch.table),
    "startup": lambda content: startup.table(content["commands"]),
    "growth": of_axes,
    "vocabulary": vocabulary.table,
    "vocabulary_growth": vocabulary.growth_table,
}


def facts(name: str, content: dict) -> str:
    """Where and of what it was measured."""
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    place = f"{machine['gpu']}, " if machine["gpu"] else ""
    number = content.get("rounds")
    rounds = "" if number is None else f", {number} round{'s' * (number != 1)}"
    if "of" in content:  # each pair has its own
        where = f"{place}{machine['processor']}, {machine['cores']} cores, 1 thread"
        return f"{where}; Python {machine['python']}, {versions}."
    # one thread is measured, and all cores in a sweep: where more are at work, something else was too
    expected = machine["cores"] if name.startswith(("sweep", "stacked")) else machine["threads"]
    busy = (machine["load"] or 0) > expected + 0.5 and name != "startup"
    first_try = "**A first try, while other work ran.** " if busy else ""
    return (
        f"{first_try}{place}{machine['processor']}, {machine['cores']} cores, {machine['threads']} thread, load "
        f"{machine['load']} at the end; Python {machine['python']}, {versions}; commit {machine['commit']}{rounds}."
    )


def section(name: str) -> str:
    """What stands between the marks of a name."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return "Not measured yet."
    content = json.loads(file.read_text(encoding="utf-8"))
    return f"{SECTIONS[name](content)}\n\n{facts(name, content)}"


def rendered(text: str) -> str:
    """The page with all sections.

    Raises:
        SystemExit: the marks of a section are missing.
    """
    for name in SECTIONS:
        found = re.search(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", text, re.DOTALL)
        if found is None:
            raise SystemExit(f"README.md: <!-- {name} --> and <!-- end of {name} --> are missing; add them")
        text = f"{text[: found.start()]}{found[1]}\n{section(name)}\n\n{found[2]}{text[found.end() :]}"
    return text


def draw(content: dict) -> str:
    """The cost of a sweep by the number of its runs, as SVG."""
    from kdlab.compare.figures.style import DASHES, MARKERS, SERIES, drawing, svg

    figure = drawing()
    axes = figure.add_subplot()
    ways = list(dict.fromkeys(way for rows in content["runs"].values() for way in rows))
    for number, way in enumerate(ways):
        points = [(int(runs), rows[way]) for runs, rows in content["runs"].items() if way in rows]
        runs = [place for place, _ in points]
        style = {"color": SERIES[number], "marker": MARKERS[number], "linestyle": DASHES[number]}
        axes.plot(runs, [row["median"] for _, row in points], label=way, **style)
        axes.fill_between(
            runs, [row["q1"] for _, row in points], [row["q3"] for _, row in points], color=SERIES[number], alpha=0.2
        )
    axes.set(xlabel="runs of the sweep", ylabel="seconds of the whole sweep", xlim=(0, None), ylim=(0, None))
    axes.legend()
    return svg(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 if the page is not up to date")
    options = parser.parse_args()
    before = PAGE.read_text(encoding="utf-8")
    after = rendered(before)
    if options.check:
        if before != after:
            raise SystemExit("README.md is not what results/*.json make; run python experiments/speed/page.py")
        return
    PAGE.write_text(after, encoding="utf-8")
    for name, drawn in (("sweep_digits_by_runs", draw), ("vocabulary_growth", vocabulary.draw_growth)):
        file = RESULTS / f"{name}.json"
        if file.is_file():
            figure = RESULTS / file.with_suffix(".svg").name
            figure.write_text(drawn(json.loads(file.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {PAGE.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
