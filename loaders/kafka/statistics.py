"""librdkafka's statistics: what it says every second of the group and of the ends of partitions."""

from typing import NamedTuple

import msgspec

from loaders.kafka.cluster import Key

INTERVAL_MS = 1_000


class KnownEnd(NamedTuple):
    """The end of a partition (the offset after the last record that may be read).

    ``heard_at`` is when its broker said anything last, in seconds since the epoch. ``is_now`` tells whether
    the offset was the end then: while fetched records wait in librdkafka, it does not ask for more.
    ``withheld`` counts the offsets after it: they are behind an open transaction.
    """

    offset: int
    heard_at: float
    is_now: bool
    withheld: int = 0


class Statistics(NamedTuple):
    """What was known at a time, in seconds since the epoch."""

    at: float
    is_member: bool
    """Whether the group's coordinator can be reached and the group is not being rebalanced."""
    ends: dict[Key, KnownEnd]


class _Broker(msgspec.Struct):
    nodeid: int
    rxidle: int
    """Microseconds since its last word."""


class _Partition(msgspec.Struct):
    broker: int
    fetch_state: str
    fetchq_cnt: int
    ls_offset: int
    hi_offset: int


class _Topic(msgspec.Struct):
    topic: str
    partitions: dict[str, _Partition]


class _Group(msgspec.Struct):
    state: str
    join_state: str


class _Root(msgspec.Struct):
    time: int
    brokers: dict[str, _Broker]
    topics: dict[str, _Topic]
    cgrp: _Group | None = None


_decode = msgspec.json.Decoder(_Root).decode


def read_statistics(text: str) -> Statistics:
    """Read one report of librdkafka (its STATISTICS.md)."""
    root = _decode(text)
    # Of one that has no connection now, nothing is known: it is no broker of any partition either.
    heard = {each.nodeid: root.time - each.rxidle / 1e6 for each in root.brokers.values() if each.rxidle >= 0}
    ends = {
        Key(topic.topic, int(number)): KnownEnd(
            each.ls_offset, heard[each.broker], not each.fetchq_cnt, max(each.hi_offset - each.ls_offset, 0)
        )
        for topic in root.topics.values()
        for number, each in topic.partitions.items()
        if each.fetch_state == "active" and each.ls_offset >= 0 and each.broker in heard and each.broker >= 0
    }
    is_member = root.cgrp is not None and (root.cgrp.state, root.cgrp.join_state) == ("up", "steady")
    return Statistics(float(root.time), is_member, ends)
