"""A ledger of all that Kafka acknowledged, and whether a warehouse holds exactly that.

What it finds amiss is told by coordinates and counts, never by a value.
"""

import json
import random
from base64 import b64decode, b64encode
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.conftest import Warehouse
from tests.parts.kafka import Cluster
from tests.parts.process import SECONDS, wait_until

TELEMETRY = "device.telemetry"
ORIGINALS = "hl7.originals"
TABLES = {
    TELEMETRY: ("raw.device_telemetry", "payload"),
    ORIGINALS: ("raw_restricted.hl7_originals", "bytes"),
}
REJECTS = ("raw_restricted.rejected_records", "bytes")

CANARY = "kanarienvogel"
"""Stands in every value, key and header: it must be in no log."""

# As it is, in hex, and in base64 at each of its three alignments.
_CANARIES = [
    CANARY,
    CANARY.encode().hex(),
    *(b64encode(b" " * shift + CANARY.encode()).decode()[4:16] for shift in range(3)),
]

# batch_id, first and next offset, rows, rejects, explained, sha256, previous sha256, kind
_Batch = tuple[int, int, int, int, int, int, str, str | None, str]


class Place(NamedTuple):
    """A partition of a topic, as long as that topic lives."""

    topic: str
    topic_id: str
    partition: int


class Fault(NamedTuple):
    """What is amiss, and where."""

    kind: str
    place: Place
    offset: int


@dataclass(frozen=True, slots=True)
class _Stored:
    """A record as a warehouse has it."""

    digest: str
    value: bytes | None
    batch_id: int


def _digest(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, str | bytes | None]]) -> str:
    texts = [key, value, *(part for header in headers for part in header)]
    parts = [text.encode() if isinstance(text, str) else text for text in texts]
    lengths = b",".join(b"-" if part is None else b"%d" % len(part) for part in parts)
    return sha256(lengths + b"".join(part or b"" for part in parts)).hexdigest()


def leaks(words: str) -> bool:
    """Whether a word of a record stands in what a process has said."""
    return any(canary in words for canary in _CANARIES)


class Ledger:
    """What was produced: each record that Kafka acknowledged, and what else took an offset."""

    def __init__(self) -> None:
        self.records: dict[Place, dict[int, str]] = defaultdict(dict)
        """Offset -> digest of key, value and headers."""
        self.aborted: dict[Place, set[int]] = defaultdict(set)
        """Offsets of records in transactions that were aborted."""
        self.markers: Counter[Place] = Counter()
        """How many offsets a commit or an abort took: one a transaction and partition."""
        self.dropped: dict[Place, int] = {}
        """What stands before this offset is gone from Kafka, by deed of a test."""

    @property
    def record_count(self) -> int:
        return sum(map(len, self.records.values()))

    def faults(self, warehouse: Warehouse, *, is_complete: bool = True) -> list[Fault]:
        """What is amiss in a warehouse that has loaded all, or (``not is_complete``) some of it."""
        found: list[Fault] = []
        stored = _stored(warehouse, found)
        books = _books(warehouse)
        for place in {*self.records, *stored, *books}:
            found += self._record_faults(place, stored.get(place, {}), books.get(place, []), is_complete)
            found += _book_faults(place, stored.get(place, {}), books.get(place, []))
            found += self._gap_faults(place, books.get(place, []), is_complete)
        positions = _positions(warehouse)
        for place, batches in books.items():
            if positions.get(place) != batches[-1][2]:
                found.append(Fault("position is not where the last batch ends", place, batches[-1][2]))
        return sorted(found)

    def _record_faults(
        self, place: Place, stored: Mapping[int, _Stored], batches: list[_Batch], is_complete: bool
    ) -> Iterator[Fault]:
        records = self.records[place]
        end = batches[-1][2] if batches else 0
        for offset, digest in records.items():
            if offset in stored:
                if stored[offset].digest != digest:
                    yield Fault("changed", place, offset)
            elif (is_complete or offset < end) and offset >= self.dropped.get(place, 0):
                yield Fault("lost", place, offset)
        for offset in stored.keys() - records.keys():
            yield Fault("aborted, but loaded" if offset in self.aborted[place] else "invented", place, offset)

    def _gap_faults(self, place: Place, batches: list[_Batch], is_complete: bool) -> Iterator[Fault]:
        """Offsets that batches explain: each was aborted, dropped, or is one of the markers."""
        explained = [
            offset
            for _, first, after, *_ in batches
            for offset in range(max(first, self.dropped.get(place, 0)), after)
            if offset not in self.records[place] and offset not in self.aborted[place]
        ]
        expected = self.markers[place]
        if len(explained) > expected or (is_complete and len(explained) < expected):
            yield Fault(f"{len(explained)} offsets explained as {expected} markers", place, -1)


