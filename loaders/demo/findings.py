"""What the demo found, read back from the warehouse it built."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
from rich.console import Console
from rich.table import Table

_MARTS = """
    select table_schema || '.' || table_name
    from information_schema.tables
    where table_schema in ('core', 'monitoring', 'vitals', 'operations')
    order by table_schema, table_name
"""
_DRIFT = """
    select
        device_id, patient_id, strftime(started_at, '%Y-%m-%d %H:%M'), coalesce(end_reason, 'open'),
        message
    from monitoring.fact_drift_events
    where is_alert
    order by duration_minutes desc, drift_event_id
    limit 5
"""
_REJECTS = """
    select gate, topic, reason, record_count
    from operations.rejects
    order by gate desc, topic, reason
"""


def print_findings(warehouse: Path) -> None:
    """Print rows per mart, the worst drift episodes, rejects by reason, and what to type next."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        marts = [name for (name,) in connection.execute(_MARTS).fetchall()]
        # the names come from the catalogue just read
        counts = [(name, _count(connection, name)) for name in marts]
        drift = connection.execute(_DRIFT).fetchall()
        rejects = connection.execute(_REJECTS).fetchall()
    console = Console(highlight=False)
    console.print(_table("Marts", ("mart", "rows"), counts))
    drift_columns = ("device", "patient", "from (UTC)", "ended by", "what happened")
    console.print(_table("Worst drift from the prescription", drift_columns, drift))
    console.print(_table("Rejected input", ("gate", "topic", "reason", "records"), rejects))
    console.print(f"Warehouse: {warehouse}\n\nNext:", soft_wrap=True)
    for command in (
        f"export CDW_DUCKDB_PATH={warehouse}",
        ".venv/bin/cdw status",
        ".venv/bin/dbt build",
        ".venv/bin/dbt show --inline \"select * from {{ ref('fact_drift_events') }} where is_alert\"",
        "make docs",
    ):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def _count(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    row = connection.table(name).count("*").fetchone()
    assert row
    return int(row[0])


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        is_count = bool(rows) and isinstance(rows[0][number], int)
        table.add_column(column, justify="right" if is_count else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row))
    return table
