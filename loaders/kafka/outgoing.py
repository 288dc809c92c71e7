"""What a record of a topic is, before it is anywhere."""

from typing import NamedTuple


class Outgoing(NamedTuple):
    """One record to be published; a value of None is a tombstone."""

    topic: str
    key: str
    value: bytes | None
