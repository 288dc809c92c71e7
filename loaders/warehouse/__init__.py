"""The warehouses: one module each behind one small protocol."""

from loaders.profile import DuckdbTarget, Target
from loaders.warehouse.duckdb import DuckdbWarehouse
from loaders.warehouse.postgres import PostgresWarehouse
from loaders.warehouse.protocol import Warehouse


def open_warehouse(target: Target, *, read_only: bool = False) -> Warehouse:
    """Open the warehouse of a target; close it with ``with``.

    Raises:
        CdwError: it cannot be opened; the message says why in our words.
    """
    if isinstance(target, DuckdbTarget):
        return DuckdbWarehouse(target, read_only=read_only)
    return PostgresWarehouse(target, read_only=read_only)
