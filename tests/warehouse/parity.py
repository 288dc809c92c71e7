"""Compares the marts of two warehouses row for row."""

import math
from collections.abc import Iterable
from decimal import Decimal

from tests.conftest import Warehouse

MART_SCHEMAS = ("core", "monitoring", "vitals", "operations")
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


def marts(warehouse: Warehouse) -> dict[str, list[str]]:
    """The columns of every mart, by its name."""
    found: dict[str, list[str]] = {}
    for schema, table, column in warehouse.rows(_COLUMNS):
        found.setdefault(f"{schema}.{table}", []).append(str(column))
    return found


def differences(one: Warehouse, other: Warehouse) -> dict[str, str]:
    """What differs, by mart, in counts and positions; empty where the warehouses say the same."""
    mine, theirs = marts(one), marts(other)
    found = dict.fromkeys(mine.keys() ^ theirs.keys(), "only in one warehouse")
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name] != theirs[name]:
            found[name] = "columns differ"
            continue
        columns = [column for column in mine[name] if (name, column) not in EXCEPTED]
        left, right = (_sorted(warehouse, name, columns) for warehouse in (one, other))
        if len(left) != len(right):
            found[name] = f"{len(left)} rows against {len(right)}"
            continue
        unequal = {
            column
            for pair in zip(left, right, strict=True)
            for column, a, b in zip(columns, *pair, strict=True)
            if not _equal(a, b)
        }
        if unequal:
            found[name] = f"values differ in {sorted(unequal)}"
    return found


def _sorted(warehouse: Warehouse, name: str, columns: Iterable[str]) -> list[Row]:
    rows = warehouse.rows(f"select {', '.join(columns)} from {name}")
    # Floats come last in the order: their last digits must not decide which rows are held together.
    return sorted(rows, key=lambda row: ([_key(v) for v in row if not isinstance(v, float)], len(row)))


def _key(value: object) -> tuple[str, str]:
    return (type(value).__name__ if value is None else "", str(_plain(value)))


def _plain(value: object) -> object:
    return value.normalize() + 0 if isinstance(value, Decimal) else value


def _equal(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=FLOAT_TOLERANCE, abs_tol=FLOAT_TOLERANCE)
    return _plain(a) == _plain(b) and type(a) is type(b)
