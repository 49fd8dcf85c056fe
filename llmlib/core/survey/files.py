"""Reading one table of the survey from its CSV file, every cell checked against the row class."""

import csv
import math
import os
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from llmlib.core.survey.rows import Row, Value

_Row = TypeVar("_Row", bound=Row)

_BOOLEANS = {"true": True, "false": False}


def read_rows(path: str | os.PathLike[str], row_type: type[_Row]) -> tuple[_Row, ...]:
    """Read the rows of a CSV file whose columns are the fields of a row class.

    The file is UTF-8: a header line with the column names in the order of the fields (provenance
    last), then a line a row. Booleans are `true` or `false`, dates `YYYY` or `YYYY-MM`, numbers
    plain; an empty cell means that there is no value.

    Raises:
        ValueError: If the header or a cell does not fit the class, or two rows have the same key;
            the message names the file and line.
    """
    path = Path(path)
    hints = get_type_hints(row_type)
    columns = column_names(row_type)
    rows: list[_Row] = []
    lines: dict[tuple[Value, ...], int] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            _check_header(tuple(next(reader, ())), columns)
            for cells in reader:
                row = _parse_row(cells, row_type, columns, hints)
                key = key_of(row)
                if key in lines:
                    raise ValueError(f"the key {key} is already on line {lines[key]}")
                lines[key] = reader.line_num
                rows.append(row)
        except (ValueError, csv.Error) as error:
            # `max`, because an empty file has no line yet.
            raise ValueError(f"{path}, line {max(reader.line_num, 1)}: {error}") from error
    return tuple(rows)


def column_names(row_type: type[Row]) -> tuple[str, ...]:
    """List the columns of a table: the class's own fields, then the provenance that all share."""
    shared = tuple(field.name for field in fields(Row))
    own = tuple(field.name for field in fields(row_type) if field.name not in shared)
    return own + shared


def key_of(row: Row) -> tuple[Value, ...]:
    """Return what names a row in its table: the values of its key columns."""
    return tuple(getattr(row, name) for name in row.KEY)


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """List the types that an annotation allows: the members of a union, or itself alone."""
    if get_origin(annotation) in (Union, UnionType):
        return get_args(annotation)
    return (annotation,)


def _check_header(header: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Say how a header differs from the expected one."""
    missing = [name for name in expected if name not in header]
    unknown = [name for name in header if name not in expected]
    if missing:
        raise ValueError(f"no column {', '.join(map(repr, missing))}")
    if unknown:
        raise ValueError(f"unknown column {', '.join(map(repr, unknown))}")
    if header != expected:
        raise ValueError(f"the columns must be {', '.join(expected)}, each once, in this order")


def _parse_row(
    cells: list[str], row_type: type[_Row], columns: tuple[str, ...], hints: dict[str, Any]
) -> _Row:
    """Convert a line's cells to their columns' types."""
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells for {len(columns)} columns")
    values: dict[str, Any] = {}
    for name, cell in zip(columns, cells, strict=True):
        try:
            values[name] = _parse_cell(cell, hints[name])
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from error
    return row_type(**values)


def _parse_cell(cell: str, annotation: Any) -> Value:
    """Convert a cell to the type that its column's annotation names."""
    types = alternatives(annotation)
    if cell != cell.strip():
        raise ValueError(f"remove the space round {cell!r}")
    if not cell:
        if NoneType in types:
            return None
        raise ValueError("a value is required")
    kind = next(member for member in types if member is not NoneType)
    if get_origin(kind) is Literal:
        if cell not in get_args(kind):
            raise ValueError(f"{cell!r} is not one of {', '.join(map(repr, get_args(kind)))}")
        return cell
    if kind is bool:
        if cell not in _BOOLEANS:
            raise ValueError(f"write true or false, not {cell!r}")
        return _BOOLEANS[cell]
    if kind in (int, float):
        return _parse_number(cell, kind)
    return kind(cell)


def _parse_number(cell: str, kind: type[int] | type[float]) -> int | float:
    """Convert a cell to a finite number."""
    try:
        number = kind(cell)
    except ValueError:
        number = math.nan
    # `int("1_000")` and `float("1_0")` are Python, not data.
    if not math.isfinite(number) or "_" in cell:
        raise ValueError(f"{cell!r} is not a plain {'integer' if kind is int else 'number'}")
    return number
