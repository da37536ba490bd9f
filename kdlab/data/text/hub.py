"""Texts of data sets of Hugging Face, by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kdlab.errors import InputError
from kdlab.functional.tokens import IGNORED
from kdlab.models.hub_names import is_path
from kdlab.runs.files import content_hash

from .files import Table
from .sources import Source
from .texts import TextData

_ROWS = 500  # that are read at a time where tokens stay on disk


@dataclass(frozen=True)
class SplitSource(Source):
    """The rows of a split of a data set of Hugging Face, which ``datasets`` maps into memory.

    Args:
        option: the option that names it, with its value.
        title: its name in messages.
        split: as ``datasets`` gives it.
        wanted: the columns that are read.
    """

    option: str
    title: str
    split: Any
    wanted: Sequence[str]

    @property
    def key(self) -> str:
        """The option with its value."""
        return self.option

    @property
    def name(self) -> str:
        """The name of the data set, and of the split."""
        return self.title

    @property
    def size(self) -> int:
        """Bytes of all columns."""
        return int(self.split.data.nbytes)

    def identity(self) -> dict[str, Any]:
        """The fingerprint that ``datasets`` gives the rows, and their number."""
        return {"fingerprint": self.split._fingerprint, "count": len(self.split)}

    def blocks(self) -> Iterator[Table]:
        """The rows of the split."""
        names, done = self.split.column_names, 0
        wanted = [name for name in self.wanted if name in names] or names[:1]
        for batch in self.split.select_columns(wanted).iter(batch_size=_ROWS):
            columns: dict[str, Sequence[Any]] = {**dict.fromkeys(names, ()), **batch}
            count = len(batch[wanted[0]])
            yield Table(self.name, columns, range(done + 1, done + count + 1))
            done += count


class HuggingFaceTexts(TextData):
    """A data set of the Hugging Face hub, or one saved in a folder, through the package ``datasets``.

    If the label column knows the names of its classes, these are the class names. If ``class_names`` has any of them,
    it gives them another order; if it has none of them, it renames the classes. A label of -1 is a missing one.

    Args:
        dataset: its name on the hub, or a folder.
        config: the configuration (for GLUE: the task).
        revision: branch, tag or commit of the hub; give a commit for a run that others can repeat.
        unlabelled_split: further training samples, whose labels are not read.
        train_split, validation_split, test_split: names of the splits; None: a part of the training split
            (``validation``, ``test_fraction``).
        options: those of :class:`TextData`.
    """

    CONTENT = {**TextData.CONTENT, "dataset": content_hash}
    keys = {
        "train": "data.train_split",
        "validation": "data.validation_split",
        "test": "data.test_split",
        "unlabelled": "data.unlabelled_split",
    }

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        revision: str | None = None,
        train_split: str = "train",
        validation_split: str | None = None,
        test_split: str | None = "test",
        unlabelled_split: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._check_unlabelled("unlabelled_split", unlabelled_split)
        self.dataset, self.config, self.revision = dataset, config, revision
        self.splits = {
            name: split
            for name, split in (
                ("train", train_split),
                ("validation", validation_split),
                ("test", test_split),
                ("unlabelled", unlabelled_split),
            )
            if split is not None
        }

    def tables(self) -> dict[str, Table]:
        """The splits as tables.

        Raises:
            InputError: ``datasets`` is not installed, or there is no such data set, configuration or split.
        """
        return {name: self._table(split, self.splits[name]) for name, split in self._loaded.items()}

    def sources(self) -> dict[str, Source]:
        """The splits, to be read a block at a time. Raises InputError as :meth:`tables` does."""
        wanted = [column for column in (self.text, self.text_pair) if column is not None]
        return {
            name: SplitSource(f"{self.keys[name]}={self.splits[name]}", self._title(self.splits[name]), split, wanted)
            for name, split in self._loaded.items()
        }

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        """The splits that are used, as ``datasets`` gives them."""
        try:
            import datasets
        except ImportError as error:
            raise InputError(
                f"data.dataset={self.dataset}: data sets of Hugging Face need the package datasets: "
                "pip install 'kdlab[text]'"
            ) from error
        if is_path(self.dataset) and not Path(self.dataset).expanduser().exists():
            raise InputError(
                f"data.dataset={self.dataset}: there is no such folder; name one with the files of a data set, or a "
                "data set of the hub, as in data.dataset=nyu-mll/glue data.config=sst2"
            )
        before = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            found = datasets.load_dataset(self.dataset, self.config, revision=self.revision)
        except Exception as error:  # the library raises whatever its readers raise
            raise self._not_loaded(error) from error
        finally:
            if before:
                datasets.enable_progress_bars()
        if missing := [name for name, split in self.splits.items() if split not in found]:
            raise InputError(
                *(
                    f"{self.keys[name]}={self.splits[name]}: {self._name} has no such split (it has "
                    f"{', '.join(found)}); {self.keys[name]}=null"
                    if name != "train"
                    else f"{self.keys[name]}={self.splits[name]}: {self._name} has no such split (it has "
                    f"{', '.join(found)})"
                    for name in missing
                )
            )
        return {name: found[split] for name, split in self.splits.items()}

    @property
    def _name(self) -> str:
        return self.dataset if self.config is None else f"{self.dataset} ({self.config})"

    def _title(self, split: str) -> str:
        return f"{self._name}, split {split}"

    def _table(self, split: Any, name: str) -> Table:
        wanted = [one for one in (self.text, self.text_pair, self.label, *self.kept_columns) if one is not None]
        columns = {one: split[one][:] if one in wanted else () for one in split.column_names}
        column, own = self.label or "", _names(split.features.get(self.label))
        if own:
            by_name = False  # the numbers themselves are asked for, or data.class_names renames the classes
            if self.label_kind != "values" and self.threshold is None:
                self.given_names = self.given_names or own
                by_name = bool({*own} & {*self.given_names})
            columns[column] = [_label(value, own if by_name else None) for value in columns[column]]
        if not len(split):
            raise InputError(f"data.dataset={self.dataset}: the split {name} holds no rows")
        return Table(self._title(name), columns, range(1, len(split) + 1))

    def _not_loaded(self, error: Exception) -> InputError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        kind = type(error).__name__
        place = f"data.dataset={self.dataset}" + ("" if self.config is None else f" data.config={self.config}")
        if isinstance(error, ConnectionError) or kind in (
            "OfflineModeIsEnabled",
            "LocalEntryNotFoundError",
            "ConnectError",
        ):
            cure = (
                "The Hugging Face hub cannot be reached. Without a network, name a folder with the files: "
                "data.dataset=FOLDER, or read files with data=text data.train=FILE"
            )
            return InputError(f"{place}: {cure} ({reason})")
        return InputError(f"{place}: it cannot be loaded: {reason}")


def _names(feature: Any) -> tuple[str, ...]:
    """The names of the classes that a column knows, also of a column of lists; empty if it knows none."""
    for one in (feature, getattr(feature, "feature", None)):
        if names := getattr(one, "names", None):
            return tuple(str(name).strip() for name in names)
    return ()


def _label(value: Any, names: tuple[str, ...] | None) -> Any:
    """A label of a column of numbers of classes: None for a missing one, and its name where ``names`` are given."""
    if isinstance(value, list):
        return [_label(one, names) if one != IGNORED else one for one in value]
    if value in (None, -1):
        return None
    return value if names is None else names[value]
