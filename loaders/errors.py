"""The one error that a user of ``cdw`` is shown."""

from typing import ClassVar


class CdwError(Exception):
    """Something the user can mend: what happened, where, and what to do about it.

    No argument may carry a value from a record or a database driver's text: only file names,
    coordinates, hashes and counts.
    """

    def __init__(self, what: str, *, where: str, do: str) -> None:
        """Keep the three parts; ``str()`` joins them as they are printed."""
        super().__init__(f"{what}\n  where: {where}\n  to do: {do}")
        self.what = what
        self.where = where
        self.do = do


class AwayError(CdwError):
    """A part that is down, full, locked or read-only for now: the same may work later, nothing is wrong
    with the records.
    """

    part: ClassVar[str] = "warehouse"
    """Which part, for metrics."""


class DataError(CdwError):
    """A record that the warehouse refuses; ``reason`` is the code it is rejected with, if it stands alone."""

    def __init__(self, what: str, *, where: str, do: str, reason: str) -> None:
        """Keep the code beside the three parts."""
        super().__init__(what, where=where, do=do)
        self.reason = reason


class FencedError(CdwError):
    """Another loader moved a position first: what this one holds has been loaded, or will be, by that one."""
