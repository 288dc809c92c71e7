"""The one error that a user of ``cdw`` is shown."""


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