def _stored(warehouse: Warehouse, found: list[Fault]) -> dict[Place, dict[int, _Stored]]:
    """All records of a warehouse by place and offset; repeats are noted."""
    stored: dict[Place, dict[int, _Stored]] = defaultdict(dict)
    for table, column in [*TABLES.values(), REJECTS]:
        text = "::text" if column == "payload" else ""
        key_bytes = "_key_bytes" if table == REJECTS[0] else "null"
        for topic, topic_id, partition, offset, batch_id, key, raw_key, headers, value in warehouse.rows(
            f"select _topic, _topic_id, _partition, _offset, _batch_id, _key, {key_bytes}, _headers::text, "
            f"{column}{text} from {table}"
        ):
            place = Place(topic, topic_id, partition)
            if offset in stored[place]:
                found.append(Fault("repeated", place, offset))
            data = value.encode() if isinstance(value, str) else value
            whole_key = key.encode() if key is not None else raw_key
            stored[place][offset] = _Stored(_digest(whole_key, data, _headers(headers)), data, batch_id)
    return stored


def _headers(text: str | None) -> list[tuple[str, str | bytes | None]]:
    return [
        (entry["key"], b64decode(entry["base64"]) if "base64" in entry else entry["value"])
        for entry in json.loads(text or "[]")
    ]


def _books(warehouse: Warehouse) -> dict[Place, list[_Batch]]:
    """The batches of each partition, by number."""
    books: dict[Place, list[_Batch]] = defaultdict(list)
    for topic, topic_id, partition, *batch in warehouse.rows(
        "select topic, topic_id, partition, batch_id, first_offset, next_offset, row_count, reject_count, "
        "explained_count, sha256, previous_sha256, kind from raw.load_batches order by batch_id"
    ):
        books[Place(topic, topic_id, partition)].append((*batch,))
    return books


def _positions(warehouse: Warehouse) -> dict[Place, int]:
    return {
        Place(topic, topic_id, partition): next_offset
        for topic, topic_id, partition, next_offset in warehouse.rows(
            "select topic, topic_id, partition, next_offset from raw.load_positions"
        )
    }


def _book_faults(place: Place, stored: Mapping[int, _Stored], batches: list[_Batch]) -> Iterator[Fault]:
    """Batches follow each other, are chained, and count what stands under their number, in order."""
    by_batch: dict[int, list[int]] = defaultdict(list)
    for offset in sorted(stored):
        by_batch[stored[offset].batch_id].append(offset)
    previous: _Batch | None = None
    for batch in batches:
        batch_id, first, after, rows, rejects, explained, digest, previous_digest, kind = batch
        if previous and (first, previous_digest) != (previous[2], previous[6]):
            yield Fault("batch does not follow the one before", place, first)
        previous = batch
        offsets = by_batch.pop(batch_id, [])
        if any(not first <= offset < after for offset in offsets):
            yield Fault("record outside its batch: order is lost", place, first)
        if len(offsets) != rows + rejects or rows + rejects + explained != after - first:
            yield Fault("batch counts wrong", place, first)
        values = [b"null" if (value := stored[offset].value) is None else value for offset in offsets]
        chained = sha256((previous_digest or "").encode() + b"".join(value + b"\n" for value in values))
        if kind == "load" and digest != chained.hexdigest():
            yield Fault("batch has another sha256", place, first)
    for offsets in by_batch.values():
        yield Fault("record without a batch", place, offsets[0])


