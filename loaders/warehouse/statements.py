"""What is handed to a warehouse's own tables and what may be done with them in one transaction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from loaders.warehouse.layout import Columns

Cell = str | bytes | int | datetime | None
# A column is a list of cells, or one cell that stands in every row.
Data = Mapping[str, Sequence[Cell] | Cell]


class Statements:
    """What maintenance may do in its transaction. Parameters are ``%s``; nothing of them is ever shown."""

    def __init__(
        self,
        execute: Callable[[str, Sequence[Cell]], list[tuple[Any, ...]]],
        stream: Callable[[str, Sequence[Cell]], Iterator[tuple[Any, ...]]],
        append: Callable[[str, Columns, Data], None],
    ) -> None:
        """Take the warehouse's own ways."""
        self._execute, self._stream, self._append = execute, stream, append

    def execute(self, sql: str, parameters: Sequence[Cell] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        return self._execute(sql, parameters)

    def stream(self, sql: str, parameters: Sequence[Cell] = ()) -> Iterator[tuple[Any, ...]]:
        """Run one statement and give its rows as they come; nothing else may run until they are taken."""
        return self._stream(sql, parameters)

    def append(self, table: str, columns: Columns, data: Data) -> None:
        """Append rows to a table; at least one column of ``data`` is a list."""
        self._append(table, columns, data)
