"""Compares the marts of two warehouses row for row."""

import math
from decimal import Decimal
from typing import NamedTuple

from tests.conftest import Warehouse

# Columns that tell of the load itself and so differ from warehouse to warehouse, by name.
EXCEPTED: frozenset[tuple[str, str]] = frozenset()
FLOAT_TOLERANCE = 1e-9

_COLUMNS = """
    select table_schema, table_name, column_name
    from information_schema.columns
    where table_schema in ('core', 'monitoring', 'vitals', 'operations')
    order by table_schema, table_name, column_name
"""
Row = tuple[object, ...]


class Mart(NamedTuple):
    """A mart as it stands: its columns and its rows."""

    columns: list[str]
    rows: list[Row]


def read_marts(warehouse: Warehouse) -> dict[str, Mart]:
    """Every mart of a warehouse, by its name."""
    columns: dict[str, list[str]] = {}
    for schema, table, column in warehouse.rows(_COLUMNS):
        if (f"{schema}.{table}", column) not in EXCEPTED:
            columns.setdefault(f"{schema}.{table}", []).append(str(column))
    return {
        name: Mart(names, sorted(warehouse.rows(f"select {', '.join(names)} from {name}"), key=_order))
        for name, names in columns.items()
    }


def differences(one: dict[str, Mart], other: dict[str, Mart]) -> dict[str, str]:
    """What differs, by mart, in counts and column names; empty where both say the same."""
    found = dict.fromkeys(one.keys() ^ other.keys(), "only in one")
    for name in sorted(one.keys() & other.keys()):
        mine, theirs = one[name], other[name]
        if mine.columns != theirs.columns:
            found[name] = "columns differ"
        elif len(mine.rows) != len(theirs.rows):
            found[name] = f"{len(mine.rows)} rows against {len(theirs.rows)}"
        elif unequal := _unequal_columns(mine, theirs):
            found[name] = f"values differ in {unequal}"
    return found


def _unequal_columns(one: Mart, other: Mart) -> list[str]:
    return sorted(
        {
            column
            for pair in zip(one.rows, other.rows, strict=True)
            for column, a, b in zip(one.columns, *pair, strict=True)
            if not _equal(a, b)
        }
    )


def _order(row: Row) -> list[tuple[str, str]]:
    # Floats stay out of the order: their last digits must not decide which rows are held together.
    return [_key(value) for value in row if not isinstance(value, float)]


def _key(value: object) -> tuple[str, str]:
    return (type(value).__name__ if value is None else "", str(_plain(value)))


def _plain(value: object) -> object:
    return value.normalize() + 0 if isinstance(value, Decimal) else value


def _equal(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=FLOAT_TOLERANCE, abs_tol=FLOAT_TOLERANCE)
    return _plain(a) == _plain(b) and type(a) is type(b)