class Feed:
    """Seeded records into topics of a real broker: good ones, poison, tombstones, transactions."""

    def __init__(self, kafka: Cluster, ledger: Ledger, seed: int | str) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._random = random.Random(seed)
        self._number = 0
        self._ids: dict[str, str] = {}
        self._partitions: dict[str, int] = {}
        self._settings = {
            "bootstrap.servers": kafka.bootstrap,
            "log_level": 0,
            "linger.ms": 1,
            "reconnect.backoff.max.ms": 500,
        }
        self._connect()

    def _connect(self) -> None:
        self._producer = Producer(
            {**self._settings, "enable.idempotence": True, "message.timeout.ms": 120_000}
        )
        self._transactions: Producer | None = None

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create a topic, or create it anew."""
        self._kafka.create_topic(topic, partitions)
        wait_until(lambda: self._has_id(topic), f"all brokers know topic {topic}")
        self._partitions[topic] = partitions

    def _has_id(self, topic: str) -> bool:
        try:
            self._ids[topic] = self._kafka.topic_id(topic)
        except KafkaException:  # of several brokers, one may hear of it late
            return False
        return True

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Raise the number of a topic's partitions."""
        self._kafka.add_partitions(topic, partitions)
        self._partitions[topic] = partitions
        self._connect()  # a producer that is there learns of them late

    def delete_records(self, topic: str, left: int) -> None:
        """Have Kafka drop all but the last few records of each partition, as retention does."""
        before = {partition: end - left for partition, end in self._kafka.end_offsets(topic).items()}
        self._kafka.delete_records(topic, before)
        for partition, offset in before.items():
            self._ledger.dropped[self.place(topic, partition)] = offset

    def place(self, topic: str, partition: int = 0) -> Place:
        return Place(topic, self._ids[topic], partition)

    def produce(self, count: int, topic: str | None = None) -> None:
        """Produce so many records, each to a partition that chance chooses, and wait until Kafka has them."""
        for _ in range(count):
            self._send(self._producer, self._ledger.records, topic)
        self._flush(self._producer)

    def transaction(self, count: int, *, is_aborted: bool = False) -> None:
        """Produce so many records in one transaction."""
        with self.open_transaction(count, is_aborted=is_aborted):
            pass

    @contextmanager
    def open_transaction(self, count: int, *, is_aborted: bool = False) -> Iterator[None]:
        """Produce so many records in a transaction, which ends with the ``with``."""
        if self._transactions is None:
            self._transactions = Producer({**self._settings, "transactional.id": "feed"})
            self._transactions.init_transactions(SECONDS)
        producer = self._transactions
        producer.begin_transaction()
        into: dict[Place, dict[int, str]] = defaultdict(dict)
        for _ in range(count):
            self._send(producer, into, None)
        self._flush(producer)
        yield
        (producer.abort_transaction if is_aborted else producer.commit_transaction)(SECONDS)
        for place, records in into.items():
            self._ledger.markers[place] += 1
            if is_aborted:
                self._ledger.aborted[place].update(records)
            else:
                self._ledger.records[place].update(records)

    def mixture(self, count: int) -> None:
        """About so many records, a fifth of them in transactions, of which some are aborted."""
        for _ in range(5):
            self.produce(count * 4 // 25)
            self.transaction(count // 25, is_aborted=self._random.random() < 0.4)

    def _send(self, producer: Producer, into: dict[Place, dict[int, str]], topic: str | None) -> None:
        topic = topic or self._random.choice(list(self._ids))
        place = self.place(topic, self._random.randrange(self._partitions[topic]))
        self._number += 1
        value = self._value(topic)
        key = f"{CANARY}-{self._number % 17}".encode()
        if self._random.random() < 0.02:
            key += b"\xff"  # no text in any warehouse
        headers: list[tuple[str, str | bytes | None]] = [("sender", f"{CANARY} {self._number}".encode())]
        digest = _digest(key, value, headers)

        def acknowledged(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            assert error is None, error.name()
            assert offset is not None
            into[place][offset] = digest

        producer.produce(
            topic,
            value,
            key,
            place.partition,
            headers=headers,
            on_delivery=acknowledged,
        )
        producer.poll(0)

    def _value(self, topic: str) -> bytes | None:
        number, chance = self._number, self._random.random()
        if topic == ORIGINALS:
            return f"MSH|^~\\&|{CANARY}|{number}\r".encode() + self._random.randbytes(
                self._random.randrange(40)
            )
        if chance < 0.03:
            return None
        if chance < 0.10:
            return self._random.choice(
                [
                    f'{{"device_id": "{CANARY}", "sequence": {number}'.encode(),
                    f'["{CANARY}", {number}]'.encode(),
                    f'{{"device_id": "{CANARY}\\u0000", "sequence": {number}}}'.encode(),
                    f'{{"Device_ID": "{CANARY}", "sequence": {number}}}'.encode(),
                    f'{{"a": {number}, "a": "{CANARY}"}}'.encode(),
                    f'{{"sequence": {number}, "unit": "'.encode() + b'\xe9"}',
                ]
            )
        unit, reading = "x" * self._random.randrange(200), self._random.randrange(2_000) / 100
        return (
            f'{{"device_id": "{CANARY}-{number % 7}", "metric_name": "Pressure\\t\\\\", '
            f'"metric_value": {reading},\t"sequence": {number}, "unit":\n"{unit}{CANARY}"}}'
        ).encode()

    def _flush(self, producer: Producer) -> None:
        assert producer.flush(2 * SECONDS) == 0, "Kafka has not acknowledged all"
