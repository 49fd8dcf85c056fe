"""The survey's tables as typed data: models, corpora, architectures, training settings and more.

    >>> gpt3 = load_table("architectures").row("GPT-3")
    >>> gpt3.n_layers, gpt3.d_model
    (96, 12288)

The files and their provenance are in `data/survey`; the columns of each table are the fields of its
row class in `llmlib.core.survey.rows`.
"""

import functools
import html
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_type_hints, overload

from llmlib.core.resources import resource
from llmlib.core.survey.files import alternatives, column_names, key_of, read_rows
from llmlib.core.survey.rows import (
    SCHEMAS,
    Api,
    Architecture,
    Component,
    Corpus,
    Edition,
    EmergentAbility,
    InstructionCollection,
    Library,
    Milestone,
    MixtureComponent,
    Model,
    OptimizationSetting,
    Row,
    Value,
    YearMonth,
)

__all__ = ["Table", "YearMonth", "load_table", "read_table", "table_names"]

_Row = TypeVar("_Row", bound=Row)
_Other = TypeVar("_Other", bound=Row)


@dataclass(frozen=True)
class Table(Generic[_Row]):
    """Rows of one table, in order, with the means to select and show them.

    Example:
        >>> big = load_table("models").where(public=True).sorted_by("release")
        >>> big.column("name")[:2]
        ('T5', 'mT5')
    """

    name: str
    row_type: type[_Row]
    rows: tuple[_Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[_Row]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> _Row:
        return self.rows[index]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, the provenance last, as in the file."""
        return column_names(self.row_type)

    def column(self, name: str) -> tuple[Any, ...]:
        """Return one column, top to bottom; None where the survey gives no value."""
        self._check((name,))
        return tuple(getattr(row, name) for row in self.rows)

    def row(self, *key: Value) -> _Row:
        """Return the row with a key: its name, or a value for each of the columns `row_type.KEY`.

        Raises:
            ValueError: If the number of values is wrong.
            KeyError: If no row has this key.
        """
        key_columns = self.row_type.KEY
        if len(key) != len(key_columns):
            raise ValueError(f"a row of {self.name!r} is named by {', '.join(key_columns)}")
        for row in self.rows:
            if key_of(row) == key:
                return row
        known = ", ".join(str(getattr(row, key_columns[0])) for row in self.rows)
        raise KeyError(f"no row {key} in the table {self.name!r}; it has {known}")

    def where(self, test: Callable[[_Row], bool] | None = None, /, **equal: Value) -> "Table[_Row]":
        """Keep the rows that pass a test and whose columns equal the given values.

        `column=None` keeps the rows without a value there.
        """
        self._check(equal)
        kept = (
            row
            for row in self.rows
            if all(getattr(row, name) == value for name, value in equal.items())
        )
        return Table(self.name, self.row_type, tuple(filter(test, kept) if test else kept))

    def sorted_by(self, column: str, *, reverse: bool = False) -> "Table[_Row]":
        """Sort the rows by a column, those without a value last."""
        self._check((column,))
        given = [row for row in self.rows if getattr(row, column) is not None]
        given.sort(key=lambda row: getattr(row, column), reverse=reverse)
        missing = [row for row in self.rows if getattr(row, column) is None]
        return Table(self.name, self.row_type, (*given, *missing))

    def to_html(self, columns: Sequence[str] | None = None) -> str:
        """Write all columns, or the given ones, as a `table` element with numbers to the right."""
        names = list(self.columns if columns is None else columns)
        self._check(names)
        hints = get_type_hints(self.row_type)
        numbers = {name for name in names if {int, float} & set(alternatives(hints[name]))}
        side = {name: ' style="text-align:right"' if name in numbers else "" for name in names}
        head = "".join(f"<th{side[name]}>{html.escape(name)}</th>" for name in names)
        body = "\n".join(
            "<tr>"
            + "".join(f"<td{side[n]}>{html.escape(_text(getattr(row, n)))}</td>" for n in names)
            + "</tr>"
            for row in self.rows
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"

    def _repr_html_(self) -> str:
        # In a notebook the columns without any value would only take room.
        filled = [name for name in self.columns if any(v is not None for v in self.column(name))]
        return self.to_html(filled)

    def _check(self, names: Iterable[str]) -> None:
        """Refuse the name of a column that the table does not have."""
        for name in names:
            if name not in self.columns:
                raise ValueError(
                    f"the table {self.name!r} has no column {name!r}; "
                    f"its columns are {', '.join(self.columns)}"
                )


def table_names() -> tuple[str, ...]:
    """List the tables that can be loaded, in alphabetical order."""
    return tuple(SCHEMAS)


@overload
def load_table(name: Literal["apis"]) -> Table[Api]: ...
@overload
def load_table(name: Literal["architectures"]) -> Table[Architecture]: ...
@overload
def load_table(name: Literal["components"]) -> Table[Component]: ...
@overload
def load_table(name: Literal["corpora"]) -> Table[Corpus]: ...
@overload
def load_table(name: Literal["editions"]) -> Table[Edition]: ...
@overload
def load_table(name: Literal["emergence"]) -> Table[EmergentAbility]: ...
@overload
def load_table(name: Literal["instruction_collections"]) -> Table[InstructionCollection]: ...
@overload
def load_table(name: Literal["libraries"]) -> Table[Library]: ...
@overload
def load_table(name: Literal["mixtures"]) -> Table[MixtureComponent]: ...
@overload
def load_table(name: Literal["models"]) -> Table[Model]: ...
@overload
def load_table(name: Literal["optimization"]) -> Table[OptimizationSetting]: ...
@overload
def load_table(name: Literal["timeline"]) -> Table[Milestone]: ...
@overload
def load_table(name: str) -> Table[Any]: ...
def load_table(name: str) -> Table[Any]:
    """Load one of the survey's tables.

    Example:
        >>> sum(part.percent for part in load_table("mixtures").where(model="LLaMA"))
        100.0

    References:
        Zhao et al. 2023, "A Survey of Large Language Models", arXiv:2303.18223, tables 1 to 6.
    """
    if name not in SCHEMAS:
        raise ValueError(f"there is no table {name!r}; choose one of {', '.join(SCHEMAS)}")
    return _load(name)


@functools.cache
def _load(name: str) -> Table[Any]:
    return read_table(resource(f"survey/{name}.csv"), SCHEMAS[name])


def read_table(path: str | os.PathLike[str], row_type: type[_Other]) -> Table[_Other]:
    """Read a CSV file as `read_rows` does, into a table that is named after the file."""
    return Table(Path(path).stem, row_type, read_rows(path, row_type))


def _text(value: Value) -> str:
    """Write a value for a reader."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
