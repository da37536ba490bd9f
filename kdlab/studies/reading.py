"""Reads a Study from study.yaml. All problems of the file are reported at once, each with its key."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdlab.errors import InputError, did_you_mean, yaml_problem

from .expansion import expanded
from .study import FILE, HEADLINE, Expectation, Row, Study, StudyTable, find


def _number(value: Any) -> bool:
    # isfinite raises for very large whole numbers
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# the kinds of values: description, and test
KINDS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str) and bool(value.strip()),
    "a row's name": lambda value: isinstance(value, (str, int, float)) and not isinstance(value, bool),
    "a number": _number,
    "a number that is not negative": lambda value: _number(value) and value >= 0,
    "a list of texts": lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
    "a list of rows' names": lambda value: isinstance(value, list) and all(KINDS["a row's name"](one) for one in value),
    "a list of whole numbers that are not negative, for example [1, 2, 3]": lambda value: (
        isinstance(value, list) and bool(value) and all(_whole(one) and one >= 0 for one in value)
    ),
    "numbers by class, for example {3: 2.0}": lambda value: (
        isinstance(value, dict)
        and bool(value)
        and all(_whole(key) and key >= 0 and _number(one) for key, one in value.items())
    ),
    "a list": lambda value: isinstance(value, list),
    "a node with keys": lambda value: isinstance(value, dict) and bool(value),
}
TEXT, NAME, NUMBER, TEXTS, NODE = "a text", "a row's name", "a number", "a list of texts", "a node with keys"
SEEDS, BIAS = list(KINDS)[6], list(KINDS)[7]
POSITIVE = "a number that is not negative"

STUDY = {
    "title": TEXT,
    "paper": TEXT,
    "scale": TEXT,
    "minutes": POSITIVE,
    "tables": NODE,
    "curves": NODE,
    "expected": "a list",
    "levels": "a list",
}
TABLE = {"title": TEXT, "metric": TEXT, "further": TEXTS, "baseline": NAME, "rows": NODE}
ROW = {"overrides": TEXTS, "seeds": SEEDS, "bias": BIAS, "network": TEXT}
CURVES = {"metric": TEXT, "table": NAME, "rows": "a list of rows' names"}
EXPECTED = {
    "table": NAME,
    "row": NAME,
    "metric": TEXT,
    "value": NUMBER,
    "tolerance": POSITIVE,
    "above": NAME,
    "below": NAME,
    "by": NUMBER,
    "claim": TEXT,
    "explained": TEXT,
}
LEVEL = {"table": NAME, "row": NAME, "metric": TEXT, "value": NUMBER, "tolerance": POSITIVE}


class _Unique(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys. YAML takes the last one, so a duplicate row would be lost."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for (key, _), name in zip(node.value, names):
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{name}' is here {names.count(name)} times", key.start_mark
                )
        return super().construct_mapping(node, deep)


def read(name: str) -> Study:
    """The study of a name or folder.

    Raises:
        InputError: there is none, or its study.yaml has problems.
    """
    name, folder = find(name)
    path = folder / FILE
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Unique)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {yaml_problem(error)}") from error
    reader = _Reader()
    study = reader.study(content, name, folder)
    if reader.problems or study is None:
        raise InputError(*(f"{path}: {problem}" for problem in reader.problems))
    return study


class _Reader:
    """Reads nodes and collects their problems."""

    def __init__(self):
        self.problems: list[str] = []

    def study(self, content: object, name: str, folder: Path) -> Study | None:
        node = self._node(content, "", STUDY, ("title", "scale", "tables"))
        tables = tuple(self._table(value, str(key)) for key, value in node.get("tables", {}).items())
        curves = self._node(node.get("curves", {}), "curves", CURVES) if node.get("curves") else {}
        known = {table.name: [row.name for row in table.rows] for table in tables}
        rows, curve_table = self._curves(curves, tables)
        expected = [
            self._expectation(value, f"expected, number {number}", known)
            for number, value in enumerate(node.get("expected", []), start=1)
        ]
        levels = [
            self._expectation(value, f"levels, number {number}", known, LEVEL)
            for number, value in enumerate(node.get("levels", []), start=1)
        ]
        if self.problems:
            return None
        return Study(
            folder,
            name,
            node["title"],
            node["scale"],
            tables,
            node.get("paper", ""),
            node.get("minutes"),
            tuple(one for one in expected if one is not None),
            tuple(one for one in levels if one is not None),
            curves.get("metric", f"val/{HEADLINE}"),
            rows,
            curve_table,
            "metric" not in curves,
        )

    def _curves(self, node: dict, tables: Sequence[StudyTable]) -> tuple[tuple[str, ...], str | None]:
        """The names of the rows whose curves are kept, and their table; None if any table will do, since tables share
        rows. A name is refused if it means different runs in two tables."""
        if "table" in node:
            self._known("curves.table", [str(node["table"])], [table.name for table in tables])
            tables = [table for table in tables if table.name == str(node["table"])]
        elif "rows" not in node:
            tables = tables[:1]
        if not tables:
            return (), None
        rows = [str(row) for row in node.get("rows", [row.name for row in tables[0].rows])]
        self._known("curves.rows", rows, [row.name for table in tables for row in table.rows])
        for name, number in Counter(rows).items():
            if number > 1:
                self.problems.append(f"curves.rows: '{name}' is there {number} times")
            having = {table.name: row for table in tables for row in table.rows if row.name == name}
            if len({(row.overrides, row.seeds) for row in having.values()}) > 1:
                self.problems.append(
                    f"curves.rows: '{name}' names other runs in each of the tables {', '.join(having)}; choose a "
                    f"table, for example 'table: {next(iter(having))}' in curves"
                )
        return tuple(rows), tables[0].name if len(tables) == 1 else None

    def _table(self, value: object, name: str) -> StudyTable:
        key = f"tables.{name}"
        node = self._node(value, key, TABLE, ("title", "rows"))
        rows = [
            row
            for text, content in node.get("rows", {}).items()
            for row in self._rows(content, str(text), f"{key}.rows.{text}")
        ]
        for twice in [text for text, number in Counter(row.name for row in rows).items() if number > 1]:
            self.problems.append(f"{key}.rows: '{twice}' names several rows")
        baseline = str(node["baseline"]) if "baseline" in node else None
        if baseline is not None:
            self._known(f"{key}.baseline", [baseline], [row.name for row in rows])
        return StudyTable(
            name,
            node.get("title", ""),
            tuple(rows),
            node.get("metric", HEADLINE),
            tuple(node.get("further", [])),
            baseline,
            "metric" not in node,
        )

    def _rows(self, value: object, name: str, key: str) -> list[Row]:
        """The rows of an entry: one, or one for each job of its sweep."""
        node = self._node(value, key, ROW, ("overrides", "seeds"))
        if not {"overrides", "seeds"} <= set(node):
            return []
        for seed in [seed for seed, number in Counter(node["seeds"]).items() if number > 1]:
            self.problems.append(f"{key}.seeds: {seed} is there several times")
        try:
            jobs = expanded(node["overrides"], name)
        except InputError as error:
            self.problems += [f"{key}: {problem}" for problem in error.problems]
            return []
        bias = {number: float(amount) for number, amount in node.get("bias", {}).items()}
        return [Row(text, overrides, tuple(node["seeds"]), bias, node.get("network")) for text, overrides in jobs]

    def _expectation(
        self, value: object, key: str, known: dict[str, list[str]], keys: dict[str, str] = EXPECTED
    ) -> Expectation | None:
        node = self._node(value, key, keys, ("table", "row", *(("value", "tolerance") if keys is LEVEL else ())))
        if not {"table", "row"} <= set(node):
            return None
        node["table"] = str(node["table"])
        self._known(f"{key}: table", [node["table"]], known)
        for name in ("row", "above", "below"):
            if name in node:
                node[name] = str(node[name])
                self._known(f"{key}: {name}", [node[name]], known.get(node["table"], [node[name]]))
                if name != "row" and node[name] == node["row"]:
                    self.problems.append(f"{key}: {name}: the row cannot be {name} itself")
        kinds = [name for name in ("value", "above", "below") if name in node]
        if keys is EXPECTED and len(kinds) != 1:
            self.problems.append(
                f"{key}: give exactly one of value, above and below as the expectation; there are "
                f"{', '.join(kinds) or 'none of them'}"
            )
        if keys is EXPECTED and "value" in node and "tolerance" not in node:
            self.problems.append(f"{key}: a value needs a tolerance")
        stray = [name for name in (("by",) if "value" in node else ("tolerance",)) if name in node]
        if stray and kinds:
            self.problems.append(f"{key}: {stray[0]} has no effect with {kinds[0]}; leave it out")
        return Expectation(**node)

    # -- common to all -------------------------------------------------------------------------------------------------

    def _node(self, value: object, key: str, kinds: dict[str, str], required: Iterable[str] = ()) -> dict:
        """The valid entries of a node."""
        before = f"{key}: " if key else ""
        if not isinstance(value, dict):
            self.problems.append(f"{before}must be a node with the keys {', '.join(kinds)}, got {value!r}")
            return {}
        for name in [name for name in value if name not in kinds]:
            self.problems.append(
                f"{before}there is no key '{name}'{did_you_mean(name, kinds)} (there are {', '.join(kinds)})"
            )
        for name in [name for name in required if name not in value]:
            self.problems.append(f"{before}{name} is missing")
        for name in [name for name in value if name in kinds and not KINDS[kinds[name]](value[name])]:
            self.problems.append(f"{before}{name} must be {kinds[name]}, got {value[name]!r}")
        return {name: one for name, one in value.items() if name in kinds and KINDS[kinds[name]](one)}

    def _known(self, key: str, names: Iterable[str], known: Iterable[str]) -> None:
        known = list(dict.fromkeys(known))
        for name in [name for name in names if name not in known]:
            self.problems.append(
                f"{key}: there is no '{name}'{did_you_mean(name, known)} (there are {', '.join(known) or 'none'})"
            )
