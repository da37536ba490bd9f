"""How often `kdlab reproduce` objects to a rerun: to a right one, and to one in which a method has stopped working.

    python experiments/reruns/false_alarms.py --draws 1000

Draws a study's results and a rerun of them, as often as asked, and lets kdlab compare the two. A run of seed s in a row
has

    the row's mean + one draw of the seed (the same on both machines) + a draw of its own + one draw of the teacher
    (where the row has one),

with the means and scatters of the records in git. The teacher's draw is one for all students of a table and machine, as
where one teacher serves all. In a broken rerun a row has the mean of its baseline, and its own draws. Prints, as shares
of the draws: what the whole rule objects to, its two parts, and the stricter rule that every claim which holds in git
must hold again.
"""

from __future__ import annotations

import argparse
import copy

import numpy as np

from kdlab.studies.expectations import HOLDS, findings, values
from kdlab.studies.reading import read
from kdlab.studies.records import read_records
from kdlab.studies.rerun import claims, reruns
from kdlab.studies.study import Study


class Model:
    """Where the records of a study come from.

    Args:
        shared: how much of a row's variance is the seed's own, on every machine.
        teacher: standard deviation of what one teacher adds to all of its students.
    """

    def __init__(self, study: Study, records: list[dict], shared: float, teacher: float):
        self.study, self.records, self.shared, self.teacher = study, records, shared, teacher
        self.rows = {
            (table.name, row.name): list(values(table, row, records, table.metric).values())
            for table in study.tables
            for row in table.rows
        }
        self.scatter = float(np.mean([np.std(row, ddof=1) for row in self.rows.values() if len(row) > 2]))

    def seeds(self, random: np.random.Generator) -> dict[int, float]:
        return dict(
            zip(
                {record["seed"]: None for record in self.records},
                random.normal(0, self.scatter * self.shared**0.5, size=100),
            )
        )

    def draw(
        self, random: np.random.Generator, seeds: dict[int, float], broken: tuple[str, str] | None = None
    ) -> list[dict]:
        """The records of one machine."""
        moved, result = random.normal(0, self.teacher), []
        for record in self.records:
            table = self.study.table(record["rows"][0][0])
            place = (table.name, record["rows"][0][1])
            place = (table.name, table.baseline) if place == broken else place
            value = (
                np.mean(self.rows[place])
                + seeds[record["seed"]]
                + random.normal(0, self.scatter * (1 - self.shared) ** 0.5)
            )
            value += moved if record.get("uses_teacher") else 0.0
            drawn = copy.copy(record)
            drawn["metrics"] = {**record["metrics"], f"test/{table.metric}": round(float(value), 4)}
            result.append(drawn)
        return result


def measured(
    model: Model, draws: int, random: np.random.Generator, broken: tuple[str, str] | None = None
) -> np.ndarray:
    """Shares of draws in which there was an objection: by rows or claims, by rows, by claims, by the stricter rule."""
    found = []
    for _ in range(draws):
        seeds = model.seeds(random)
        git, here = model.draw(random, seeds), model.draw(random, seeds, broken)
        rows = any(not one.agrees for one in reruns(model.study, here, git))
        lost = any(not one.agrees for one in claims(model.study, here, git))
        strict = any(
            theirs.verdict == HOLDS != ours.verdict
            for ours, theirs in zip(findings(model.study, here), findings(model.study, git))
        )
        found.append((rows or lost, rows, lost, strict))
    return np.mean(found, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--study", default="logit_methods")
    parser.add_argument(
        "--broken",
        nargs="*",
        default=["KD", "NKD", "DIST"],
        help="rows of the first table that stop working, one at a time",
    )
    options = parser.parse_args()
    study, random = read(options.study), np.random.default_rng(0)
    records = read_records(study.results)
    print(
        "| rerun | seeds share | teacher moves | objected | by a row | by a claim | strict rule |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for shared in (0.0, 0.8):
        for teacher in (0.0, 0.0015):
            model = Model(study, records, shared, teacher)
            for broken in (None, *((study.tables[0].name, name) for name in options.broken)):
                shares = measured(model, options.draws, random, broken)
                what = f"{broken[1]} stopped" if broken else "right"
                print(
                    f"| {what} | {shared:.0%} | {teacher:g} | {' | '.join(f'{share:.1%}' for share in shares)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
